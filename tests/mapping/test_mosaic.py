"""Pictures mapped as one: the same as one file of their pixels, and which are refused."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.merge import merge

from roads.mapping import mosaic
from roads.mapping.mosaic import open_mosaic
from roads.mapping.opening import quiet_gdal
from roads.mapping.predicting import map_roads
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError
from tests.pictures import BRIGHTNESS, UTM, crossing, noise, options, place_of, write_tiff


def at(column: float, row: float, metres: float = 1.0) -> Affine:
    """A north-up place whose corner is this far right of and below the usual one, in metres."""
    return place_of(1) @ Affine.translation(column, row) @ Affine.scale(metres)


def tiles(folder: Path, image: NDArray[Any], side: int = 70) -> list[Path]:
    """The picture cut into georeferenced tiles, which have their row and column as names."""
    folder.mkdir()
    return [
        write_tiff(
            folder / f"{row}_{column}.tif",
            image[row : row + side, column : column + side],
            crs=UTM,
            transform=at(column, row),
        )
        for row in range(0, image.shape[0], side)
        for column in range(0, image.shape[1], side)
    ]


def read(paths: list[Path], crs: str | None = None) -> tuple[Image8, Bool]:
    with open_mosaic(Path("m"), paths, None, crs) as raster:
        parts = [raster.read_rows(top, top + 1) for top in range(raster.height)]
    images, missing = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(missing)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_tiles_give_the_map_of_one_picture(tmp_path: Path, dtype: type) -> None:
    image: NDArray[Any] = crossing(160, 190, 69, 71).astype(dtype)  # the roads run along seams
    paths = tiles(tmp_path / "m", image)
    whole = write_tiff(tmp_path / "whole.tif", image, metres=1)
    out = tmp_path / "out"
    map_roads(paths, out, BRIGHTNESS, options(), force=False, mosaic=tmp_path / "m")
    map_roads([whole], out, BRIGHTNESS, options(), force=False)
    for ending in ("probability.tif", "mask.tif", "overlay.jpg", "roads.geojson"):
        files = (out / f"{name}_{ending}" for name in ("m", "whole"))
        one, other = (file.read_bytes() for file in files)
        assert one == other, ending


def test_a_changed_tile_is_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths, out = tiles(tmp_path / "m", noise(80, 80)), tmp_path / "out"
    for change, done in (("none", False), ("none", True), ("pixels", False), ("fewer", False)):
        if change == "pixels":
            write_tiff(paths[3], noise(10, 10) + 150, crs=UTM, transform=at(70, 70))
        elif change == "fewer":
            paths.pop()
        map_roads(paths, out, BRIGHTNESS, options(), force=False, mosaic=tmp_path / "m")
        assert ("already mapped" in capsys.readouterr().out) == done
    facts = json.loads((out / "m.json").read_text())
    assert [each["picture"]["name"] for each in facts["picture"]["mosaic"]] == [
        path.name for path in paths
    ]


def test_later_tiles_cover_earlier_ones_where_they_have_imagery(tmp_path: Path) -> None:
    later = np.full((20, 20, 3), 90, np.uint8)
    later[:5], later[5:8] = 0, 255  # nodata, then white
    pictures = [(np.full_like(later, 30), 0.0, 0.0), (later, 10.0, 0.0), (later, 40.09, -0.09)]
    paths = [
        write_tiff(tmp_path / f"{n}.tif", image, crs=UTM, nodata=0, transform=at(column, row))
        for n, (image, column, row) in enumerate(pictures)
    ]
    image, missing = read(paths)
    assert image.shape == (20, 60, 3)
    with quiet_gdal():
        merged, _ = merge(paths[1::-1], nodata=0)
    np.testing.assert_array_equal(image[8:, :30], np.moveaxis(merged, 0, 2)[8:])
    assert (image[:8, :20] == 30).all()
    assert missing[:, 30:40].all()
    assert missing[:5, 20:].all()
    assert not missing[5:, 40:].any()
    assert not missing[:, :20].any()


def test_only_tiles_that_cross_the_rows_are_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = tiles(tmp_path / "m", noise(100, 60), side=20)  # 5 rows of 3
    with open_mosaic(tmp_path, paths, None, None) as raster:
        assert isinstance(raster, mosaic.Mosaic)
        for top in range(0, 100, 10):
            raster.read_rows(top, top + 10)
            assert set(raster._opened) == set(paths[top // 20 * 3 :][:3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("place", "crs", "message"),
    [
        (at(50.5, 0.25), UTM, r"b b\.tif is 0\.50 pixels to the right of .* the grid of .*a\.tif"),
        (at(50, 0, 0.5), UTM, r"pixels of another size or direction than .*a\.tif"),
        (at(50, 0) @ Affine.rotation(5), UTM, r"pixels of another size or direction"),
        (at(50, 0), "EPSG:32618", r"has another coordinate system than .*a\.tif"),
    ],
)  # fmt: skip
def test_a_tile_off_the_grid_is_refused_with_a_command_that_helps(
    tmp_path: Path, place: Affine, crs: str, message: str
) -> None:
    first = write_tiff(tmp_path / "a.tif", noise(50, 50), metres=1)
    other = write_tiff(tmp_path / "b b.tif", noise(50, 50), crs=crs, transform=place)
    with pytest.raises(UserError, match=message) as refused:
        read([first, other])
    found = re.search("`(rio .*)`", str(refused.value))
    assert found
    rio = str(Path(sys.executable).with_name("rio"))
    if crs == UTM:  # the other would lie 400 km away
        subprocess.run([rio, *shlex.split(found[1])[1:]], check=True, cwd=tmp_path)
        _, missing = read([first, tmp_path / "OUT.tif"])
        assert not missing[:, :50].all()


def test_tiles_without_a_place_or_of_other_values_are_refused(tmp_path: Path) -> None:
    first = write_tiff(tmp_path / "a.tif", noise(50, 50), metres=1)
    nowhere = write_tiff(tmp_path / "b.tif", noise(50, 50))
    deep = write_tiff(tmp_path / "c.tif", noise(50, 50).astype(np.uint16), metres=1)
    with pytest.raises(UserError, match=r"b\.tif has no known place"):
        read([first, nowhere])
    with pytest.raises(UserError, match=r"c\.tif has uint16 values, but .*a\.tif has uint8"):
        read([first, deep])
    (tmp_path / "b.tfw").write_text("1 0 0 -1 300050.5 4689999.5")
    with pytest.raises(UserError, match=f"pass --crs {UTM},"):
        read([first, nowhere])
    image, _ = read([first, nowhere], crs=UTM)
    assert image.shape == (50, 100, 3)
