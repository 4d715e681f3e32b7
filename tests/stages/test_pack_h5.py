import hashlib
import json
import time
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from roads.dataset.label_notes import Box, Notes
from roads.dataset.packs import PackReader, pack_writer
from roads.dataset.stacks import read_stack, write_stack
from roads.dataset.tiles import write_tiles
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.handpick import HandpickParams
from roads.params.pack import PackParams
from roads.params.split import SplitParams
from roads.runtime.errors import UserError
from stages.binarize import binarize
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from stages.pack_h5 import pack_h5
from tests.tiles import picture, road_map, save_tile

SIZE = 64


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """Tiles of two crops each, the left one with a road and the right one without."""
    tiles = []
    for number, split in enumerate(["train", "train", "valid", "test"]):
        map_ = road_map(SIZE, 2 * SIZE, every=SIZE)
        map_[:, SIZE:] = 0
        image = picture(SIZE, 2 * SIZE, number)
        tiles.append(save_tile(tmp_path / "raw", f"tile{number}", split, image, map_))
    blank = np.full((SIZE, 2 * SIZE, 3), 255, np.uint8)
    tiles.append(save_tile(tmp_path / "raw", "blank", "train", blank, road_map(SIZE, 2 * SIZE)))
    write_tiles(tmp_path / "raw", tiles)
    (tmp_path / "picks.csv").write_text("name,decision,reason\n", encoding="utf-8")
    handpick_filter(
        tmp_path / "raw",
        tmp_path / "picks.csv",
        tmp_path / "handpicked.csv",
        tmp_path / "sheet.png",
        HandpickParams(max_blank=0.25),
    )
    crop(
        tmp_path / "raw",
        tmp_path / "handpicked.csv",
        tmp_path / "crops",
        CropParams(size=SIZE, stride=SIZE, edge="drop", max_blank=0.25),
        SplitParams(by="official", seed=0, valid=0.1, test=0.1),
    )
    binarize(tmp_path / "crops", tmp_path / "masks", BinarizeParams(threshold=100))
    return tmp_path / "crops"


def pack(crops: Path, to: str = "packed", notes: Notes | None = None, **params: Any) -> Path:
    folder = crops.parent
    pack_h5(
        crops,
        folder / "masks",
        folder / "handpicked.csv",
        notes or {},
        folder / to,
        folder / "data.json",
        PackParams.model_validate({"min_road": 0, "min_road_everywhere": False} | params),
    )
    return folder / to


def counts(packed: Path) -> tuple[int, int, int]:
    with PackReader(packed) as reader:
        return reader.rows("train"), reader.rows("valid"), reader.rows("test")


def test_rows_of_both_files_belong_together(crops: Path) -> None:
    packed = pack(crops)
    assert counts(packed) == (4, 2, 2)
    with PackReader(packed) as reader:
        images, masks = reader.read("train", [2, 0, 1])
    assert images.dtype == masks.dtype == np.uint8
    assert np.array_equal(images[0], picture(SIZE, 2 * SIZE, 1)[:, :SIZE])
    assert np.array_equal(images[1], picture(SIZE, 2 * SIZE, 0)[:, :SIZE])
    assert np.array_equal(masks[1][..., 0], road_map(SIZE, SIZE, every=SIZE) // 255)
    assert not masks[2].any()
    with h5py.File(packed / "masks.h5") as file:
        assert file["train"].shape == (4, SIZE, SIZE, 1)
    lines = (packed / "rows.csv").read_text(encoding="utf-8").splitlines()
    assert lines[:3] == [
        "split,row,tile,page,top,left",
        "train,0,tile0,0,0,0",
        "train,1,tile0,1,0,64",
    ]


def test_boxes_that_touch_a_crop_are_packed_and_others_change_no_byte(crops: Path) -> None:
    plain = pack(crops)
    elsewhere = pack(
        crops, "elsewhere", {"tile1": [Box(SIZE, 0, SIZE + 9, 9)], "blank": [Box(0, 0, 9, 9)]}
    )
    for name in ("images.h5", "masks.h5"):
        assert (elsewhere / name).read_bytes() == (plain / name).read_bytes()
    noted = pack(
        crops, "noted", {"tile1": [Box(3, SIZE - 5, 9, SIZE + 7)], "tile3": [Box(0, 0, 1, 2)]}
    )
    with PackReader(plain) as one, PackReader(noted) as other:
        assert one.ignored("train", 2) == ()
        boxes = {
            (split, row): list(other.ignored(split, row))
            for split, rows in (("train", 4), ("valid", 2), ("test", 2))
            for row in range(rows)
            if other.ignored(split, row)
        }
        assert boxes == {
            ("train", 2): [np.s_[3:9, SIZE - 5 : SIZE]],
            ("train", 3): [np.s_[3:9, 0:7]],
            ("test", 0): [np.s_[0:1, 0:2]],
        }
        for split in ("train", "test"):
            rows = range(one.rows(split))
            for got, wanted in zip(other.read(split, rows), one.read(split, rows), strict=True):
                np.testing.assert_array_equal(got, wanted)


def test_a_tile_of_many_crops_is_packed_in_blocks(
    crops: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pack(crops)
    monkeypatch.setattr("stages.pack_h5.CROPS_AT_ONCE", 1)
    blocks = pack(crops, "blocks")
    for name in ("images.h5", "masks.h5", "rows.csv"):
        assert (blocks / name).read_bytes() == (whole / name).read_bytes()
    stack = crops / "sat/tile1.tif"
    write_stack(stack, list(read_stack(stack))[:1])  # the second page is missing
    with pytest.raises(UserError, match=r"tile1\.tif does not have the pages"):
        pack(crops, "short")


@pytest.mark.slow
def test_packing_twice_gives_the_same_bytes(crops: Path) -> None:
    def digests(folder: Path) -> list[str]:
        return [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(folder.iterdir())]

    first = digests(pack(crops, "first"))
    time.sleep(1.1)  # HDF5 can note times, in seconds
    assert digests(pack(crops, "second")) == first


def test_crops_with_little_road_are_dropped_from_training_only(crops: Path) -> None:
    assert counts(pack(crops, min_road=0.01)) == (2, 2, 2)
    assert counts(pack(crops, min_road=0.01, min_road_everywhere=True)) == (2, 1, 1)
    with pytest.raises(UserError, match=r"pack\.min_road=0\.9 leaves no train crops"):
        pack(crops, min_road=0.9)


def test_the_counts_include_dropped_crops(crops: Path) -> None:
    packed = pack(crops, min_road=0.01)
    assert json.loads((crops.parent / "data.json").read_text(encoding="utf-8")) == {
        "train_crops": 2, "valid_crops": 2, "test_crops": 2,
    }  # fmt: skip
    told = json.loads((packed / "counts.json").read_text(encoding="utf-8"))
    assert told["tiles"]["found"] == 5
    assert told["tiles"]["kept"] == 4
    assert told["tiles"]["dropped_blank"] == 1
    assert told["crops"] == {
        "cut": 8, "dropped_blank": 0, "dropped_little_road": 2, "packed": 6,
    }  # fmt: skip
    assert told["train"] == {"tiles": 2, "crops": 2, "grey": 0, "road": round(7 / 64, 6)}
    assert told["test"]["road"] == round(7 / 128, 6)


def test_a_pack_that_is_broken_is_named(crops: Path, tmp_path: Path) -> None:
    packed = pack(crops)
    images = packed / "images.h5"
    whole = images.read_bytes()
    images.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"images\.h5 is broken: .*truncated"):
        PackReader(packed)
    images.unlink()
    with pytest.raises(UserError, match=r"images\.h5 is missing"):
        PackReader(packed)
    images.write_bytes((packed / "masks.h5").read_bytes())
    with pytest.raises(UserError, match="has no dataset `train` of uint8 crops"):
        PackReader(packed)


def test_an_incomplete_pack_never_gets_its_name(tmp_path: Path) -> None:
    rows = {"train": 2, "valid": 1, "test": 1}
    with pytest.raises(AssertionError, match="train: 0 of 2"), pack_writer(tmp_path, rows, 8):
        pass
    assert list(tmp_path.iterdir()) == []
