from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roads.dataset.crops import Crop, read_crops
from roads.dataset.splits import split_crops
from roads.dataset.stacks import read_stack
from roads.dataset.tiles import read_tiles, write_tiles
from roads.params.crop import CropParams
from roads.params.split import SplitParams
from roads.runtime.errors import UserError
from stages.crop import crop
from tests.tiles import picture, road_map, save_tile, save_tiles

OFFICIAL = SplitParams(by="official", seed=0, valid=0.2, test=0.2)


def crop_params(**changes: object) -> CropParams:
    defaults = {"size": 64, "stride": 64, "edge": "drop", "max_blank": 0.25}
    return CropParams.model_validate(defaults | changes)


def keep_all(raw: Path) -> Path:
    path = raw.parent / "handpicked.csv"
    lines = [f"{tile.name},{tile.split},0,yes," for tile in read_tiles(raw)]
    path.write_text("name,split,blank,keep,why\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return path


def cut_up(raw: Path, params: CropParams, split: SplitParams = OFFICIAL) -> list[Crop]:
    crop(raw, keep_all(raw), raw.parent / "crops", params, split)
    return read_crops(raw.parent / "crops" / "index.csv")


@pytest.mark.slow
def test_crops_are_literal_cuts(tmp_path: Path) -> None:
    save_tiles(tmp_path / "raw", size=150)
    crops = cut_up(tmp_path / "raw", crop_params(edge="shift"))
    images = {t.name: picture(150, 150, n) for n, t in enumerate(read_tiles(tmp_path / "raw"))}
    assert len(crops) == 5 * 9
    for name, image in images.items():
        pages = list(read_stack(tmp_path / "crops" / "sat" / f"{name}.tif"))
        maps = list(read_stack(tmp_path / "crops" / "map" / f"{name}.tif"))
        members = [c for c in crops if c.tile == name]
        for c in members:
            rows, columns = slice(c.top, c.top + 64), slice(c.left, c.left + 64)
            assert np.array_equal(pages[c.page], image[rows, columns])
            assert np.array_equal(maps[c.page], road_map(150, 150)[rows, columns])
        assert len(pages) == len(maps) == len(members)


def test_blank_crops_are_dropped_and_pages_stay_in_step(tmp_path: Path) -> None:
    image = picture(128, 128)
    image[:64, :64] = 255
    save_tiles(tmp_path / "raw")
    tile = save_tile(tmp_path / "raw", "half", "train", image, road_map(128, 128))
    write_tiles(tmp_path / "raw", [*read_tiles(tmp_path / "raw"), tile])
    crops = [c for c in cut_up(tmp_path / "raw", crop_params()) if c.tile == "half"]
    assert [c.dropped for c in crops] == ["blank", "", "", ""]
    assert [c.page for c in crops] == [-1, 0, 1, 2]
    assert [c.blank for c in crops] == [pytest.approx(1, abs=0.05), 0, 0, 0]
    assert len(list(read_stack(tmp_path / "crops" / "sat" / "half.tif"))) == 3


@pytest.mark.parametrize("nodata", ["0", "7"])
def test_crops_masked_out_by_the_file_are_dropped(tmp_path: Path, nodata: str) -> None:
    image = picture(128, 128)
    image[:64] = 0  # a black collar, or nodata
    image[64:, 64:] = int(nodata)
    save_tiles(tmp_path / "raw")
    path = tmp_path / "raw" / read_tiles(tmp_path / "raw")[0].image.path
    Image.fromarray(image).save(path, tiffinfo={42113: nodata})
    crops = [c for c in cut_up(tmp_path / "raw", crop_params()) if c.tile == path.stem]
    assert [bool(c.dropped) for c in crops] == [True, True, False, True]
    (kept,) = read_stack(tmp_path / "crops" / "sat" / f"{path.stem}.tif")
    assert np.array_equal(kept, image[64:, :64])


def test_tiles_of_any_shape_and_too_small_ones(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_tiles(tmp_path / "raw")
    wide = save_tile(tmp_path / "raw", "wide", "train", picture(70, 200), road_map(70, 200))
    tiny = save_tile(tmp_path / "raw", "tiny", "train", picture(30, 30), road_map(30, 30))
    write_tiles(tmp_path / "raw", [*read_tiles(tmp_path / "raw"), wide, tiny])
    counts = Counter(c.tile for c in cut_up(tmp_path / "raw", crop_params()))
    assert (counts["wide"], counts["tiny"]) == (3, 0)
    assert "smaller than 64 pixels" in capsys.readouterr().err
    assert Counter(c.tile for c in cut_up(tmp_path / "raw", crop_params(edge="pad")))["tiny"] == 1


def test_any_number_of_processes_gives_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_tiles(tmp_path / "raw", train=5)
    results = []
    for workers in ("1", "2"):
        monkeypatch.setenv("ROADS_WORKERS", workers)
        cut_up(tmp_path / "raw", crop_params())
        files = sorted(path for path in (tmp_path / "crops").rglob("*") if path.is_file())
        results.append([(path, path.read_bytes()) for path in files])
    assert results[0] == results[1]


def test_no_split_is_silently_empty(tmp_path: Path) -> None:
    save_tiles(tmp_path / "raw", valid=0)
    with pytest.raises(UserError, match=r"no crops are left for valid .*split\.by=tile"):
        cut_up(tmp_path / "raw", crop_params())
    assert not (tmp_path / "crops").exists()


def many_crops(tiles: int) -> list[Crop]:
    return [
        Crop(f"tile{tile:02}", "train", page, 0, 64 * page, 0.0, "blank" if page == 9 else "")
        for tile in range(tiles)
        for page in range(10)
    ]


def test_a_split_by_tile_shares_no_tile() -> None:
    params = SplitParams(by="tile", seed=3, valid=0.1, test=0.2)
    crops = split_crops(many_crops(20), params)
    tiles = {
        name: {c.tile for c in crops if c.split == name} for name in ("train", "valid", "test")
    }
    assert [len(tiles[name]) for name in ("train", "valid", "test")] == [14, 2, 4]
    assert not tiles["train"] & tiles["valid"] | tiles["train"] & tiles["test"]
    assert crops == split_crops(many_crops(20), params)
    assert crops != split_crops(many_crops(20), params.model_copy(update={"seed": 4}))


def test_a_split_by_crop_divides_the_kept_crops() -> None:
    crops = split_crops(many_crops(20), SplitParams(by="crop", seed=3, valid=0.1, test=0.2))
    assert Counter(c.split for c in crops if c.kept) == {"train": 126, "valid": 18, "test": 36}
    assert {c.split for c in crops if not c.kept} == {""}


def test_too_few_tiles_to_split() -> None:
    with pytest.raises(UserError, match="has only 2 to draw from"):
        split_crops(many_crops(2), SplitParams(by="tile", seed=0, valid=0.1, test=0.1))
