"""Decodes pictures to arrays, 8-bit RGB images and grey maps; malicious files are refused.

Pixels are used as stored. An EXIF orientation is not applied, here or in `roads predict`, since
georeferencing refers to the stored pixels.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import NamedTuple

import numpy as np
from PIL import ExifTags, Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from tifffile import TiffFile

from roads.imagery.missing import alpha_of, missing_pixels, without_value
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError, one_line

MAX_PIXELS = 20_000 * 20_000  # a larger header is refused before anything is decoded
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
logging.getLogger("PIL.TiffImagePlugin").setLevel(logging.CRITICAL)  # it is raised too

FORMATS = ("TIFF", "PNG", "JPEG", "BMP", "WEBP")  # none of them starts another program
MAX_PAGES = 32  # overviews and masks, as in GeoTIFF
SUBFILE_TYPE, COPY, MASK = 254, 0b1, 0b100  # TIFF 6.0, page 36: NewSubfileType, bits 0 and 2
for byte_order in (b"II", b"MM"):  # Pillow does not know masks: one bit, 1 for imagery
    TiffImagePlugin.OPEN_INFO[byte_order, 4, (1,), 1, (1,), ()] = ("1", "1")
WAY_OUT = "Run `dvc repro -f download`, or replace the file."
TO_EIGHT_BITS = "python -m roads.mapping.eight_bits"
EIGHT_BIT_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr")
ORIENTATION, AS_STORED = ExifTags.Base.Orientation, 1
TIFF_KEPT = ", tiffinfo={k: v for k, v in i.tag_v2.items() if k == 42113}"  # the nodata value
METADATA = 42112  # GDAL's TIFF tag, XML
DESCRIPTION = r'sample="(\d+)" role="description">\s*(?i:(red|green|blue|r|g|b))\s*<'
TURNED_BACK = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}  # the orientation that undoes each


class OtherKindError(UserError):
    """A picture is not 8-bit grey or RGB.

    Attributes:
        bands: number of bands of the picture; None if it cannot be converted.
    """

    def __init__(self, message: str, bands: int | None):
        super().__init__(message)
        self.bands = bands


def read_image(path: Path) -> Image8:
    """Decode an aerial image to (height, width, 3) uint8; grey and palettes become RGB.

    Missing imagery becomes white: see `roads.imagery.missing`.

    Raises:
        UserError: the file is missing, broken, not a picture, too large, or not 8-bit.
    """
    return _read_image(path)[0]


def read_map(path: Path) -> Image8:
    """Decode a road map to (height, width) uint8 grey levels, 255 for road.

    Pixels that are nodata, or masked out by the file itself, are 0.

    Raises:
        UserError: as `read_image`; or the road may be in the alpha band, because transparent
            pixels are not black, or all opaque ones are.
    """
    return _read_map(path)[0]


def read_image_and_map(image_path: Path, map_path: Path) -> tuple[Image8, Image8]:
    """Decode an aerial image and its road map, as `read_image` and `read_map` do.

    Raises:
        UserError: as `read_image`; or the two differ in size or EXIF orientation.
    """
    image, image_orientation = _read_image(image_path)
    map_, map_orientation = _read_map(map_path)
    if image_orientation != map_orientation:
        turned = {image_path: image_orientation, map_path: map_orientation}
        commands = [_upright(path) for path, how in turned.items() if how != AS_STORED]
        raise UserError(
            f"{image_path} has EXIF orientation {image_orientation} and its map {map_path} has "
            f"{map_orientation}, but pixels are used as stored. Rotate the pixels themselves: "
            f"{' and '.join(commands)}; or, if the two match as stored, remove the orientation."
        )
    if image.shape[:2] != map_.shape[:2]:
        height, width = image.shape[:2]
        raise UserError(
            f"{map_path} is {map_.shape[1]}×{map_.shape[0]} pixels, but its image {image_path} "
            f"is {width}×{height}. Make both the same size, or take the pair out."
        )
    return image, map_


def _upright(path: Path) -> str:
    """A command that applies a picture's EXIF orientation to its pixels, and keeps its nodata."""
    kept = {
        ".jpg": ", quality=95", ".jpeg": ", quality=95", ".webp": ", lossless=True",
        ".tif": TIFF_KEPT, ".tiff": TIFF_KEPT,
    }.get(path.suffix.lower(), "")  # fmt: skip
    code = f"p = sys.argv[1]; i = Image.open(p); ImageOps.exif_transpose(i).save(p{kept})"
    return f'`python -c "import sys; from PIL import Image, ImageOps; {code}" {quote(str(path))}`'


def _road_is_opaque(picture: Image.Image, map_: Image8) -> bool:
    """Whether the road is the same with and without the map's alpha."""
    opaque = alpha_of(picture) == 255
    return bool(opaque.all() or (not map_[~opaque].any() and (map_.any() or not opaque.any())))


def _saved_as(band: str, path: Path) -> str:
    """A command that saves one band of a picture as PNG, and renames the picture FILE.original."""
    code = (
        f"p = pathlib.Path(sys.argv[1]); b = Image.open(p).convert('RGBA').getchannel('{band}'); "
        "p.rename(sys.argv[1] + '.original'); b.save(p.with_suffix('.png'))"
    )
    return f'`python -c "import pathlib, sys; from PIL import Image; {code}" {quote(str(path))}`'


@contextlib.contextmanager
def _advising(path: Path, kind: str) -> Iterator[None]:
    """Add to an OtherKindError the command that converts the file to an `image` or a `map`."""
    try:
        yield
    except OtherKindError as error:
        if error.bands is None:
            raise UserError(f"{error} Convert it to 8-bit RGB or grey.") from None
        chosen = {1: "", 2: " 1", 3: "", 4: ""}.get(error.bands, " 3,2,1") * (kind == "image")
        why = " (the last numbers are its red, green and blue bands)" if "," in chosen else ""
        raise UserError(
            f"{error} Convert it{why}: `{TO_EIGHT_BITS} {kind} {quote(str(path))}{chosen}`"
        ) from None


def _read_image(path: Path) -> tuple[Image8, int]:
    with _advising(path, "image"), decoding(path, WAY_OUT):
        decoded = load_picture(path, WAY_OUT)
        _check_order(path, decoded.picture)
        image = _converted(decoded.picture, "RGB")
        missing = missing_pixels(decoded.picture, image, decoded.mask)
        if missing.any():
            image = image.copy()
            image[missing] = 255
        return image, decoded.orientation


def _read_map(path: Path) -> tuple[Image8, int]:
    with _advising(path, "map"), decoding(path, WAY_OUT):
        decoded = load_picture(path, WAY_OUT)
        map_ = _converted(decoded.picture, "L")
        if decoded.picture.has_transparency_data and not _road_is_opaque(decoded.picture, map_):
            raise UserError(
                f"{path} has transparent pixels, so it is unclear which are road. Save it as "
                f"one band, white on road. If that is the alpha band: {_saved_as('A', path)}; if "
                f"it is the red band: {_saved_as('R', path)}"
            )
        unknown = without_value(decoded.picture, map_[..., None], decoded.mask)
        if unknown.any():
            map_ = np.where(unknown, np.uint8(0), map_)
        return map_, decoded.orientation


def _converted(picture: Image.Image, mode: str) -> Image8:
    if picture.mode in ("P", "PA"):
        picture = picture.convert("RGBA" if "transparency" in picture.info else "RGB")
    # Copying a large tile takes longer than decoding it.
    return np.asarray(picture if picture.mode == mode else picture.convert(mode))


class Decoded(NamedTuple):
    """A picture as decoded by Pillow, with pixels as stored.

    Attributes:
        picture: the picture.
        orientation: its EXIF orientation, 1 to 8.
        mask: (height, width) bool, true where a TIFF's own mask has imagery; or None.
    """

    picture: Image.Image
    orientation: int
    mask: Bool | None


def load_picture(path: Path, way_out: str) -> Decoded:
    """Decode a picture.

    Raises:
        UserError: as `read_image`; for a missing or broken file, its message ends in `way_out`.
    """
    with decoding(path, way_out), Image.open(path, formats=FORMATS) as picture:
        if picture.width * picture.height > MAX_PIXELS:
            raise Image.DecompressionBombError  # Pillow only warns up to twice the limit
        _check_kind(path, picture)
        mask = None
        # The other pictures in a camera's JPEG ("MPO") are previews.
        if getattr(picture, "is_animated", False) and picture.format != "MPO":
            mask = _only_mask(path, picture)
        exif = picture.getexif()
        orientation = exif.get(ORIENTATION, AS_STORED)
        if orientation not in TURNED_BACK:
            orientation = AS_STORED
        picture.load()
        if picture.format == "TIFF" and orientation != AS_STORED:  # Pillow has applied it
            exif[ORIENTATION] = TURNED_BACK[orientation]
            ImageOps.exif_transpose(picture, in_place=True)
        return Decoded(picture, orientation, mask)


@contextlib.contextmanager
def decoding(path: Path, way_out: str) -> Iterator[None]:
    """Turn Pillow's errors into UserErrors that name the file, and silence its warnings.

    Raises:
        UserError: instead of any other error.
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
        raise UserError(f"{path} declares over {MAX_PIXELS:,} pixels. Cut it into tiles.") from None
    except UnidentifiedImageError:
        _check_kind_of_tiff(path)
        raise UserError(f"{path} is not a picture that Pillow can read. {way_out}") from None
    except MemoryError:
        raise UserError(f"{path} does not fit into memory. Cut it into tiles.") from None
    except Exception as error:  # damaged data can raise almost anything
        raise UserError(
            f"{path} is broken and cannot be decoded: {one_line(error)}. {way_out}"
        ) from None


def _check_kind(path: Path, picture: Image.Image) -> None:
    """Raise a UserError if a picture does not have 8 bits per channel."""
    packing = " ".join(str(tile[3]) for tile in getattr(picture, "tile", ()))
    if picture.mode not in EIGHT_BIT_MODES or ";16" in packing:  # Pillow truncates 16-bit colours
        kind = picture.mode if picture.mode not in EIGHT_BIT_MODES else f"{picture.mode};16"
        known = kind.startswith(("I", "F", "RGB"))
        raise OtherKindError(
            f"{path} has pixels of type {kind}, not 8 bits per channel.",
            len(picture.getbands()) if known else None,
        )


def _check_order(path: Path, picture: Image.Image) -> None:
    """Raise a UserError if a GeoTIFF's bands are described as other than red, green, blue."""
    metadata = getattr(picture, "tag_v2", {}).get(METADATA, "")
    described = {name[0].lower(): band for band, name in re.findall(DESCRIPTION, metadata)}
    order = [described.get(colour, "none") for colour in "rgb"]
    if "none" not in order and order != ["0", "1", "2"]:
        raise OtherKindError(
            f"{path} has bands that are not in the order red, green, blue.",
            len(picture.getbands()),
        )


def _check_kind_of_tiff(path: Path) -> None:
    """Raise a UserError if a file is a TIFF of a kind that Pillow does not read."""
    kind = None
    with contextlib.suppress(Exception), TiffFile(path) as tiff:  # others are broken
        page = tiff.pages.first
        bands, packed = page.samplesperpixel, getattr(page.compression, "name", page.compression)
        kind = f"{bands} bands of type {page.dtype} (compression: {packed})"
        known = page.dtype is not None and page.dtype.kind != "c"
    if kind:
        raise OtherKindError(
            f"{path} has {kind}, not 8 bits of grey or RGB.", bands if known else None
        )


def _only_mask(path: Path, picture: Image.Image) -> Bool | None:
    """The mask in a file of several pictures; the others may only be overviews and masks."""
    several = UserError(f"{path} holds several pictures. Save each as its own file.")
    if picture.format != "TIFF":
        raise several
    mask, size = None, sorted(picture.size)  # Pillow may have rotated the picture, but not its mask
    with contextlib.suppress(EOFError):  # after the last page
        for page in range(1, MAX_PAGES + 1):
            picture.seek(page)
            kind = picture.tag_v2.get(SUBFILE_TYPE, 0)  # type: ignore[attr-defined]
            if not kind & (COPY | MASK):
                raise several
            if kind & MASK and not kind & COPY and sorted(picture.size) == size:
                mask = np.array(picture)
        raise several
    picture.seek(0)
    return mask
