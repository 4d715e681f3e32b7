"""evaluate: the numbers, the files and the words on stderr, from a net whose answers are known."""

import csv
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import pytest
from PIL import Image
from sklearn import metrics as oracle

import roads.metrics.score_pictures
from roads.dataset.packs import PackReader, pack_writer
from roads.metrics.counts import LEVELS
from roads.metrics.crop_scores import score_crops
from roads.metrics.score_pictures import spaced
from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.models.weights import Description, save_model
from roads.params.binarize import BinarizeParams
from roads.params.evaluate import EvaluateParams
from roads.params.unet import UnetParams
from roads.runtime.errors import UserError, exit_status
from roads.runtime.files import write_csv
from stages.evaluate import Inputs, evaluate, main
from tests.project import params, write_params

pytestmark = pytest.mark.slow

SIZE = 32
ROWS = {"train": 1, "valid": 5, "test": 9}
PARAMS = EvaluateParams(
    batch_size=4, overlays=3, window=SIZE, overlap=8, tta=False, spur=10, tolerance=1, join=5,
    disagreements="test", disagreement_pictures=2,
)  # fmt: skip


def make_model(folder: Path, gain: float = 1.0, bias: float = -0.5, depth: int = 1) -> None:
    """Save a U-Net; of one level, its probability is sigmoid(8·(gain·brightness + bias))."""
    params = UnetParams(
        filters=1, depth=depth, dropout=0, activation="relu", normalization="none", momentum=0.9
    )
    model = build_unet(params)
    for layer in model.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel, offset = (np.zeros_like(weight) for weight in layer.get_weights())
            middle = kernel.shape[0] // 2
            kernel[middle, middle] = 1 / kernel.shape[2]
            if layer.name == "head":
                kernel, offset = kernel * 8 * gain, offset + 8 * bias
            layer.set_weights([kernel, offset])
    description = Description(
        unet=params,
        precision="float32",
        backend="tensorflow",
        device="CPU",
        versions={},
        crop_size=SIZE,
        parameters=model.count_params(),
        training={},
    )
    save_model(model, folder / "unet.weights.h5", description)


def make_pack(folder: Path, seed: int = 0, roads: bool = True) -> Path:
    """Crops whose roads are brighter than the rest, more or less; test crops are sunnier."""
    rng = np.random.default_rng(seed)
    table = []
    with pack_writer(folder, ROWS, SIZE) as writer:
        for split, count in ROWS.items():
            masks = np.zeros((count, SIZE, SIZE), np.uint8)
            for row in range(count if roads else 0):
                masks[row, :, 4 : 5 + row] = 1
            noise = rng.integers(0, 140, (count, SIZE, SIZE, 1))
            bright = noise + 70 * masks[..., None] + 40 * (split == "test")
            images = np.repeat(bright, 3, axis=3).astype(np.uint8)
            writer.append(split, images, masks)
            table += [
                (split, row, f"tile_{row // 4}", row % 4, 256, SIZE * (row % 4))
                for row in range(count)
            ]
    write_csv(folder / "rows.csv", ("split", "row", "tile", "page", "top", "left"), table)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = tmp_path / "models"
    folder.mkdir()
    make_model(folder)
    return folder


def run(models: Path, packed: Path, params: EvaluateParams = PARAMS) -> Mapping[str, Any]:
    folder = models.parent
    evaluate(
        Inputs(
            models,
            packed,
            *(folder / name for name in ("raw", "handpicked.csv", "notes.csv", "crops")),
        ),
        folder / "metrics" / "test.json",
        folder / "plots",
        params,
        "crop",  # so no whole tile is scored, and none is needed
        BinarizeParams(threshold=100),
    )
    values: Mapping[str, Any] = json.loads((folder / "plots" / "scores.json").read_text())
    few = json.loads((folder / "metrics" / "test.json").read_text())
    assert few == {"dice": values["dice"], "iou": values["iou"]}
    return values


def true_probabilities(packed: Path, split: str) -> tuple[Any, Any]:
    """What `make_model` must answer, computed by numpy."""
    with PackReader(packed) as pack:
        images, masks = pack.read(split, range(pack.rows(split)))
    brightness = images.astype(np.float64).mean(axis=3) / 255
    return 1 / (1 + np.exp(-8 * (brightness - 0.5))), masks[..., 0] > 0


def test_scores_are_those_of_scikit_learn(models: Path, tmp_path: Path) -> None:
    packed = make_pack(tmp_path / "packed")
    values = run(models, packed)
    probabilities, road = true_probabilities(packed, "test")
    for threshold, got in (
        (values["crops"]["threshold"], values | values["crops"]),
        (0.5, values["crops"]["at_half"]),
    ):
        truth, predicted = road.ravel(), (probabilities >= threshold).ravel()
        assert got["dice"] == pytest.approx(oracle.f1_score(truth, predicted), abs=1e-3)
        assert got["iou"] == pytest.approx(oracle.jaccard_score(truth, predicted), abs=1e-3)
        assert got["precision"] == pytest.approx(oracle.precision_score(truth, predicted), abs=1e-3)
        assert got["recall"] == pytest.approx(oracle.recall_score(truth, predicted), abs=1e-3)
    assert list(values) == ["dice", "iou", "crops", "article"]
    assert values["crops"]["count"] == ROWS["test"]
    assert values["iou"] == pytest.approx(values["dice"] / (2 - values["dice"]), abs=2e-6)


def test_threshold_is_chosen_on_validation_not_on_test(models: Path, tmp_path: Path) -> None:
    packed = make_pack(tmp_path / "packed")
    threshold = run(models, packed)["crops"]["threshold"]
    best = {}
    for split in ("valid", "test"):
        probabilities, road = true_probabilities(packed, split)
        dice = {
            level / 64: oracle.f1_score(road.ravel(), (probabilities >= level / 64).ravel())
            for level in range(1, 64)
        }
        best[split] = max(dice, key=lambda key: dice[key])
    assert threshold == pytest.approx(best["valid"], abs=0.05)
    assert abs(best["test"] - best["valid"]) > 0.2


def test_article_measures_follow_its_formulas_for_any_batch_size(
    models: Path, tmp_path: Path
) -> None:
    packed = make_pack(tmp_path / "packed")
    probabilities, road = true_probabilities(packed, "test")
    both = (probabilities * road).sum()
    dice = (2 * both + 1) / (probabilities.sum() + road.sum() + 1)
    each = (probabilities * road).sum(axis=(1, 2))
    iou = (each + 1) / ((probabilities + road).sum(axis=(1, 2)) - each + 1)
    first = run(models, packed)
    assert first["article"]["soft_dice"] == pytest.approx(dice, abs=1e-5)
    assert first["article"]["soft_iou"] == pytest.approx(iou.mean(), abs=1e-5)
    other = run(models, packed, PARAMS.model_copy(update={"batch_size": 7, "overlays": 0}))
    assert other["article"] == pytest.approx(first["article"], abs=2e-6)
    assert other["dice"] == pytest.approx(first["dice"], abs=1e-5)


def test_crops_one_by_one_add_up_to_the_pooled_counts() -> None:
    rng = np.random.default_rng(0)
    batches = [
        ((rng.integers(0, 9, (n, 4, 4)) / 8).astype(np.float32), rng.random((n, 4, 4)) < 0.3)
        for n in (3, 2)
    ]
    scores = score_crops(batches, LEVELS // 4)
    assert len(scores.each) == len(scores.soft) == 5
    assert tuple(np.sum(scores.each, axis=0)) == scores.pooled.at(LEVELS // 4)


def test_a_temperature_changes_neither_the_classes_nor_the_article_s_measures(
    models: Path, tmp_path: Path
) -> None:
    packed = make_pack(tmp_path / "packed")
    raw = run(models, packed)
    described = json.loads((models / "unet.json").read_text())
    (models / "unet.json").write_text(json.dumps(described | {"temperature": 3.0}))
    calibrated = run(models, packed)
    assert calibrated["crops"]["at_half"] == raw["crops"]["at_half"]
    assert calibrated["article"] == pytest.approx(raw["article"], abs=2e-6)
    assert calibrated["crops"]["calibration_error"] != raw["crops"]["calibration_error"]


def test_curve_and_pictures_replace_earlier_ones(models: Path, tmp_path: Path) -> None:
    packed = make_pack(tmp_path / "packed")
    run(models, packed, PARAMS.model_copy(update={"overlays": 9}))
    run(models, packed)
    plots = tmp_path / "plots"
    found = sorted(str(path.relative_to(plots)) for path in plots.rglob("*.*"))
    assert found == [
        "crops/tile_0_top256_left32.png",
        "crops/tile_1_top256_left0.png",
        "crops/tile_1_top256_left96.png",
        "curves.png",
        "reliability_crops.csv",
        "scores.json",
        "strict_crops.csv",
        "thresholds.json",
    ]
    with Image.open(plots / "crops" / "tile_1_top256_left0.png") as picture:
        assert picture.width > 1000
    with (plots / "strict_crops.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert 50 < len(rows) <= 200
    recall = [float(row["recall"]) for row in rows]
    assert recall == sorted(recall, reverse=True)


def test_pictures_show_the_same_places_for_any_scores(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = make_pack(tmp_path / "packed")
    drawn: list[dict[str, str]] = []
    monkeypatch.setattr(
        roads.metrics.score_pictures,
        "draw_overlay",
        lambda path, image, road, probability, threshold, title: drawn[-1].update(
            {path.name: title}
        ),
    )
    for gain in (1, -1):
        make_model(models, gain)
        drawn.append({})
        run(models, packed, PARAMS.model_copy(update={"overlays": 9}))
    assert list(drawn[0]) == list(drawn[1])
    ranks = [
        [int(re.fullmatch(r"Tile .*: Dice .*, rank (\d) of 9 test .* road", title)[1])  # type: ignore[index]
        for title in titles.values()]
        for titles in drawn
    ]  # fmt: skip
    assert sorted(ranks[0]) == list(range(1, 10))
    assert ranks[0] != ranks[1]


def test_pictures_are_spread_evenly() -> None:
    assert spaced(range(100), 4) == [12, 37, 62, 87]
    assert spaced([3, 5, 8], 9) == [3, 5, 8]
    assert spaced([3, 5, 8], 1) == [5]
    assert spaced([3, 5, 8], 0) == spaced([], 2) == []


def test_twice_the_same(models: Path, tmp_path: Path) -> None:
    packed = make_pack(tmp_path / "packed")
    results = []
    for _ in range(2):
        run(models, packed)
        files = [tmp_path / "metrics" / "test.json", *sorted((tmp_path / "plots").rglob("*.*"))]
        results.append([path.read_bytes() for path in files])
    assert results[0] == results[1]


@pytest.mark.parametrize(("bias", "words"), [(-100, "no road at all"), (100, "road everywhere")])
def test_a_model_that_has_learned_nothing_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], bias: float, words: str
) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    make_model(folder, gain=0, bias=bias)
    values = run(folder, make_pack(tmp_path / "packed"))
    assert f"the model predicts {words}" in capsys.readouterr().err
    assert values["crops"]["threshold"] == 0.5
    assert values["crops"]["recall"] == (1 if bias > 0 else 0)


def test_a_model_that_has_learned_is_not_named(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(models, make_pack(tmp_path / "packed"))
    assert "the model predicts" not in capsys.readouterr().err


def test_no_roads_at_all(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = run(models, make_pack(tmp_path / "packed", roads=False))
    told = capsys.readouterr().err
    assert "no validation crop has a road" in told
    assert "the test crops have no road: Dice, IoU and recall are not defined (null)" in told
    assert values["crops"]["threshold"] == 0.5
    assert (values["dice"], values["iou"], values["crops"]["recall"]) == (None, None, None)
    assert len(list((tmp_path / "plots" / "crops").iterdir())) == 3


@pytest.mark.parametrize("split", ["valid", "test"])
def test_an_empty_split_is_an_error(models: Path, tmp_path: Path, split: str) -> None:
    rows = ROWS | {split: 0}
    with pack_writer(tmp_path / "packed", rows, SIZE) as writer:
        for name, count in rows.items():
            blank = np.zeros((count, SIZE, SIZE, 3), np.uint8)
            writer.append(name, blank, blank[..., 0])
    with pytest.raises(UserError, match=f"no {split} crops"):
        run(models, tmp_path / "packed")


def test_missing_files_are_named(models: Path, tmp_path: Path) -> None:
    packed = make_pack(tmp_path / "packed")
    with pytest.raises(UserError, match="nowhere"):
        run(tmp_path / "nowhere", packed)
    (packed / "rows.csv").unlink()
    with pytest.raises(UserError, match=r"rows\.csv is missing"):
        run(models, packed)
    assert not (tmp_path / "plots").exists()
    (packed / "rows.csv").write_text("split\ntest\n")
    with pytest.raises(UserError, match=r"rows\.csv is damaged"):
        run(models, packed)


def test_command_line(
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_pack(tmp_path / "data" / "packed")
    monkeypatch.chdir(tmp_path)
    command = (
        "evaluate --model models --data data/packed --raw data/raw --crops data/crops "
        "--handpicked data/handpicked.csv --notes data/label_notes.csv "
        "--metrics metrics/test.json --plots plots"
    )
    monkeypatch.setattr("sys.argv", command.split())
    values = params()
    values["split"]["by"] = "crop"
    values["evaluate"] |= {"batch_size": 0, "overlays": 1, "window": 32, "overlap": 8}
    write_params(tmp_path, values)
    assert exit_status(main) == 1
    assert "evaluate.batch_size is 0" in capsys.readouterr().err
    values["evaluate"]["batch_size"] = 4
    write_params(tmp_path, values)
    assert exit_status(main) == 0
    dice = json.loads(Path("metrics/test.json").read_text())["dice"]
    assert f"test crops: Dice {dice:.4f}" in capsys.readouterr().err


@pytest.mark.parametrize(
    "bad", [{"batch_size": 0}, {"overlays": -1}, {"overlay": 3}, {"window": 8}, {"overlap": 64}]
)
def test_bad_params_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(pydantic.ValidationError):
        EvaluateParams.model_validate(PARAMS.model_dump() | {"window": 64} | bad)
