"""Pictures decoded to arrays: 8-bit RGB images and grey maps, hostile files refused."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, one_line

MAX_PIXELS = 20_000 * 20_000  # a larger header is refused before anything is decoded
Image.MAX_IMAGE_PIXELS = MAX_PIXELS

FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "WEBP")  # none that runs another program
MAX_PAGES = 32  # smaller copies of a picture in its own file, as GeoTIFF has them, and masks
SUBFILE_TYPE, COPY_OR_MASK = 254, 0b101  # TIFF 6.0, page 36: NewSubfileType, bits 0 and 2
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")


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
    except Exception as error:  # decoders raise almost anything on damaged data
        raise UserError(
            f"{path} is broken and cannot be decoded: {one_line(error)}. {way_out}"
        ) from None


def _check_kind(path: Path, picture: Image.Image) -> None:
    """Raise a UserError if a picture does not have 8 bits a channel, or a file holds several."""
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
