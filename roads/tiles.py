"""Tiles: an aerial image and its road map under one name, found, decoded and measured."""

import contextlib
import hashlib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from roads.errors import UserError, one_line
from roads.files import read_csv, write_csv

SPLITS = ("train", "valid", "test")
TILES_FILE = "tiles.csv"
MAX_PIXELS = 20_000 * 20_000  # a larger header is refused before anything is decoded
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "WEBP")  # none that runs another program
MAX_PAGES = 32  # smaller copies of a picture in its own file, as GeoTIFF has them, and masks
SUBFILE_TYPE, COPY_OR_MASK = 254, 0b101  # TIFF 6.0, page 36: NewSubfileType, bits 0 and 2
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")

WHITE = 250  # of 255: missing imagery is pure white, JPEG rings around it by a few levels
BLANK_WINDOW = 15  # pixels; bright roofs and road markings are smaller than such a window

MAX_NAME = 200  # bytes; file systems end at 255, and endings are added

Image8 = NDArray[np.uint8]


@dataclass(frozen=True)
class StoredFile:
    """A file of `data/raw`: path relative to it, size in bytes, SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Tile:
    """An image and its map as downloaded, and the split of the folder they came in."""

    name: str
    split: str
    image: StoredFile
    map: StoredFile


TILE_COLUMNS = (
    "name", "split", "sat", "sat_bytes", "sat_sha256", "map", "map_bytes", "map_sha256",
)  # fmt: skip


def sound_name(name: str) -> bool:
    """Whether a tile may have this name: files are called by it, in folders that are ours."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= MAX_NAME
        and not name.startswith(".")
        and "/" not in name
    )


def stored_path(split: str, kind: str, name: str, suffix: str) -> str:
    """Where a tile's file belongs in `data/raw`, for example `train/sat/10078660_15.tiff`."""
    return f"{split}/{kind}/{name}{suffix}"


def stored_file(raw: Path, path: str) -> StoredFile:
    """Measure the file at `raw / path`."""
    with (raw / path).open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return StoredFile(path, (raw / path).stat().st_size, digest)


def write_tiles(raw: Path, tiles: list[Tile]) -> None:
    """Write `tiles.csv`, by split and name."""
    ordered = sorted(tiles, key=lambda tile: (SPLITS.index(tile.split), tile.name))
    rows = (
        (
            tile.name, tile.split,
            tile.image.path, tile.image.bytes, tile.image.sha256,
            tile.map.path, tile.map.bytes, tile.map.sha256,
        )
        for tile in ordered
    )  # fmt: skip
    write_csv(raw / TILES_FILE, TILE_COLUMNS, rows)


def read_tiles(raw: Path) -> list[Tile]:
    """The tiles of `tiles.csv`, in its order.

    Raises:
        UserError: the table is missing or is not one that the download stage wrote.
    """
    table = raw / TILES_FILE
    try:
        tiles = [
            Tile(
                name=row["name"],
                split=row["split"],
                image=StoredFile(row["sat"], int(row["sat_bytes"]), row["sat_sha256"]),
                map=StoredFile(row["map"], int(row["map_bytes"]), row["map_sha256"]),
            )
            for _, row in read_csv(table, TILE_COLUMNS)
        ]
        if not all(map(_lies_in_its_place, tiles)) or len({t.name for t in tiles}) < len(tiles):
            raise ValueError
    except FileNotFoundError:
        raise UserError(f"{table} is missing. Run `dvc repro download`.") from None
    except ValueError:
        raise UserError(f"{table} is damaged. Run `dvc repro -f download`.") from None
    return tiles


def _lies_in_its_place(tile: Tile) -> bool:
    return (
        sound_name(tile.name)
        and tile.split in SPLITS
        and all(
            file.path == stored_path(tile.split, kind, tile.name, PurePosixPath(file.path).suffix)
            for kind, file in (("sat", tile.image), ("map", tile.map))
        )
    )


def read_image(path: Path) -> Image8:
    """Decode an aerial image to (height, width, 3) uint8; grey, palette and alpha become RGB.

    Raises:
        UserError: the file is missing, broken, not a picture, too large, or not 8-bit.
    """
    return _decode(path, "RGB")


def read_map(path: Path) -> Image8:
    """Decode a road map to (height, width) uint8 grey levels, 255 for road.

    Raises:
        UserError: as `read_image`.
    """
    return _decode(path, "L")


def read_pair(raw: Path, tile: Tile) -> tuple[Image8, Image8]:
    """Decode a tile's image and map.

    Raises:
        UserError: as `read_image`, or the two differ in size.
    """
    image, map_ = read_image(raw / tile.image.path), read_map(raw / tile.map.path)
    check_same_size(raw / tile.image.path, image, raw / tile.map.path, map_)
    return image, map_


def check_same_size(image_path: Path, image: Image8, map_path: Path, map_: Image8) -> None:
    """Raise a UserError if image and map do not cover the same pixels."""
    if image.shape[:2] != map_.shape[:2]:
        height, width = image.shape[:2]
        raise UserError(
            f"{map_path} is {map_.shape[1]}×{map_.shape[0]} pixels, but its image {image_path} "
            f"is {width}×{height}. Make both the same size, or take the pair out."
        )


def _decode(path: Path, mode: str) -> Image8:
    way_out = "Run `dvc repro -f download`, or replace the file."
    with decoding(path, way_out), Image.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError  # Pillow only warns up to twice the limit
        _check_kind(path, picture)
        ImageOps.exif_transpose(picture, in_place=True)
        upright: Image.Image = picture
        if upright.mode in ("P", "PA"):
            upright = upright.convert("RGBA" if "transparency" in upright.info else "RGB")
        # Of a large tile a copy takes longer than decoding it.
        return np.asarray(upright if upright.mode == mode else upright.convert(mode))


@contextlib.contextmanager
def decoding(path: Path, way_out: str) -> Iterator[None]:
    """Name the file in whatever Pillow raises within, and keep its warnings to itself.

    Raises:
        UserError: in place of any other error.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {way_out}") from None
    except Image.DecompressionBombError:
        raise UserError(
            f"{path} says that it has over {MAX_PIXELS:,} pixels. Cut it into tiles."
        ) from None
    except UnidentifiedImageError:
        raise UserError(f"{path} is not a picture that Pillow can read. {way_out}") from None
    except MemoryError:
        raise UserError(f"{path} does not fit into memory. Cut it into tiles.") from None
    except Exception as error:  # what a decoder stumbles over has any type
        raise UserError(
            f"{path} is broken and cannot be decoded: {one_line(error)}. {way_out}"
        ) from None


def _check_kind(path: Path, picture: Image.Image) -> None:
    """Raise a UserError if the picture has not 8 bits a channel, or is several."""
    packing = " ".join(str(tile[3]) for tile in getattr(picture, "tile", ()))
    if picture.mode not in EIGHT_BIT_MODES or ";16" in packing:  # Pillow halves 16-bit colours
        kind = picture.mode if picture.mode not in EIGHT_BIT_MODES else f"{picture.mode};16"
        raise UserError(
            f"{path} has pixels of type {kind}, not 8 bits a channel. "
            "Convert it to 8-bit RGB or grey."
        )
    # The further pictures of a camera's JPEG ("MPO") are previews.
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        _check_one_page(path, picture)


def _check_one_page(path: Path, picture: Image.Image) -> None:
    several = UserError(f"{path} holds several pictures. Save each in a file of its own.")
    if picture.format != "TIFF":
        raise several
    with contextlib.suppress(EOFError):  # after the last page
        for page in range(1, MAX_PAGES + 1):
            picture.seek(page)
            if not picture.tag_v2.get(SUBFILE_TYPE, 0) & COPY_OR_MASK:  # type: ignore[attr-defined]
                raise several
        raise several
    picture.seek(0)


def blank_mask(image: Image8) -> NDArray[np.bool_]:
    """Where imagery is missing: areas of white, JPEG ringing in and around them tolerated.

    A pixel is white where every channel is at least WHITE. It is blank where a window of
    BLANK_WINDOW pixels around it is mostly white, and where it is white beside such a window.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (height, width) bool.
    """
    # Channel by channel, since to reduce over an axis of three takes numpy 20 times as long.
    red, green, blue = (image[..., channel] for channel in range(3))
    white = np.minimum(np.minimum(red, green), blue) >= WHITE
    if not white.any():
        return white
    core = _count_around(white) > 0.9 * BLANK_WINDOW**2
    if not core.any():
        return core
    near = _count_around(core) > 0
    return core | (white & near)


def _count_around(mask: NDArray[np.bool_]) -> Image8:
    """How many pixels of the window around each are set; edges go on beyond the picture.

    Sums of uint8, which a window of 15² pixels cannot overflow, take a third of the time of
    ndimage's filter.
    """
    counts = np.pad(mask.astype(np.uint8), BLANK_WINDOW // 2, mode="edge")
    for axis in (0, 1):
        lines = counts.swapaxes(0, axis)
        length = len(lines) - BLANK_WINDOW + 1
        sums = lines[:length].copy(order="K")  # the picture's own, or the sums are slow
        for offset in range(1, BLANK_WINDOW):
            sums += lines[offset : offset + length]
        counts = sums.swapaxes(0, axis)
    return counts


def blank_share(image: Image8) -> float:
    """The fraction of the image that is missing, from 0 to 1."""
    return float(blank_mask(image).mean())
