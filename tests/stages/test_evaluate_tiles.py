"""evaluate: whole tiles, from a net whose answers are known."""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as oracle

from roads.dataset.label_notes import Box
from roads.dataset.tiles import Tile, read_pair, read_tiles, write_tiles
from roads.dataset.whole_tiles import find_whole_tiles
from roads.imagery.pictures import read_map
from roads.metrics.centreline import LineCounts, count_lines
from roads.metrics.counts import to_levels
from roads.metrics.graph_scores import Tracing, score_graph, trace_both
from roads.metrics.relaxed import RelaxedCounts
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.evaluate import EvaluateParams
from roads.params.handpick import HandpickParams
from roads.params.pack import PackParams
from roads.params.split import SplitParams
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import UserError
from stages.binarize import binarize
from stages.crop import crop
from stages.evaluate import Inputs, evaluate, evaluate_tiles
from stages.handpick_filter import handpick_filter
from stages.pack_h5 import pack_h5
from tests.stages.test_evaluate import make_model
from tests.tiles import picture, road_map, save_tile

pytestmark = pytest.mark.slow

PARAMS = EvaluateParams(
    batch_size=4, overlays=2, window=64, overlap=16, tta=False, spur=10, tolerance=1, join=5,
    disagreements="test", disagreement_pictures=2,
)  # fmt: skip
BINARIZE = BinarizeParams(threshold=100)
SIZES = {  # two that no grid of windows fits, one smaller than a window, one with a blank corner
    "train": [(96, 96)] * 3,
    "valid": [(110, 90), (96, 96)],
    "test": [(150, 101), (40, 70), (120, 120)],
}
CORNER = 40  # pixels of the blank corner's sides


def tile(height: int, width: int, seed: int) -> tuple[Image8, Image8]:
    """A noisy tile whose roads are brighter than the rest, more or less; drawn in grey and white.

    Pixels of 60 are no road at a threshold of 100.
    """
    map_ = road_map(height, width)
    image = picture(height, width, seed) // 2 + 20
    image[map_ > 0] += 60
    map_[:3] = 60
    return image, map_


def make_project(folder: Path, by: str = "official") -> Inputs:
    """Small tiles through the real stages up to the packs; `gone` is dropped as blank."""
    raw = folder / "raw"
    tiles: list[Tile] = []
    for split, sizes in SIZES.items():
        for number, (height, width) in enumerate(sizes):
            image, map_ = tile(height, width, len(tiles))
            if (split, number) == ("test", 2):
                image[:CORNER, :CORNER] = 255
            tiles.append(save_tile(raw, f"{split}{number}", split, image, map_))
    blank = np.full((96, 96, 3), 255, np.uint8)
    tiles.append(save_tile(raw, "gone", "test", blank, road_map(96, 96)))
    write_tiles(raw, tiles)
    (folder / "handpicks.csv").write_text("name,decision,reason\n")
    handpicked = folder / "handpicked.csv"
    handpick_filter(
        raw, folder / "handpicks.csv", handpicked, folder / "s.png", HandpickParams(max_blank=0.25)
    )
    crops, masks, packed = (folder / name for name in ("crops", "masks", "packed"))
    crop(
        raw,
        handpicked,
        crops,
        CropParams(size=32, stride=32, edge="drop", max_blank=0.25),
        split_params(by),
    )
    binarize(crops, masks, BINARIZE)
    params = PackParams(min_road=0, min_road_everywhere=False)
    pack_h5(crops, masks, handpicked, {}, packed, folder / "data.json", params)
    (folder / "models").mkdir()
    make_model(folder / "models", bias=-0.4)
    notes = folder / "notes.csv"
    notes.write_text("name,top,left,bottom,right,reason\n")
    return Inputs(folder / "models", packed, raw, handpicked, notes, crops)


def split_params(by: str) -> SplitParams:
    return SplitParams.model_validate({"by": by, "seed": 1, "valid": 0.2, "test": 0.3})


def run(inputs: Inputs, by: str = "official", **changes: Any) -> Mapping[str, Any]:
    folder = inputs.raw.parent
    params = PARAMS.model_copy(update=changes)
    metrics = folder / "metrics" / "test.json"
    evaluate(inputs, metrics, folder / "plots", params, by, BINARIZE)
    values: Mapping[str, Any] = json.loads((folder / "plots" / "scores.json").read_text())
    return values


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def values(project: Inputs) -> Mapping[str, Any]:
    return run(project)


def truth(inputs: Inputs, split: str) -> list[tuple[str, Any, Any]]:
    """Name, what `make_model` must answer, and road of every kept tile, computed by numpy."""
    found = []
    for each in read_tiles(inputs.raw):
        if each.split == split and each.name != "gone":
            image, map_ = read_pair(inputs.raw, each)
            probability = 1 / (1 + np.exp(-8 * (image.mean(axis=2) / 255 - 0.4)))
            found.append((each.name, probability, map_ == 255))
    return found


def flat(tiles: list[tuple[str, Any, Any]]) -> tuple[Any, Any]:
    probabilities = [probability.ravel() for _, probability, _ in tiles]
    return np.concatenate(probabilities), np.concatenate([road.ravel() for _, _, road in tiles])


SCORES = {
    "dice": oracle.f1_score,
    "iou": oracle.jaccard_score,
    "precision": oracle.precision_score,
    "recall": oracle.recall_score,
}


def test_groups_are_in_order(values: Mapping[str, Any]) -> None:
    groups = ["crops", "article", "tiles", "relaxed", "centreline", "graph"]
    assert list(values) == ["dice", "iou", *groups]
    assert values["tiles"]["count"] == 3
    assert values["tiles"]["dropped"] == 1


def test_few_scores_are_for_dvc_to_compare(project: Inputs) -> None:
    values = run(project)
    tiles = values["tiles"]
    assert json.loads((project.raw.parent / "metrics/test.json").read_text()) == {
        "dice": values["dice"],
        "iou": values["iou"],
        "tile_iou": tiles["iou"],
        "tile_iou_95_low": tiles["iou_95_low"],
        "tile_iou_95_high": tiles["iou_95_high"],
        "break_even": values["relaxed"]["full_tile"]["break_even"],
        "cldice": values["centreline"]["cldice"],
        "apls": values["graph"]["apls"],
    }


def test_without_road_in_the_test_tiles_scores_are_null_and_nothing_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = make_project(tmp_path)
    for each in read_tiles(inputs.raw):
        if each.split == "test":
            path = inputs.raw / each.map.path
            Image.fromarray(np.zeros_like(read_map(path))).save(path)
    values = run(inputs)
    assert "the test whole tiles have no road" in capsys.readouterr().err
    tiles = values["tiles"]
    assert {tiles[key] for key in ("iou", "dice", "recall", "iou_95_low", "iou_95_high")} == {None}
    assert tiles["mean_over_tiles"]["iou"] is None
    assert values["relaxed"]["full_tile"] == {"break_even": None, "threshold": None}
    assert values["centreline"]["cldice"] is None
    with (tmp_path / "plots" / "tiles.csv").open() as stream:
        assert {row["iou"] for row in csv.DictReader(stream)} == {""}


@pytest.mark.parametrize("score", list(SCORES))
def test_strict_scores_are_those_of_scikit_learn(
    project: Inputs, values: Mapping[str, Any], score: str
) -> None:
    tiles = truth(project, "test")
    threshold = values["tiles"]["threshold"]
    probability, road = flat(tiles)
    for got, at in ((values["tiles"], threshold), (values["tiles"]["at_half"], 0.5)):
        assert got[score] == pytest.approx(SCORES[score](road, probability >= at), abs=1e-3)
    mean = np.mean([SCORES[score](r.ravel(), p.ravel() >= threshold) for _, p, r in tiles])
    assert values["tiles"]["mean_over_tiles"][score] == pytest.approx(mean, abs=1e-3)


def test_scores_without_blank_pixels(project: Inputs, values: Mapping[str, Any]) -> None:
    tiles = truth(project, "test")
    seen = [np.ones(road.shape, np.bool_) for _, _, road in tiles]
    seen[2][:CORNER, :CORNER] = False
    kept = [(n, p[s], r[s]) for (n, p, r), s in zip(tiles, seen, strict=True)]
    probability, road = flat(kept)
    got = values["tiles"]["without_blank"]
    # The corner of the blank area is found to within a few pixels.
    blank = CORNER**2 / sum(area.size for area in seen)
    assert got["blank"] == pytest.approx(blank, abs=2e-3)
    threshold = values["tiles"]["threshold"]
    assert got["iou"] == pytest.approx(
        oracle.jaccard_score(road, probability >= threshold), abs=5e-3
    )
    assert got["precision"] > values["tiles"]["precision"] + 0.05


def test_threshold_is_best_on_the_validation_tiles(
    project: Inputs, values: Mapping[str, Any]
) -> None:
    probability, road = flat(truth(project, "valid"))
    dice = {t: oracle.f1_score(road, probability >= t / 256) for t in range(16, 256)}
    chosen = oracle.f1_score(road, probability >= values["tiles"]["threshold"])
    assert chosen == pytest.approx(max(dice.values()), abs=2e-3)


def test_intervals_hold_the_score_and_iou_follows_from_dice(values: Mapping[str, Any]) -> None:
    tiles = values["tiles"]
    for score in ("iou", "dice"):
        assert tiles[f"{score}_95_low"] <= tiles[score] <= tiles[f"{score}_95_high"]
        assert tiles[f"{score}_95_low"] < tiles[f"{score}_95_high"]
    for group in (tiles, tiles["at_half"], tiles["without_blank"]):
        assert group["iou"] == pytest.approx(group["dice"] / (2 - group["dice"]), abs=2e-6)


def test_relaxed_scores_pool_the_full_tiles(project: Inputs, values: Mapping[str, Any]) -> None:
    counts = RelaxedCounts()
    for _, probability, road in truth(project, "test"):
        counts.add(to_levels(probability.astype(np.float32)), road)
    score, _ = counts.break_even()
    relaxed = values["relaxed"]
    assert relaxed["full_tile"]["break_even"] == pytest.approx(score, abs=2e-3)
    assert set(relaxed) == {"full_tile", "centre_crop"}
    assert relaxed["centre_crop"] != relaxed["full_tile"]


def test_centrelines_are_pooled_over_the_tiles(project: Inputs, values: Mapping[str, Any]) -> None:
    threshold = values["tiles"]["threshold"]
    each = [count_lines(p >= threshold, road) for _, p, road in truth(project, "test")]
    pooled = LineCounts(*np.sum(each, axis=0))
    scores = ("cldice", "completeness", "correctness")
    assert values["centreline"] == pytest.approx(
        {score: getattr(pooled, score) for score in scores}, abs=5e-3
    )
    means = [np.mean([getattr(lines, score) for lines in each]) for score in scores]
    assert list(values["centreline"].values()) != pytest.approx(means, abs=2e-2)


def test_graphs_of_the_thresholded_tiles_are_scored(
    project: Inputs, values: Mapping[str, Any]
) -> None:
    run(project)
    with (project.raw.parent / "plots" / "tiles.csv").open() as stream:
        table = {row["tile"]: float(row["apls"]) for row in csv.DictReader(stream)}
    threshold, tracing = values["tiles"]["threshold"], Tracing(spur=10, tolerance=1, join=5)
    each = [
        score_graph(trace_both(probability >= threshold, road, tracing))
        for _, probability, road in truth(project, "test")
    ]
    graph = values["graph"]
    assert graph["apls"] == pytest.approx(np.mean([score.apls for score in each]), abs=0.02)
    assert graph["apls"] == pytest.approx(np.mean(list(table.values())), abs=1e-6)
    assert graph["apls_95_low"] < graph["apls"] < graph["apls_95_high"]
    roads = 2 * (150 - 7) + (40 - 7) + 2 * (120 - 7)  # lines of 7 pixels' roads end short of edges
    assert graph["road_km_map"] == pytest.approx(roads / 1000, rel=0.05)
    predicted = sum(score.predicted_km for score in each)
    assert graph["road_km_predicted"] == pytest.approx(predicted, rel=0.05)


def test_thresholds_are_kept_with_the_hash_of_the_weights(project: Inputs) -> None:
    values = run(project)
    weights = (project.models / "unet.weights.h5").read_bytes()
    found = json.loads((project.raw.parent / "plots/thresholds.json").read_bytes())
    assert found.pop("weights_sha256") == hashlib.sha256(weights).hexdigest()
    assert found == {key: {"threshold": values[key]["threshold"]} for key in ("crops", "tiles")}


def test_noted_pixels_are_left_out_of_a_second_score_alone(
    project: Inputs, values: Mapping[str, Any], tmp_path: Path
) -> None:
    assert "without_ignored" not in values["tiles"]
    notes = tmp_path / "notes.csv"
    notes.write_text("name,top,left,bottom,right,reason\ntest2,20,30,90,100,\nvalid0,0,0,9,9,\n")
    noted = run(dataclasses.replace(project, notes=notes), overlays=0)
    got = noted["tiles"].pop("without_ignored")
    assert noted == values
    tiles = truth(project, "test")
    counted = [np.ones(road.shape, np.bool_) for _, _, road in tiles]
    counted[2][20:90, 30:100] = False
    probability, road = flat([(n, p[c], r[c]) for (n, p, r), c in zip(tiles, counted, strict=True)])
    assert got["ignored"] == pytest.approx(70 * 70 / sum(each.size for each in counted), abs=1e-6)
    iou = oracle.jaccard_score(road, probability >= values["tiles"]["threshold"])
    assert got["iou"] == pytest.approx(iou, abs=1e-3)
    few = json.loads((project.raw.parent / "metrics/test.json").read_text())
    assert few["tile_iou_without_ignored"] == got["iou"]


def test_disagreements_are_of_the_test_tiles_or_of_all_that_were_kept(project: Inputs) -> None:
    def predict_nothing(image: Image8) -> Float32:
        return np.zeros(image.shape[:2], np.float32)

    tiles = find_whole_tiles(project.raw, project.handpicked, project.crops, "official")
    notes = {"test0": [Box(0, 0, 150, 101)]}
    found = {}
    for which in ("test", "all"):
        params = PARAMS.model_copy(update={"disagreements": which})
        _, listed = evaluate_tiles(predict_nothing, project.raw, tiles, BINARIZE, notes, params)
        assert {piece.kind for piece in listed.each} == {"not predicted"}
        found[which] = {piece.tile for piece in listed.each}
    assert found["test"] == {"test1", "test2"}
    others = {
        f"{split}{number}" for split in ("train", "valid") for number in range(len(SIZES[split]))
    }
    assert found["all"] == found["test"] | others


def test_dropped_tiles_are_named(project: Inputs, capsys: pytest.CaptureFixture[str]) -> None:
    run(project)
    told = capsys.readouterr().err
    assert "1 test tiles dropped by handpick-filter are left out: gone" in told


def test_table_and_pictures(project: Inputs) -> None:
    run(project)
    plots = project.raw.parent / "plots"
    assert sorted(str(path.relative_to(plots)) for path in plots.rglob("*.*")) == [
        "crops/test0_top64_left32.png",
        "crops/test2_top32_left32.png",
        "curves.png",
        "disagreements.csv",
        "disagreements/test0_top0_left90.png",
        "relaxed_centre_crop.csv",
        "relaxed_full_tile.csv",
        "reliability_crops.csv",
        "reliability_whole_tiles.csv",
        "scores.json",
        "strict_crops.csv",
        "strict_whole_tiles.csv",
        "thresholds.json",
        "tiles.csv",
        "tiles/tile_test0.png",
        "tiles/tile_test1.png",
        "tiles/tile_test2.png",
    ]
    with (plots / "tiles.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert {row["tile"] for row in rows} == {"test0", "test1", "test2"}
    iou = [float(row["iou"]) for row in rows]
    assert iou == sorted(iou, reverse=True)
    for name, probability, road in truth(project, "test"):
        row = next(row for row in rows if row["tile"] == name)
        expected = oracle.jaccard_score(road.ravel(), probability.ravel() >= 0.5)
        assert float(row["iou_at_half"]) == pytest.approx(expected, abs=3e-3)
        assert float(row["road"]) == pytest.approx(road.mean(), abs=1e-6)
    with Image.open(plots / "tiles" / "tile_test1.png") as drawn:
        assert drawn.width > 1000


def test_batch_size_and_turns_do_not_change_a_net_that_sees_single_pixels(
    project: Inputs, values: Mapping[str, Any]
) -> None:
    for changes in ({"batch_size": 1}, {"tta": True}, {"window": 96, "overlap": 0}):
        other = run(project, overlays=0, **changes)
        assert other["tiles"]["iou"] == pytest.approx(values["tiles"]["iou"], abs=1e-3), changes
    assert not (project.raw.parent / "plots" / "tiles").exists()


def test_tiles_drawn_for_the_test_are_those_of_the_index(tmp_path: Path) -> None:
    inputs = make_project(tmp_path, by="tile")
    values = run(inputs, by="tile")
    with (inputs.crops / "index.csv").open() as stream:
        drawn = {row["tile"] for row in csv.DictReader(stream) if row["split"] == "test"}
    with (tmp_path / "plots" / "tiles.csv").open() as stream:
        scored = {row["tile"] for row in csv.DictReader(stream)}
    assert scored == drawn
    assert scored != {"test0", "test1", "test2"}
    assert values["tiles"]["count"] == len(drawn)
    assert values["tiles"]["dropped"] == 0  # a dropped tile is not drawn for any split


def test_an_official_tile_too_small_for_a_crop_is_still_one_of_its_split(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    tiles = [save_tile(raw, name, "test", *tile(20, 20, 0)) for name in ("small", "gone")]
    write_tiles(raw, tiles)
    handpicked, crops = tmp_path / "handpicked.csv", tmp_path / "crops"
    handpicked.write_text("name,split,blank,keep,why\nsmall,test,0,yes,\ngone,test,1,no,blank\n")
    crops.mkdir()
    (crops / "index.csv").write_text("tile,split,page,top,left,blank,dropped\n")
    found = find_whole_tiles(raw, handpicked, crops, "official")
    assert ([each.name for each in found.test], found.dropped) == (["small"], ["gone"])
    found = find_whole_tiles(raw, handpicked, crops, "tile")
    assert (found.valid, found.test, found.dropped) == ([], [], [])


def test_with_a_split_by_crop_no_whole_tile_is_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    inputs = make_project(tmp_path, by="crop")
    values = run(inputs, by="crop")
    assert list(values) == ["dice", "iou", "crops", "article"]
    assert "split.by is crop" in capsys.readouterr().err
    assert not (tmp_path / "plots" / "tiles.csv").exists()


def test_a_window_that_does_not_fit_the_net_is_an_error(project: Inputs, tmp_path: Path) -> None:
    description = json.loads((project.models / "unet.json").read_text())
    assert description["unet"]["depth"] == 1  # takes any size
    make_model(tmp_path, depth=3)
    other = dataclasses.replace(project, models=tmp_path)
    with pytest.raises(UserError, match=r"evaluate\.window is 66: .* a multiple of 4"):
        evaluate(
            other,
            tmp_path / "test.json",
            tmp_path / "plots",
            PARAMS.model_copy(update={"window": 66}),
            "official",
            BINARIZE,
        )
