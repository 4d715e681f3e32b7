"""The data stages on a few real tiles, where MASSACHUSETTS_TILES names a folder of them."""

import csv
import json
import os
import shutil
from pathlib import Path

import pytest

from roads.dataset.crops import read_crops
from roads.dataset.packs import PackReader
from roads.dataset.tiles import write_tiles
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.handpick import HandpickParams
from roads.params.pack import PackParams
from roads.params.split import SplitParams
from roads.sources import folder
from stages.binarize import binarize
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from stages.pack_h5 import pack_h5

REAL = os.environ.get("MASSACHUSETTS_TILES")
TILES = {
    "train": ("10078660_15", "10228660_15", "10378660_15"),
    "valid": ("24328810_15",),
    "test": ("10228690_15",),
}

pytestmark = pytest.mark.skipif(not REAL, reason="MASSACHUSETTS_TILES names no folder")


@pytest.mark.slow
def test_real_tiles_are_cleaned_cut_and_packed(tmp_path: Path) -> None:
    real = Path(str(REAL))
    for split, names in TILES.items():
        for kind in ("sat", "map"):
            (tmp_path / "own" / split / kind).mkdir(parents=True)
            for name in names:
                (source,) = (real / split / kind).glob(f"{name}.*")
                shutil.copy(source, tmp_path / "own" / split / kind)
    raw, handpicked = tmp_path / "raw", tmp_path / "handpicked.csv"
    picks, crops, masks = tmp_path / "picks.csv", tmp_path / "crops", tmp_path / "masks"
    picks.write_text("name,decision,reason\n", encoding="utf-8")

    tiles = folder.fetch(raw, folder=tmp_path / "own")
    write_tiles(raw, tiles)
    handpick_filter(raw, picks, handpicked, tmp_path / "sheet.png", HandpickParams(max_blank=0.25))
    params = CropParams(size=256, stride=256, edge="drop", max_blank=0.25)
    crop(raw, handpicked, crops, params, SplitParams(by="official", seed=0, valid=0.1, test=0.2))
    binarize(crops, masks, BinarizeParams(threshold=100))
    packing = PackParams(min_road=0, min_road_everywhere=False)
    pack_h5(crops, masks, handpicked, {}, tmp_path / "packed", tmp_path / "data.json", packing)

    listed = {row["name"]: row for row in csv.DictReader((real / "tiles.csv").open())}
    verdicts = {row["name"]: row for row in csv.DictReader(handpicked.open())}
    for name, verdict in verdicts.items():
        white = float(listed[name]["white_fraction"])
        assert float(verdict["blank"]) == pytest.approx(white, abs=0.005)
        assert (verdict["keep"] == "yes") == (white <= 0.25)
    told = json.loads((tmp_path / "packed" / "counts.json").read_text())
    assert told["tiles"]["dropped_blank"] == 1
    with PackReader(tmp_path / "packed") as pack:
        assert pack.rows("test") == 25
        kept = [c for c in read_crops(crops / "index.csv") if c.kept and c.split == "train"]
        assert pack.rows("train") == len(kept) < 50
        assert pack.size == 256
    road = float(listed["10228690_15"]["road_fraction"])
    assert told["test"]["road"] == pytest.approx(road, abs=0.01)
