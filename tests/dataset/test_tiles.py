import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from roads.dataset.tiles import read_pair, read_tiles
from roads.imagery.blank import BLANK_WINDOW, WHITE, blank_fraction, blank_mask
from roads.imagery.pictures import read_image, read_image_and_map, read_map
from roads.runtime.errors import UserError
from tests.tiles import picture, road_map, save_tile, save_tiles


def as_jpeg(image: np.ndarray, quality: int = 90) -> np.ndarray:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "jpeg", quality=quality)
    return np.asarray(Image.open(stream))


def test_the_table_of_tiles_survives_a_round_trip(tmp_path: Path) -> None:
    save_tiles(tmp_path)
    tiles = read_tiles(tmp_path)
    assert [tile.name for tile in tiles] == ["train0", "train1", "train2", "valid0", "test0"]
    assert tiles[0].image.path == "train/sat/train0.tiff"
    assert tiles[0].image.bytes == (tmp_path / tiles[0].image.path).stat().st_size


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "LA", "1", "CMYK"])
def test_any_8_bit_picture_becomes_rgb_and_grey(tmp_path: Path, mode: str) -> None:
    path, grey = tmp_path / "picture.tif", road_map(40, 60)
    grey[[0, -1]] = grey[:, [0, -1]] = 255  # no black collar
    Image.fromarray(grey).convert(mode).save(path)
    assert np.array_equal(read_map(path), grey)
    assert np.array_equal(read_image(path), np.dstack([grey] * 3))


def test_a_palette_with_a_transparent_colour(tmp_path: Path) -> None:
    path = tmp_path / "palette.png"
    Image.fromarray(road_map(40, 60)).convert("P").save(path, transparency=0)
    assert np.array_equal(read_map(path), road_map(40, 60))


def save_turned(path: Path, pixels: np.ndarray, orientation: int) -> None:
    """A TIFF has 100 for nodata, and a WebP loses nothing."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    if path.suffix == ".tif":
        exif[42113] = "100"
    Image.fromarray(pixels).save(path, exif=exif, lossless=True)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_pixels_are_taken_as_stored(tmp_path: Path, suffix: str, orientation: int) -> None:
    path, pixels = tmp_path / f"turned.{suffix}", picture(40, 60)
    pixels[(pixels == 100).all(axis=2)] = 101
    save_turned(path, pixels, orientation)
    np.testing.assert_array_equal(read_image(path), pixels)
    image, map_ = read_image_and_map(path, path)
    assert image.shape[:2] == map_.shape == (40, 60)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_an_image_with_another_orientation_than_its_map_is_refused(
    tmp_path: Path, suffix: str
) -> None:
    image_path, map_path = tmp_path / f"it's.{suffix}", tmp_path / "map.png"
    upright = np.full((40, 60, 3), 100, np.uint8)
    upright[:20, :30] = 200
    save_turned(image_path, np.rot90(upright), 6)
    Image.fromarray(upright[..., 0]).save(map_path)
    with pytest.raises(UserError) as error:
        read_image_and_map(image_path, map_path)
    told = str(error.value)
    assert f"{image_path} has EXIF orientation 6 and its map {map_path} has 1" in told
    command = told.split("`")[1].replace("python", sys.executable, 1)
    subprocess.run(command, shell=True, check=True)
    image, _ = read_image_and_map(image_path, map_path)
    if suffix == "tif":
        upright[upright == 100] = 255
    np.testing.assert_allclose(image.astype(int), upright, atol=25 if suffix == "jpg" else 0)


def write_truncated(path: Path) -> None:
    Image.fromarray(picture(64, 64)).save(path, "png")
    path.write_bytes(path.read_bytes()[:4000])


def write_huge_header(path: Path) -> None:
    """A PNG of a few bytes that says it is 60,000 pixels wide and high."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT" + b"\0" * 104)


@pytest.mark.parametrize(
    ("write", "told"),
    [
        (lambda path: path.write_bytes(b""), "is not a picture"),
        (lambda path: path.write_text("<html>"), "is not a picture"),
        (write_truncated, "is broken"),
        (lambda path: Image.new("I;16", (8, 8)).save(path, "png"), "not 8 bits per channel"),
        (lambda path: Image.new("F", (8, 8)).save(path, "tiff"), "not 8 bits per channel"),
        (write_huge_header, "declares over 400,000,000 pixels"),
        (lambda path: None, "is missing"),
    ],
)
def test_a_bad_picture_is_named(tmp_path: Path, write, told: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "bad.png"
    write(path)
    with pytest.raises(UserError) as error:
        read_image(path)
    assert told in str(error.value)
    assert str(path) in str(error.value)


def test_image_and_map_must_cover_the_same_pixels(tmp_path: Path) -> None:
    tile = save_tile(tmp_path, "a", "train", picture(64, 64), road_map(64, 60))
    with pytest.raises(UserError, match="60×64 pixels, but its image"):
        read_pair(tmp_path, tile)


@pytest.mark.parametrize("jpeg", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_blank_fraction_sees_white_areas_through_jpeg(share: float, jpeg: bool) -> None:
    image = picture(300, 300)
    image[:, : round(300 * share)] = 255
    if jpeg:
        image = as_jpeg(image)
    assert blank_fraction(image) == pytest.approx(share, abs=0.015 if jpeg else 0.005)


def test_small_bright_things_are_not_blank() -> None:
    image = picture(300, 300)
    image[100:108, 50:250] = 255  # a white line
    image[200:212, 200:212] = 255  # a white roof
    assert not blank_mask(image).any()


@pytest.mark.parametrize("shape", [(90, 120), (40, 15), (7, 200), (1, 1)])
def test_blank_agrees_with_filters_of_the_window(shape: tuple[int, int]) -> None:
    draw = np.random.default_rng(sum(shape))
    image = np.where(draw.random((*shape, 1)) < 0.08, 200, 255).astype(np.uint8).repeat(3, axis=2)
    image[: shape[0] // 2, : shape[1] // 3] = picture(shape[0] // 2, shape[1] // 3)
    white = image.min(axis=2) >= WHITE
    share = ndimage.uniform_filter(white.astype(float), BLANK_WINDOW, mode="nearest")
    core = share > 0.9
    near = ndimage.maximum_filter(core, BLANK_WINDOW)
    assert np.array_equal(blank_mask(image), core | (white & near))
