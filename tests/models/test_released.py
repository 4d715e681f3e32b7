"""Every net in models/released/: that it is and scores what its card and the tables say."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import h5py
import pytest

from benchmarks.model_card import model_card
from benchmarks.release import LARGEST, SAMPLE
from roads.dataset.tiles import Tile, write_tiles
from roads.dataset.whole_tiles import WholeTiles
from roads.metrics.tile_scores import tile_metrics
from roads.models.weights import (
    SCORES_FILE,
    WEIGHTS_FILE,
    find_weights,
    load_model,
    read_description,
)
from roads.params.binarize import BinarizeParams
from roads.params.evaluate import EvaluateParams
from roads.prediction.folding import load_folded
from roads.runtime.names import SPLITS
from roads.sources import folder, sample
from stages.evaluate import evaluate_tiles, tile_predictor
from tests.project import ROOT, params

RELEASED = ROOT / "models/released"
NAMES = sorted(path.parent.name for path in RELEASED.glob(f"*/{WEIGHTS_FILE}"))
REAL = os.environ.get("MASSACHUSETTS_TILES")
SMALLEST = "massachusetts-cpu"  # the others take a minute on real tiles

each = pytest.mark.parametrize("name", NAMES)


def test_there_are_released_nets() -> None:
    assert NAMES


def scores_of(name: str) -> dict[str, Any]:
    scores: dict[str, Any] = json.loads((RELEASED / name / SCORES_FILE).read_text())
    return scores


@each
def test_weights_are_small_complete_and_without_the_optimizer(name: str) -> None:
    weights = find_weights(name, RELEASED)
    assert weights.stat().st_size <= LARGEST
    with h5py.File(weights) as file:
        assert "layers" in file
        assert "optimizer" not in file
    net, description = load_model(weights)
    assert net.count_params() == description.parameters


@each
def test_the_card_is_that_of_the_record_and_the_scores(name: str) -> None:
    weights = find_weights(name, RELEASED)
    record = json.loads(weights.with_name("record.json").read_text(encoding="utf-8"))
    card = model_card(
        name, read_description(weights), record, scores_of(name), weights.stat().st_size
    )
    assert weights.with_name("README.md").read_text(encoding="utf-8") == card


@each
def test_the_tables_have_the_scores(name: str) -> None:
    scores, description = scores_of(name), read_description(find_weights(name, RELEASED))
    results = (ROOT / "docs/results.md").read_text(encoding="utf-8")
    (own,) = (line for line in results.splitlines() if line.startswith(f"| `{name}` |"))
    assert f"{scores['tiles']['iou']:.3f}" in own.split("|")[-2]
    if name != "massachusetts-deepglobe":  # it has no row in the other tables
        for found in (scores, scores["tta"]):
            tiles = found["tiles"]
            low, high = tiles["iou_95_low"], tiles["iou_95_high"]
            row = f"{tiles['iou']:.4f} ({low:.4f} to {high:.4f}) | {tiles['dice']:.4f} |"
            assert row in results
            assert f"| {found['relaxed']['full_tile']['break_even']:.4f} |" in results
    list_of_nets = (RELEASED / "README.md").read_text(encoding="utf-8")
    (own,) = (line for line in list_of_nets.splitlines() if line.startswith(f"| [{name}]"))
    tiles = scores["tta"]["tiles"]
    assert f"{description.parameters:,} parameters" in own or "the same net" in own
    for text in (
        f"IoU {tiles['iou']:.3f} ({tiles['iou_95_low']:.3f} to {tiles['iou_95_high']:.3f})",
        f"break-even {scores['tta']['relaxed']['full_tile']['break_even']:.3f} |",
    ):
        assert text in own
    assert f"{scores['sample']['tiles']['iou']:.3f}" in list_of_nets


def measured(name: str, raw: Path, tiles: list[Tile]) -> dict[str, Any]:
    """What the last stage would say of whole tiles."""
    net, description = load_folded(find_weights(name, RELEASED))
    evaluation = EvaluateParams(**params()["evaluate"])
    predict = tile_predictor(net, description.crop_size, evaluation)
    by_split = {split: [t for t in tiles if t.split == split] for split in SPLITS}
    whole = WholeTiles(**by_split, dropped=[])
    binarize = BinarizeParams(**params()["binarize"])
    scores, _ = evaluate_tiles(predict, raw, whole, binarize, {}, evaluation)
    return tile_metrics(scores, 0)


@pytest.mark.slow
@each
def test_scores_on_generated_tiles_are_those_of_the_card(name: str, tmp_path: Path) -> None:
    section = params()["sample"] | {key.removeprefix("sample."): v for key, v in SAMPLE.items()}
    tiles = sample.fetch(tmp_path, **section)
    told = scores_of(name)["sample"]["tiles"]
    assert told["count"] == section["test"]
    assert measured(name, tmp_path, tiles)["tiles"]["iou"] == pytest.approx(told["iou"], abs=0.01)


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="MASSACHUSETTS_TILES names no folder")
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.soak] * (n != SMALLEST)) for n in NAMES]
)
def test_scores_on_real_tiles_are_those_of_the_card(name: str, tmp_path: Path) -> None:
    for split in ("valid", "test"):
        shutil.copytree(Path(str(REAL)) / split, tmp_path / "own" / split)
    raw = tmp_path / "raw"
    tiles = folder.fetch(raw, folder=tmp_path / "own")
    write_tiles(raw, tiles)
    found, told = measured(name, raw, tiles), scores_of(name)
    assert found["tiles"]["count"] == told["tiles"]["count"]
    for score, within in (("iou", 0.005), ("calibration_error", 0.001)):
        assert found["tiles"][score] == pytest.approx(told["tiles"][score], abs=within)
    for part in ("full_tile", "centre_crop"):
        break_even = told["relaxed"][part]["break_even"]
        assert found["relaxed"][part]["break_even"] == pytest.approx(break_even, abs=0.005)
    assert found["graph"]["apls"] == pytest.approx(told["graph"]["apls"], abs=0.03)
