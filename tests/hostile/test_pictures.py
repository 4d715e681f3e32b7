"""Odd and broken pictures as a user's tiles: read as the documentation says, or refused by name."""

import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from roads.dataset.tiles import read_tiles
from roads.dataset.whole_tiles import read_labelled
from roads.imagery.pictures import read_image, read_map
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.handpick import HandpickParams
from roads.params.split import SplitParams
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, exit_status
from roads.sources.folder import fetch
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from tests.tiles import picture, road_map, save_tiles

HEIGHT, WIDTH = 24, 32
BOMB = 100_000  # pixels a side, in the header only
IMAGE, ROAD = picture(HEIGHT, WIDTH), road_map(HEIGHT, WIDTH, 16)
ROAD[[0, -1]] = ROAD[:, [0, -1]] = 255  # so that an image of it has no black collar
GREY = np.dstack([ROAD] * 3)
WHITE = np.full_like(IMAGE, 255)
ALPHA = np.arange(HEIGHT * WIDTH, dtype=np.uint8).reshape(HEIGHT, WIDTH)
HALF = ALPHA < 128


def encoded(pixels: Image8, mode: str | None = None, **options: Any) -> bytes:
    stream = io.BytesIO()
    options = {"format": "PNG"} | options
    Image.fromarray(pixels).convert(mode).save(stream, **options)
    return stream.getvalue()


def turned(pixels: Image8, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise to see it upright
    return encoded(np.rot90(pixels), exif=exif, **options)


def pages(*pictures: Image8, **options: Any) -> bytes:
    others = [Image.fromarray(pixels) for pixels in pictures[1:]]
    return encoded(pictures[0], save_all=True, append_images=others, **options)


def with_a_smaller_copy(pixels: Image8) -> bytes:
    """A TIFF as GDAL makes them: a second page that says that it is the first, reduced."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream) as writer:
        writer.write(pixels, photometric="rgb")
        writer.write(pixels[::2, ::2], photometric="rgb", subfiletype=1)
    return stream.getvalue()


def png_of_16_bits(colour: bool) -> bytes:
    rows = np.full((HEIGHT, WIDTH, 3 if colour else 1), 40_000, ">u2")
    header = struct.pack(">IIBBBBB", WIDTH, HEIGHT, 16, 2 if colour else 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return png((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff_of_16_bits(**options: Any) -> bytes:
    stream = io.BytesIO()
    pixels = np.full((HEIGHT, WIDTH, 3), 40_000, np.uint16)
    tifffile.imwrite(stream, pixels, photometric="rgb", **options)
    return stream.getvalue()


def bomb_png() -> bytes:
    header = struct.pack(">IIBBBBB", BOMB, BOMB, 8, 2, 0, 0, 0)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(bytes(1000))), (b"IEND", b""))


def bomb_tiff() -> bytes:
    whole = bytearray(encoded(IMAGE, format="TIFF"))
    (first,) = struct.unpack_from("<I", whole, 4)
    for entry in range(first + 2, first + 2 + 12 * 2, 12):  # ImageWidth and ImageLength
        struct.pack_into("<HI", whole, entry + 2, 4, 1)
        struct.pack_into("<I", whole, entry + 8, BOMB)
    return bytes(whole)


def bomb_jpeg() -> bytes:
    whole = encoded(IMAGE, format="JPEG")
    return whole.replace(struct.pack(">HH", HEIGHT, WIDTH), struct.pack(">HH", 50_000, 50_000))


def tiff_of(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.new(kind, (WIDTH, HEIGHT)).save(stream, "TIFF")
    return stream.getvalue()


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "no bytes": (lambda: b"", "is not a picture"),
    "a page": (lambda: b"<!doctype html><p>Log in", "is not a picture"),
    "half a PNG": (lambda: encoded(IMAGE)[:800], "is broken and cannot be decoded"),
    "half a TIFF": (lambda: encoded(IMAGE, format="TIFF")[:1500], "is broken"),
    "half a packed TIFF": (
        lambda: encoded(IMAGE, format="TIFF", compression="tiff_lzw")[:-9],
        "is not a picture",  # what it is stands at its end
    ),
    "half a JPEG": (lambda: encoded(IMAGE, format="JPEG")[:700], "is broken"),
    "half a BMP": (lambda: encoded(IMAGE, format="BMP")[:1500], "is broken"),
    "half a WebP": (lambda: encoded(IMAGE, format="WEBP")[:150], "is broken"),
    "a bomb of PNG": (bomb_png, "declares over 400,000,000 pixels"),
    "a bomb of TIFF": (bomb_tiff, "declares over 400,000,000 pixels"),
    "a bomb of JPEG": (bomb_jpeg, "declares over 400,000,000 pixels"),
    "16 bits of grey": (lambda: png_of_16_bits(colour=False), "has pixels of type I;16, not 8"),
    "16 bits of colour": (lambda: png_of_16_bits(colour=True), "has pixels of type RGB;16, not 8"),
    "a TIFF of 16 bits": (tiff_of_16_bits, "has pixels of type RGB;16, not 8"),
    "a packed TIFF of 16 bits": (
        lambda: tiff_of_16_bits(compression="zlib"),
        "has pixels of type RGB;16, not 8",
    ),
    "32 bits": (lambda: tiff_of("I"), "has pixels of type I, not 8 bits per channel"),
    "floats": (lambda: tiff_of("F"), "has pixels of type F, not 8 bits per channel"),
    "Lab": (lambda: tiff_of("LAB"), "has pixels of type LAB"),
    "two pages": (lambda: pages(IMAGE, IMAGE, format="TIFF"), "holds several pictures"),
    "a moving PNG": (lambda: pages(IMAGE, GREY, format="PNG"), "holds several pictures"),
    "a moving WebP": (lambda: pages(IMAGE, GREY, format="WEBP"), "holds several pictures"),
    "a GIF": (lambda: encoded(IMAGE, format="GIF"), "is not a picture"),
    "PostScript": (lambda: encoded(IMAGE, format="EPS"), "is not a picture"),
}
READ: dict[str, tuple[Callable[[], bytes], Image8, Image8 | None]] = {  # as image, as map
    "grey": (lambda: encoded(ROAD), GREY, ROAD),
    "one bit": (lambda: encoded(ROAD, "1", format="TIFF", compression="group4"), GREY, ROAD),
    "palette": (lambda: encoded(ROAD, "P"), GREY, ROAD),
    "a transparent colour": (lambda: encoded(ROAD, "P", transparency=0), WHITE, ROAD),
    "alpha": (
        lambda: encoded(np.dstack([GREY, HALF * np.uint8(200)])),
        np.where(HALF[..., None], GREY, 255),
        None,
    ),
    "an alpha of many values": (lambda: encoded(np.dstack([GREY, ALPHA])), GREY, None),
    "CMYK": (lambda: encoded(GREY, "CMYK", format="TIFF"), GREY, ROAD),
    "turned": (lambda: turned(GREY), np.rot90(GREY), np.rot90(ROAD)),
    "turned TIFF": (lambda: turned(GREY, format="TIFF"), np.rot90(GREY), np.rot90(ROAD)),
    "a smaller copy": (lambda: with_a_smaller_copy(GREY), GREY, ROAD),
    "previews": (lambda: pages(GREY * 0, GREY, format="MPO"), WHITE, ROAD * 0),
    "wrong extension": (lambda: encoded(GREY, format="BMP"), GREY, ROAD),
    "all white": (lambda: encoded(WHITE), WHITE, WHITE[..., 0]),
    "all black": (lambda: encoded(GREY * 0), WHITE, ROAD * 0),
}


def outcome(own: Path, raw: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Exit status and stderr of taking over a folder."""

    def main() -> None:
        fetch(raw, folder=own)

    return exit_status(main), capsys.readouterr().err


def save_pair(own: Path, image: bytes, map_: bytes) -> None:
    for folder, content in (("sat", image), ("map", map_)):
        (own / folder).mkdir(parents=True)
        (own / folder / "a.png").write_bytes(content)


@pytest.mark.parametrize("place", ["sat", "map"])
@pytest.mark.parametrize("what", REFUSED)
def test_bad_pictures_are_refused_in_one_line_with_their_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str, place: str
) -> None:
    make, told = REFUSED[what]
    bad = make()
    save_pair(tmp_path, *((bad, encoded(ROAD)) if place == "sat" else (encoded(IMAGE), bad)))
    status, line = outcome(tmp_path, tmp_path / "raw", capsys)
    assert status == 1
    assert line.startswith(f"error: {tmp_path / place / 'a.png'} {told}")
    assert line.count("\n") == 1
    assert len(line) < 500


@pytest.mark.parametrize("what", READ)
def test_odd_pictures_are_read_as_documented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    make, image, map_ = READ[what]
    save_pair(tmp_path, make(), encoded(ROAD) if map_ is None else make())
    assert outcome(tmp_path, tmp_path / "raw", capsys) == (0, "")
    np.testing.assert_array_equal(read_image(tmp_path / "raw/train/sat/a.png"), image)
    np.testing.assert_array_equal(
        read_map(tmp_path / "raw/train/map/a.png"), ROAD if map_ is None else map_
    )


def test_a_turned_photograph_needs_a_turned_map(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pair(tmp_path, turned(IMAGE, format="JPEG"), encoded(ROAD))
    status, line = outcome(tmp_path, tmp_path / "raw", capsys)
    assert status == 1
    assert "has EXIF orientation 6 and its map" in line  # not that their sizes differ
    assert line.count("\n") == 1


def test_a_pipe_a_folder_and_a_dead_link_are_no_pictures(tmp_path: Path) -> None:
    save_pair(tmp_path, encoded(IMAGE), encoded(ROAD))
    for make in (os.mkfifo, lambda path: path.symlink_to(path)):
        odd = tmp_path / "sat" / "b.png"
        make(odd)
        with pytest.raises(UserError, match=r"sat/b\.png is not a file"):
            fetch(tmp_path / "raw", folder=tmp_path)
        odd.unlink()


@pytest.mark.parametrize("name", ["a\nb", "a\x1b[2J", os.fsdecode(b"\xff\xfe"), "x" * 220])
def test_names_that_are_not_valid_file_names(tmp_path: Path, name: str) -> None:
    save_pair(tmp_path, encoded(IMAGE), encoded(ROAD))
    (tmp_path / "sat" / "a.png").rename(tmp_path / "sat" / f"{name}.png")
    with pytest.raises(UserError, match="Rename the file") as error:
        fetch(tmp_path / "raw", folder=tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.slow
def test_one_pixel_is_a_tile_without_crops(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = tmp_path / "raw"
    save_tiles(raw, 64, train=2)
    tables = (tmp_path / "handpicks.csv", tmp_path / "handpicked.csv")
    tables[0].write_text("name,decision,reason\n")
    for kind, pixels in (("sat/train0.tiff", IMAGE), ("map/train0.tif", ROAD)):
        Image.fromarray(pixels[:1, :1]).save(raw / "train" / kind)
    handpick_filter(raw, *tables, tmp_path / "sheet.png", HandpickParams(max_blank=0.5))
    params = CropParams(size=32, stride=32, edge="drop", max_blank=0.5)
    split = SplitParams(by="official", seed=0, valid=0.1, test=0.1)
    crop(raw, tables[1], tmp_path / "crops", params, split)
    assert "1 tiles have no crops because they are smaller than 32 pixels: train0" in (
        capsys.readouterr().err
    )


def read_as_handpick(raw: Path) -> None:
    picks = raw.parent / "handpicks.csv"
    picks.write_text("name,decision,reason\n")
    out, sheet = raw.parent / "handpicked.csv", raw.parent / "sheet.png"
    handpick_filter(raw, picks, out, sheet, HandpickParams(max_blank=0.5))


def read_as_crop(raw: Path) -> None:
    rows = ["name,split,blank,keep,why", "train0,train,0.0000,yes,"]
    (raw.parent / "handpicked.csv").write_text("\n".join(rows))
    params = CropParams(size=32, stride=32, edge="drop", max_blank=0.5)
    split = SplitParams(by="official", seed=0, valid=0.1, test=0.1)
    crop(raw, raw.parent / "handpicked.csv", raw.parent / "crops", params, split)


def read_as_evaluate(raw: Path) -> None:
    list(read_labelled(raw, read_tiles(raw), BinarizeParams(threshold=100), ""))


@pytest.mark.parametrize("read", [read_as_handpick, read_as_crop, read_as_evaluate])
@pytest.mark.parametrize("what", ["no bytes", "half a TIFF", "a bomb of TIFF", "two pages"])
def test_a_tile_that_is_damaged_later_is_named_by_each_stage(
    tmp_path: Path, read: Callable[[Path], None], what: str
) -> None:
    raw = tmp_path / "raw"
    save_tiles(raw, 64, train=1)
    (raw / "train/sat/train0.tiff").write_bytes(REFUSED[what][0]())
    with pytest.raises(UserError, match=rf"train/sat/train0\.tiff {REFUSED[what][1]}") as error:
        read(raw)
    assert str(error.value).isprintable()
    assert not (tmp_path / "handpicked.csv").exists() or read is read_as_crop
    assert not (tmp_path / "crops").exists()
