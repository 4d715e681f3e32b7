"""Pictures of every kind as 8-bit RGB, and files that are none."""

import itertools
import shlex
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import ColorInterp

from roads.imagery.pictures import read_image
from roads.mapping import opening, rasters
from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import FileRaster, open_raster
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError
from tests.pictures import UTM, VRT, noise, place_of, write_tiff

IMAGE = noise(40, 50)
NAMES = ("a.tif", "a.png", "a.jpg", "a.jp2", "a.bmp", "a.webp")


def read(path: Path) -> tuple[Image8, Bool, FileRaster]:
    """All of a picture, read in three parts."""
    with open_raster(path) as raster:
        cuts = [0, 7, 8, raster.height]
        parts = [raster.read_rows(*cut) for cut in itertools.pairwise(cuts)]
    images, missing = zip(*parts, strict=True)
    return np.concatenate(images), np.concatenate(missing), raster


@pytest.mark.parametrize(
    "name", ["a.png", "a.tif", "a.tiff", "a.jp2", "a.j2k", "a.bmp", "a.unknown"]
)
def test_rgb_is_read_as_it_is(tmp_path: Path, name: str) -> None:
    Image.fromarray(IMAGE).save(tmp_path / name, format=None if "unk" not in name else "PNG")
    image, missing, raster = read(tmp_path / name)
    np.testing.assert_array_equal(image, IMAGE)
    assert not missing.any()
    assert raster.notes == []
    assert raster.metres is None
    assert raster.to_lonlat is None


GREY_NOTE = "is grey: the net was trained on colour and misses roads in grey"
COLOURFUL = np.random.default_rng(1).integers(0, 256, (40, 50, 3), np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_jpeg_is_read_as_the_stages_read_it(
    tmp_path: Path, mode: str, subsampling: str, progressive: bool
) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(COLOURFUL).convert(mode).save(
        path, progressive=progressive, subsampling=subsampling
    )
    image, _, raster = read(path)
    np.testing.assert_array_equal(image, read_image(path))
    assert raster.notes == ([GREY_NOTE] if mode == "L" else [])


@pytest.mark.parametrize("how", [{"quality": 80}, {"lossless": True}])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_is_read_as_the_stages_read_it(tmp_path: Path, mode: str, how: dict[str, Any]) -> None:
    picture = Image.fromarray(COLOURFUL).convert(mode)
    if mode == "RGBA":
        picture.putalpha(Image.fromarray((COLOURFUL[..., 0] < 99).astype(np.uint8) * 255))
    picture.save(tmp_path / "a.webp", **how)
    image, missing, _ = read(tmp_path / "a.webp")
    np.testing.assert_array_equal(image, read_image(tmp_path / "a.webp"))
    assert missing.any() == (mode == "RGBA")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1"])
def test_bmp_is_read_as_the_stages_read_it(tmp_path: Path, mode: str) -> None:
    Image.fromarray(COLOURFUL).convert(mode).save(tmp_path / "a.bmp")
    image, _, raster = read(tmp_path / "a.bmp")
    np.testing.assert_array_equal(image, read_image(tmp_path / "a.bmp"))
    assert raster.notes == ([GREY_NOTE] if mode in "L1" else [])


@pytest.mark.parametrize("how", [{}, {"tile_size": (16, 16)}, {"irreversible": True}])
def test_jpeg_2000_is_read(tmp_path: Path, how: dict[str, Any]) -> None:
    Image.fromarray(COLOURFUL).save(tmp_path / "a.jp2", **how)
    image, _, _ = read(tmp_path / "a.jp2")
    with Image.open(tmp_path / "a.jp2") as picture:
        np.testing.assert_allclose(image.astype(int), np.asarray(picture), atol=1)


@pytest.mark.parametrize("how", [{"tiled": True, "blockxsize": 16, "blockysize": 16}, {}])
def test_a_tiff_of_jpegs_is_read_as_the_stages_read_it(tmp_path: Path, how: dict[str, Any]) -> None:
    jpeg = {"compress": "jpeg", "photometric": "YCbCr", "interleave": "pixel"}
    path = write_tiff(tmp_path / "a.tif", COLOURFUL, metres=1, **jpeg, **how)
    image, _, raster = read(path)
    np.testing.assert_array_equal(image, read_image(path))
    assert raster.transform == place_of(1)


def test_a_jpeg_too_large_for_memory_is_read_in_parts_with_a_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.fromarray(IMAGE).save(tmp_path / "a.jpg", subsampling="4:4:4")
    monkeypatch.setattr(rasters, "WHOLE_JPEG", 40 * 50)
    image, _, raster = read(tmp_path / "a.jpg")
    assert raster.notes == []
    monkeypatch.setattr(rasters, "WHOLE_JPEG", 40 * 50 - 1)
    by_parts, _, raster = read(tmp_path / "a.jpg")
    np.testing.assert_allclose(by_parts.astype(int), image, atol=2)
    assert "decoded by GDAL" in raster.notes[0]


@pytest.mark.parametrize(
    ("mode", "suffix"), [("L", "png"), ("P", "png"), ("P", "tif"), ("1", "png")]
)
def test_grey_and_palette_become_rgb(tmp_path: Path, mode: str, suffix: str) -> None:
    picture = Image.fromarray(IMAGE * 4).convert(mode)
    picture.save(tmp_path / f"a.{suffix}")
    image, missing, raster = read(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(image, np.asarray(picture.convert("RGB")))
    assert not missing.any()
    assert raster.notes == ([] if mode == "P" else [GREY_NOTE])


def test_a_fourth_band_without_alpha_is_ignored_with_a_note(tmp_path: Path) -> None:
    infrared = noise(40, 50, 4)
    path = write_tiff(tmp_path / "a.tif", infrared, photometric="RGB", alpha="unspecified")
    image, missing, raster = read(path)
    np.testing.assert_array_equal(image, infrared[..., :3])
    assert not missing.any()
    assert len(raster.notes) == 1
    assert "4 bands: 1, 2, 3" in raster.notes[0]


def test_bands_are_found_by_their_colour_tags(tmp_path: Path) -> None:
    bands = noise(40, 50, 6)
    path = write_tiff(tmp_path / "a.tif", bands)
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        unknown, (red, green, blue) = ColorInterp.undefined, list(ColorInterp)[3:6]
        dataset.colorinterp = [unknown, blue, green, red, unknown, unknown]
    image, _, raster = read(path)
    np.testing.assert_array_equal(image, bands[..., [3, 2, 1]])
    assert raster.notes == ["has 6 bands: 4, 3, 2 are used as red, green and blue, 1, 5, 6 ignored"]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (("blue", "green", "red"), (3, 2, 1)),
        (("Blue", "GREEN", "red ", "NIR"), (3, 2, 1)),
        (("B", "G", "R", "N"), (3, 2, 1)),
        (("nir", "r", "g", "b"), (2, 3, 4)),
        (("coastal", "blue", "green", "yellow", "red", "nir"), (5, 3, 2)),
        (("nir", None, None, None), (2, 3, 4)),
        ((None, None, None), (1, 2, 3)),
        (("red", "red", "green"), (1, 2, 3)),  # says nothing
    ],
)
def test_bands_are_found_by_their_descriptions(
    tmp_path: Path, names: tuple[str | None, ...], chosen: tuple[int, ...]
) -> None:
    bands = noise(40, 50, len(names))
    path = write_tiff(tmp_path / "a.tif", bands)
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    image, missing, raster = read(path)
    np.testing.assert_array_equal(image, bands[..., [n - 1 for n in chosen]])
    assert not missing.any()
    said = f"{len(names)} bands: {', '.join(map(str, chosen))} are used as red, green and blue"
    assert [said in note for note in raster.notes if "alpha" not in note] == (
        [] if chosen == (1, 2, 3) else [True]
    )


def test_false_colour_bands_are_refused(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(40, 50), photometric="RGB")
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.descriptions = ("NIR", "red", "green")
    with pytest.raises(UserError, match="does not say which are red, green and blue"):
        read(path)


@pytest.mark.parametrize("wanted", [[3, 2, 1], [1, 1, 4], [2]])
def test_bands_can_be_chosen(tmp_path: Path, wanted: list[int]) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(40, 50, 8))
    with open_raster(path, wanted) as raster:
        image, _ = raster.read_rows(0, 40)
    numbers = [n - 1 for n in (wanted * 3)[:3]]
    np.testing.assert_array_equal(image, noise(40, 50, 8)[..., numbers])
    assert raster.notes == ([GREY_NOTE] if len(wanted) == 1 else [])
    with pytest.raises(UserError, match="has 8 bands, but --bands names 9"):
        open_raster(path, [1, 9, 2]).__enter__()


def test_bands_of_a_jpeg_can_be_chosen(tmp_path: Path) -> None:
    Image.fromarray(COLOURFUL).save(tmp_path / "a.jpg")
    with open_raster(tmp_path / "a.jpg", [3, 2, 1]) as raster:
        image, _ = raster.read_rows(0, 40)
    np.testing.assert_array_equal(image, read_image(tmp_path / "a.jpg")[..., ::-1])
    assert image.flags.c_contiguous  # else what comes next takes several times as long


def with_alpha(path: Path, alpha: NDArray[Any], bands: int = 3, **how: Any) -> Path:
    pixels = np.dstack([noise(40, 50, bands).astype(alpha.dtype), alpha])
    photometric = "RGB" if bands == 3 else "MINISBLACK"
    return write_tiff(path, pixels, photometric=photometric, alpha="YES", **how)


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65_535), ("uint16", 255)])
@pytest.mark.parametrize("top_of_one", [False, True])
@pytest.mark.parametrize("bands", [1, 3])
def test_an_alpha_of_two_values_is_a_mask(
    tmp_path: Path, bands: int, top_of_one: bool, dtype: str, top: int
) -> None:
    empty = np.zeros((40, 50), np.bool_)
    empty[10:20] = True
    alpha = np.where(empty, 0, 1 if top_of_one else top).astype(dtype)
    _, missing, raster = read(with_alpha(tmp_path / "a.tif", alpha, bands))
    np.testing.assert_array_equal(missing, empty)
    assert not any("alpha" in note or "ignored" in note for note in raster.notes)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_infrared_tagged_as_alpha_masks_nothing(tmp_path: Path, dtype: str) -> None:
    alpha = np.random.default_rng(1).integers(0, 200, (40, 50)).astype(dtype)
    alpha[:20] = 200
    path = with_alpha(tmp_path / "a.tif", alpha)
    _, missing, raster = read(path)
    assert not missing.any()
    assert raster.notes[0] == (
        "has band 4 tagged as alpha, but its values are not only 0 and the maximum: it is not used "
        "as a mask"
    )
    assert "4 ignored" in raster.notes[1]
    with open_raster(path, [4, 1, 2]) as raster:
        assert not raster.read_rows(0, 40)[1].any()
    assert not any("alpha" in note for note in raster.notes)


@pytest.mark.parametrize("nodata", [0, None])  # None: a black collar
@pytest.mark.parametrize("bands", [1, 3])
def test_sixteen_bits_are_stretched_by_percentiles_of_the_imagery(
    tmp_path: Path, bands: int, nodata: int | None
) -> None:
    deep = np.random.default_rng(0).integers(2000, 3001, (60, 80, bands), np.uint16)
    deep[:, :20] = 0
    image, missing, raster = read(write_tiff(tmp_path / "a.tif", deep, nodata=nodata))
    assert missing[:, :20].all()
    assert missing.sum() == 60 * 20
    low, high = np.percentile(deep[:, 20:], (2, 98), axis=(0, 1))
    expected = ((deep - low) / (high - low) * 255).clip(0, 255)
    np.testing.assert_allclose(
        image[:, 20:], np.broadcast_to(expected[:, 20:], (60, 60, 3)), atol=1
    )
    assert "has uint16 values: each band's percentiles 2 to 98" in raster.notes[-1]
    assert raster.notes[:-1] == ([GREY_NOTE] if bands == 1 else [])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("value", [0, 500])
def test_a_constant_picture_is_not_an_error(tmp_path: Path, value: int, dtype: str) -> None:
    image, _, _ = read(write_tiff(tmp_path / "a.tif", np.full((40, 50, 1), value, dtype), nodata=0))
    assert len(np.unique(image)) == 1


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [("float32", 1), ("float64", 0.001), ("int16", 1000), ("int8", 100), ("uint32", 1e8)],
)
def test_floats_and_signed_numbers_are_stretched_too(
    tmp_path: Path, dtype: str, scale: float
) -> None:
    values = (np.random.default_rng(0).random((60, 80, 3)) * scale).astype(dtype)
    values += values.dtype.type(scale / 5)
    values[:, :20] = 0  # a black collar
    image, missing, raster = read(write_tiff(tmp_path / "a.tif", values))
    np.testing.assert_array_equal(missing, np.arange(80) < np.full((60, 1), 20))
    low, high = np.percentile(values[:, 20:], (2, 98), axis=(0, 1))
    expected = ((values - low) / (high - low) * 255).clip(0, 255)
    np.testing.assert_allclose(image[:, 20:], expected[:, 20:], atol=1)
    assert f"has {dtype} values" in raster.notes[0]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("nodata", [None, np.nan, -9999, float(np.finfo(np.float32).min)])
def test_nan_and_nodata_of_floats_are_missing(tmp_path: Path, nodata: float | None) -> None:
    values = np.random.default_rng(0).random((60, 80, 3), np.float32) + 1
    expected, _, _ = read(write_tiff(tmp_path / "a.tif", values[:, 10:]))
    values[:, :5] = np.nan
    values[:, 5:10] = np.inf if nodata is None else nodata
    image, missing, _ = read(write_tiff(tmp_path / "a.tif", values, nodata=nodata))
    np.testing.assert_array_equal(missing, np.arange(80) < np.full((60, 1), 10))
    np.testing.assert_array_equal(image[:, 10:], expected)
    assert (image[:, :10] == 255).all()


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    size = {"height": 40, "width": 50, "count": 3}
    with quiet_gdal(), rasterio.open(path, "w", driver="GTiff", dtype="complex_int16", **size):
        pass
    with pytest.raises(UserError, match=r"a\.tif has complex numbers"):
        read(path)


@pytest.mark.parametrize(("bands", "option"), [(2, "1"), (5, "3,2,1")])
def test_bands_of_unknown_colour_are_refused(tmp_path: Path, bands: int, option: str) -> None:
    said = f"has {bands} bands and does not say.*`--bands {option}`"
    with pytest.raises(UserError, match=said):
        read(write_tiff(tmp_path / "a.tif", noise(40, 50, bands)))


def test_a_place_is_read_from_geotiff_and_world_file(tmp_path: Path) -> None:
    _, _, raster = read(write_tiff(tmp_path / "a.tif", IMAGE, metres=0.5))
    assert raster.crs is not None
    assert raster.crs.to_string() == UTM
    assert raster.transform == place_of(0.5)
    assert raster.metres == pytest.approx((0.5, 0.5), rel=1e-3)
    Image.fromarray(IMAGE).save(tmp_path / "b.png")
    (tmp_path / "b.pgw").write_text("0.5\n0\n0\n-0.5\n300000.25\n4689999.75\n")
    _, _, raster = read(tmp_path / "b.png")
    assert raster.transform == place_of(0.5)
    assert raster.metres == (0.5, 0.5)  # if they are metres


@pytest.mark.parametrize("suffix", [".msk", ".MSK", ".ovr"])
@pytest.mark.parametrize("name", NAMES)
def test_sidecars_cannot_open_other_files(tmp_path: Path, name: str, suffix: str) -> None:
    Image.fromarray(IMAGE).save(tmp_path / name)
    expected, _, _ = read(tmp_path / name)
    other = write_tiff(tmp_path / "other.tif", np.zeros((40, 50, 1), np.uint8))
    (tmp_path / f"{name}{suffix}").write_text(VRT.format(source=other))
    with open_raster(tmp_path / name) as raster:
        assert [Path(each).name for each in raster._dataset.files] == [name]
    image, missing, raster = read(tmp_path / name)
    np.testing.assert_array_equal(image, expected)
    assert not missing.any()
    notes = (
        []
        if suffix == ".ovr"
        else [f"is mapped without {name}{suffix}, which is not a GDAL mask of its size"]
    )
    assert raster.notes == notes


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_file_by_gdal_is_read(tmp_path: Path, name: str) -> None:
    Image.fromarray(IMAGE).save(tmp_path / name)
    valid = np.ones(IMAGE.shape[:2], np.bool_)
    valid[3:20, 5:9] = False
    other = write_tiff(tmp_path / "other.tif", IMAGE)
    outside = rasterio.Env(GDAL_TIFF_INTERNAL_MASK=False)
    with quiet_gdal(), outside, rasterio.open(other, "r+") as dataset:
        dataset.write_mask(valid)
    mask = (tmp_path / "other.tif.msk").rename(tmp_path / f"{name}.msk")
    _, missing, raster = read(tmp_path / name)
    np.testing.assert_array_equal(missing, ~valid)
    assert raster.notes == []
    mask.write_bytes(mask.read_bytes()[:20])
    with pytest.raises(UserError, match=rf"{name}\.msk is broken"):
        read(tmp_path / name)
    mask.unlink()
    write_tiff(mask, np.zeros((10, 10, 1), np.uint8))
    _, missing, raster = read(tmp_path / name)
    assert not missing.any()
    assert raster.notes == [f"is mapped without {name}.msk, which is not a GDAL mask of its size"]


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_an_exif_orientation_is_not_applied_with_a_note(tmp_path: Path, name: str) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(IMAGE).save(tmp_path / name, exif=turned)
    image, _, raster = read(tmp_path / name)
    assert image.shape == IMAGE.shape
    assert raster.notes == ["is mapped as stored; its EXIF orientation 6 is not applied"]


def run_command_of(message: str, folder: Path) -> Path:
    """Run the one command that a message advises; the file that it writes."""
    before = set(folder.iterdir())
    (command,) = message.split("`")[1::2]
    python = f"{shlex.quote(sys.executable)} "
    subprocess.run(command.replace("python ", python, 1), shell=True, check=True)
    (written,) = set(folder.iterdir()) - before
    return written


def test_a_tiff_of_two_pictures_is_refused_with_a_command_that_helps(tmp_path: Path) -> None:
    path = tmp_path / "it's.tif"
    second = Image.fromarray(255 - IMAGE)
    Image.fromarray(IMAGE).save(path, save_all=True, append_images=[second])
    with pytest.raises(UserError, match="contains several pictures") as refused:
        read(path)
    np.testing.assert_array_equal(read(run_command_of(str(refused.value), tmp_path))[0], IMAGE)


def test_overviews_and_masks_in_a_tiff_do_not_count_as_pictures(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", noise(600, 600))
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.write_mask(np.ones((600, 600), np.bool_))
        dataset.build_overviews([2, 4])
    image, missing, _ = read(path)
    np.testing.assert_array_equal(image, noise(600, 600))
    assert not missing.any()


def test_a_vrt_is_refused_with_a_command_that_helps(tmp_path: Path) -> None:
    write_tiff(tmp_path / "other.tif", IMAGE)
    path = tmp_path / "a b.vrt"
    path.write_text('<?xml version="1.0"?>\n' + VRT.format(source=tmp_path / "other.tif"))
    with pytest.raises(
        UserError, match=r"is a VRT.*--mosaic, or .*with gdal_translate or"
    ) as refused:
        read(path)
    image, _, _ = read(run_command_of(str(refused.value), tmp_path))
    np.testing.assert_array_equal(image, np.repeat(IMAGE[..., :1], 3, axis=2))


def png_chunk(name: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def png_header(width: int, height: int) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = png_chunk(b"IDAT", zlib.compress(bytes(100)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def tiff_header(width: int, height: int) -> bytes:
    tags = [
        (256, width), (257, height), (258, 8), (259, 1), (262, 1), (273, 0), (277, 1),
        (278, 16), (279, 0),
    ]  # fmt: skip
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4)


def half_of(form: str) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        Image.fromarray(noise(400, 400)).save(path, form)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return write


HUGE = "claims 100,000×100,000"
NO_PICTURE = "not a TIFF, PNG, JPEG, JPEG 2000, BMP or WebP picture"
BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "text": (lambda path: path.write_text("<html>404"), NO_PICTURE),
    "empty": (lambda path: path.write_bytes(b""), NO_PICTURE),
    "folder": (Path.mkdir, "is not a file"),
    "missing": (lambda path: None, "is missing"),
    "tiff start": (lambda path: path.write_bytes(b"II*\0"), "broken"),
    "half a png": (half_of("PNG"), "broken"),
    "half a jpeg": (half_of("JPEG"), "broken"),
    "half a tiff": (half_of("TIFF"), "broken"),
    "half a bmp": (half_of("BMP"), "broken"),
    "half a webp": (half_of("WEBP"), "broken"),
    "half a jpeg 2000": (half_of("JPEG2000"), "broken"),
    "huge png": (lambda path: path.write_bytes(png_header(100_000, 100_000)), HUGE),
    "huge tiff": (lambda path: path.write_bytes(tiff_header(100_000, 100_000)), HUGE),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_files_are_named_in_one_line(
    tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    make, complaint = BROKEN[kind]
    path = tmp_path / "broken.picture"
    make(path)
    with pytest.raises(UserError, match=f"broken.picture.*{complaint}") as caught:
        read(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "name", ["/vsicurl/http://127.0.0.1/a.tif", "http://127.0.0.1/a.tif", "/vsizip/a.zip/a.tif"]
)
def test_urls_are_not_opened(name: str) -> None:
    with pytest.raises(UserError, match="no URLs"):
        read(Path(name))


def save_interlaced(path: Path) -> None:
    """A grey PNG of one pass of Adam7 after another."""
    parts = [
        b"".join(b"\0" + row.tobytes() for row in IMAGE[row::down, column::right, 0])
        for row, column, down, right in (
            (0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2),
            (1, 0, 2, 1),
        )
    ]  # fmt: skip
    header = struct.pack(">IIBBBBB", 50, 40, 8, 0, 0, 0, 1)
    pixels = zlib.compress(b"".join(parts))
    chunks = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", pixels) + png_chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunks)


def save_progressive(path: Path) -> None:
    Image.fromarray(IMAGE).save(path, "JPEG", progressive=True)


def save_webp(path: Path) -> None:
    Image.fromarray(IMAGE).save(path, "WEBP")


def save_in_one_strip(path: Path) -> None:
    write_tiff(path, IMAGE, compress="deflate", blockysize=40)


def save_in_one_strip_of_jpeg(path: Path) -> None:
    write_tiff(path, IMAGE, compress="jpeg", photometric="YCbCr", interleave="pixel", blockysize=40)


@pytest.mark.parametrize(
    "save",
    [save_interlaced, save_progressive, save_webp, save_in_one_strip, save_in_one_strip_of_jpeg],
)
def test_large_files_that_cannot_be_read_in_parts_are_refused(
    tmp_path: Path, save: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "it's"
    save(path)
    expected, _, _ = read(path)
    monkeypatch.setattr(opening, "DECODED_AT_ONCE", 1900)
    with pytest.raises(UserError, match=r"cannot be read in parts.* GB of memory") as refused:
        read(path)
    monkeypatch.undo()
    image, _, _ = read(run_command_of(str(refused.value), tmp_path))
    # The JPEGs were decoded by Pillow, as in the stages.
    atol = 30 if save in (save_progressive, save_in_one_strip_of_jpeg) else 0
    np.testing.assert_allclose(image.astype(int), expected, atol=atol)


def test_other_files_are_read_in_parts_at_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "DECODED_AT_ONCE", 5000)
    monkeypatch.setattr(rasters, "WHOLE_JPEG", 10)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # Pillow refuses more
    for name in ("a.jpg", "a.png"):
        Image.fromarray(IMAGE).save(tmp_path / name)
    write_tiff(tmp_path / "a.tif", IMAGE, blockysize=8)
    for name in ("a.jpg", "a.png", "a.tif"):
        with open_raster(tmp_path / name) as raster:
            rows: NDArray[Any] = raster.read_rows(30, 40)[0]
        assert rows.shape == (10, 50, 3)
