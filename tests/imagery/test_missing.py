"""Missing imagery is one thing: the stages and `roads predict` find the same pixels."""

import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from roads.imagery.blank import blank_fraction
from roads.imagery.missing import COLLAR, black_collar, black_ends
from roads.imagery.pictures import read_image, read_map
from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import open_raster
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError
from tests.pictures import write_tiff

HEIGHT, WIDTH = 48, 64
IMAGE = np.random.default_rng(0).integers(1, 200, (HEIGHT, WIDTH, 3), np.uint8)
HOLE = np.zeros((HEIGHT, WIDTH), np.bool_)
HOLE[16:32, 8:24] = True  # does not touch the border; whole blocks of a JPEG
EMPTY = np.where(HOLE[..., None], 0, IMAGE)  # 0 in the hole
EVEN = np.repeat(np.where(HOLE, 0, 99).astype(np.uint8)[..., None], 3, axis=2)
ALPHA = np.where(HOLE, 0, 255).astype(np.uint8)[..., None]


def tiff(image: Image8, mask: Bool | None = None, **how: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        write_tiff(path, image, **how)
        if mask is not None:
            with quiet_gdal(), rasterio.open(path, "r+") as dataset:
                dataset.write_mask(mask)

    return write


def pillow(image: Image8, mode: str | None = None, **how: Any) -> Callable[[Path], Any]:
    def write(path: Path) -> None:
        Image.fromarray(image.squeeze()).convert(mode).save(path, **({"format": "PNG"} | how))

    return write


def palette(path: Path, **how: Any) -> None:
    """Two colours, the second in the hole."""
    picture = Image.fromarray(HOLE.astype(np.uint8))
    picture.putpalette([90, 80, 70, 10, 20, 30])
    picture.save(path, **how)


def turned_with_mask(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(path, "TIFF", exif=exif)
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(~HOLE)


GREY, EMPTY_GREY = IMAGE[..., :1], EMPTY[..., :1]
JPEG: dict[str, Any] = {
    "compress": "jpeg",
    "photometric": "YCbCr",
    "interleave": "pixel",
    "blockysize": 16,
}
RGBA: dict[str, Any] = {"photometric": "RGB", "alpha": "YES"}
KINDS: dict[str, Callable[[Path], Any]] = {
    "nodata": tiff(EMPTY, nodata=0),
    "nodata of each band": pillow(EMPTY, format="TIFF", tiffinfo={42113: "0 0 0"}),
    "nodata of grey": tiff(EMPTY_GREY, nodata=0),
    "nodata of white": tiff(np.where(HOLE[..., None], 255, IMAGE), nodata=255),
    "nodata of one bit": tiff((~HOLE[..., None]).astype(np.uint8), nodata=0, nbits=1),
    "nodata of four bits": tiff(14 - EVEN[..., :1] // 9, nodata=14, nbits=4),
    "nodata of a negative": tiff(EMPTY_GREY, nodata=0, photometric="MINISWHITE"),
    "nodata of one bit, negative": tiff(
        HOLE[..., None].astype(np.uint8), nodata=1, nbits=1, photometric="MINISWHITE"
    ),
    "nodata of JPEG": tiff(EVEN, nodata=0, **JPEG),
    "nodata beside a fourth band": tiff(
        np.dstack([EMPTY, IMAGE[::-1, :, 0]]), nodata=0, photometric="RGB", alpha="UNSPECIFIED"
    ),
    "nodata of a palette": lambda path: palette(path, format="TIFF", tiffinfo={42113: "1"}),
    "a mask": tiff(IMAGE, ~HOLE),
    "a mask of tiles": tiff(
        IMAGE, ~HOLE, tiled=True, blockxsize=16, blockysize=16, compress="lzw"
    ),
    "a mask of JPEG": tiff(IMAGE, ~HOLE, **JPEG),
    "a mask of a turned TIFF": turned_with_mask,
    "RGBA": pillow(np.dstack([IMAGE, ALPHA])),
    "LA": pillow(np.dstack([IMAGE, ALPHA]), "LA"),
    "RGBA TIFF": tiff(np.dstack([IMAGE, ALPHA]), **RGBA),
    "LA TIFF": tiff(np.dstack([GREY, ALPHA]), alpha="YES"),
    "alpha and nodata": tiff(np.dstack([IMAGE, ALPHA]), nodata=0, **RGBA),
    "alpha and a mask": tiff(np.dstack([IMAGE, ALPHA]), np.ones_like(HOLE), **RGBA),
    "a transparent grey": pillow(EMPTY_GREY, transparency=0),
    "a transparent colour": pillow(EMPTY, transparency=(0, 0, 0)),
    "a transparent index": lambda path: palette(path, format="PNG", transparency=1),
    "a palette of alphas": lambda path: palette(path, format="PNG", transparency=b"\x80\x7f"),
}  # fmt: skip


def read_both(path: Path) -> tuple[Image8, Image8, Bool]:
    """As the stages see it, and as predict does, with what is missing."""
    with open_raster(path) as raster:
        return read_image(path), *raster.read_rows(0, raster.height)


@pytest.mark.parametrize("kind", KINDS)
def test_stages_and_predict_agree_on_missing_pixels(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "picture"
    KINDS[kind](path)
    staged, predicted, missing = read_both(path)
    np.testing.assert_array_equal(missing, HOLE)
    np.testing.assert_array_equal(staged, predicted)
    assert (staged[HOLE] == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_an_alpha_of_many_values_is_no_mask(tmp_path: Path, suffix: str) -> None:
    """It is infrared, as aerial images of four bands have it."""
    path = tmp_path / f"a.{suffix}"
    image = np.dstack([IMAGE, IMAGE[..., 0]])
    (pillow(image) if suffix == "png" else tiff(image, **RGBA))(path)
    staged, predicted, missing = read_both(path)
    assert not missing.any()
    np.testing.assert_array_equal(staged, IMAGE)
    np.testing.assert_array_equal(predicted, IMAGE)


def test_one_band_alone_may_be_nodata(tmp_path: Path) -> None:
    image = IMAGE.copy()
    image[HOLE, 1] = 0
    staged, predicted, missing = read_both(write_tiff(tmp_path / "a.tif", image, nodata=0))
    assert not missing.any()
    np.testing.assert_array_equal(staged, image)
    np.testing.assert_array_equal(predicted, image)


def rotated(value: int = 0) -> tuple[Image8, Bool]:
    """An orthophoto that is turned by 30° in a larger picture, and where that is empty."""
    whole = Image.new("L", (300, 200), 1).rotate(30, expand=True)
    outside = np.asarray(whole) == 0
    image = np.random.default_rng(0).integers(1, 200, (*outside.shape, 3), np.uint8)
    image[outside] = value
    return image, outside


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_the_black_around_a_rotated_orthophoto_is_missing(tmp_path: Path, mode: str) -> None:
    image, outside = rotated()
    Image.fromarray(image).convert(mode).save(tmp_path / "a.png")
    staged, predicted, missing = read_both(tmp_path / "a.png")
    assert not missing[~outside].any()
    assert (outside & ~missing).sum() < 2 * 4 * COLLAR**2  # the corners' tips
    np.testing.assert_array_equal(staged, predicted)
    assert (staged[missing] == 255).all()


@pytest.mark.parametrize("kind", ["RGB", "JPEG"])
def test_an_all_black_picture_is_all_missing(tmp_path: Path, kind: str) -> None:
    black = np.zeros((30, 10, 3), np.uint8)
    Image.fromarray(black).save(tmp_path / "a", "PNG" if kind == "RGB" else "JPEG")
    staged, predicted, missing = read_both(tmp_path / "a")
    assert missing.all()
    assert blank_fraction(staged) == blank_fraction(predicted) == 1
    assert not read_map(tmp_path / "a").any()  # of a map black is no road


@given(st.data(), st.integers(1, 60), st.sampled_from([np.uint8, np.uint16]))
def test_a_collar_is_a_run_of_black_from_an_edge(
    data: st.DataObject, width: int, kind: Any
) -> None:
    ends = [data.draw(st.integers(0, width), label=side) for side in ("left", "right")]
    row = np.full((1, width, 3), (0, 0, 1), kind)
    row[0, : ends[0]] = row[0, width - ends[1] :] = 0
    lit = np.flatnonzero(row.any(axis=2))
    runs = (lit[0], width - 1 - lit[-1]) if len(lit) else (width, width)
    left, right = (run if run >= min(COLLAR, width) else 0 for run in runs)
    expected = [column < left or column >= width - right for column in range(width)]
    assert black_ends(row)[0].tolist() == expected


@pytest.mark.parametrize("edges", ["top", "bottom", "left", "right", "top and bottom"])
def test_black_along_any_edge_is_missing(tmp_path: Path, edges: str) -> None:
    """Also where it touches one edge only; strips of predict end anywhere in it."""
    image = np.random.default_rng(0).integers(1, 200, (2000, 600, 3), np.uint8)
    black = np.zeros(image.shape[:2], np.bool_)
    column = np.arange(600)[None]
    row = np.arange(2000)[:, None]
    hill = 700 - 3 * abs(column - 300)  # touches neither the left nor the right edge
    black |= ("top" in edges) & (row < hill)
    black |= ("bottom" in edges) & (2000 - row <= hill)
    black |= ("left" in edges) & (column < 300 - abs(row - 1000))
    black |= ("right" in edges) & (600 - column <= 300 - abs(row - 1000))
    image[black] = 0
    Image.fromarray(image).save(tmp_path / "a.png")
    with open_raster(tmp_path / "a.png") as raster:
        rows = [raster.read_rows(top, min(top + 333, 2000)) for top in range(0, 2000, 333)]
    predicted, missing = map(np.concatenate, zip(*rows, strict=True))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), predicted)
    assert not missing[~black].any()
    assert (black & ~missing).sum() < 2 * 2 * 3 * COLLAR**2  # the tips


def test_black_within_a_picture_is_imagery() -> None:
    image = IMAGE.copy()
    image[1:-1, 1:-1] = 0
    image[20, : COLLAR - 1] = 0  # too short for a collar were it to end here
    image[20, COLLAR - 1] = 1
    assert not black_collar(image).any()


ROAD = np.where(HOLE, 255, 0).astype(np.uint8)  # a map; here the hole is the road


@pytest.mark.parametrize(
    ("grey", "alpha"), [(ROAD, ROAD), (ROAD * 0, ROAD * 0)], ids=["cut out", "all transparent"]
)
def test_a_map_that_is_the_same_without_its_alpha_is_read(
    tmp_path: Path, grey: Image8, alpha: Image8
) -> None:
    Image.fromarray(np.dstack([grey] * 3 + [alpha])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_map(tmp_path / "a.png"), grey)


def test_a_black_map_with_the_road_in_alpha_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([ROAD * 0] * 3 + [ROAD])).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="has transparent pixels"):
        read_map(tmp_path / "a.png")


@pytest.mark.parametrize("band", ["A", "R"])
def test_a_map_with_transparent_pixels_is_refused_with_commands_that_help(
    tmp_path: Path, band: str
) -> None:
    """White with the road in alpha, and a road on what was cut out."""
    path = tmp_path / "it's.tif"
    grey, alpha = (np.full_like(ROAD, 255), ROAD) if band == "A" else (ROAD, 255 - ROAD)
    Image.fromarray(np.dstack([grey] * 3 + [alpha])).save(path)
    with pytest.raises(UserError, match="has transparent pixels") as refused:
        read_map(path)
    commands = str(refused.value).split("`")[1::2]
    (command,) = (command for command in commands if f"'{band}'" in command)
    python = f"{shlex.quote(sys.executable)} "
    subprocess.run(command.replace("python ", python, 1), shell=True, check=True)
    saved, original = sorted(tmp_path.iterdir())
    assert original == tmp_path / "it's.tif.original"
    np.testing.assert_array_equal(read_map(saved), ROAD)


def test_an_opaque_alpha_band_of_a_map_does_not_matter(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([ROAD] * 3 + [np.full_like(ROAD, 255)])).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_map(tmp_path / "a.png"), ROAD)


def test_nodata_and_masked_pixels_are_not_road(tmp_path: Path) -> None:
    zero_or_one = np.minimum(ROAD, 1)[..., None].copy()
    zero_or_one[:4, :4] = 255
    tiff(zero_or_one, nodata=255)(tmp_path / "nodata.tif")
    expected = zero_or_one[..., 0].copy()
    expected[:4, :4] = 0
    np.testing.assert_array_equal(read_map(tmp_path / "nodata.tif"), expected)
    tiff(np.full_like(ROAD, 255)[..., None], HOLE)(tmp_path / "masked.tif")
    np.testing.assert_array_equal(read_map(tmp_path / "masked.tif"), ROAD)
