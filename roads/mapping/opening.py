"""Opens pictures by GDAL: which files, by which drivers, of which size.

GDAL decodes them, through rasterio, only from local files and by three drivers. It would open
the files that go with a picture (`.msk`, `.ovr`) by any driver, and some drivers read other files,
addresses and programs; so it is told of none, and masks and world files are read here.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import rasterio
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from roads.imagery.pictures import decoding
from roads.runtime.errors import UserError, one_line

GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 128,  # MB: a row of 512×512 tiles of a picture 50,000 pixels wide
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # opens no file but the picture
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # else a truncated JPEG ends in grey
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # else a truncated PNG ends in black
    "GDAL_PAM_ENABLED": False,  # neither reads nor leaves .aux.xml files
    "GDAL_TIFF_INTERNAL_MASK": True,
}
SIGNATURES = {
    b"II*\0": "GTiff", b"MM\0*": "GTiff", b"II+\0": "GTiff", b"MM\0+": "GTiff",
    b"\x89PNG": "PNG", b"\xff\xd8\xff": "JPEG",
}  # fmt: skip
MASK_SUFFIXES = (".msk", ".MSK")  # of a mask file, after the picture's whole name
MASK_FLAGS = {"INTERNAL_MASK_FLAGS_1": "2"}  # by which GDAL says that it is of the whole picture
PIXELS_A_BYTE = 50_000  # of the file; even a mosaic that is nearly all empty has fewer
DECODED_AT_ONCE = 300_000_000  # bytes; what a decoder may need for one strip, or a whole picture
PROGRESSIVE_BYTES = 6  # a pixel that libjpeg holds of a progressive JPEG: 3 coefficients of 2
TO_TILED = "A tiled GeoTIFF can: `rio convert --co tiled=true IN OUT.tif`"


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """GDAL with this project's options, and without lines of its own on stderr."""
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Turn what GDAL complains about into a UserError that names the file."""
    try:
        yield
    except (RasterioError, CRSError, CPLE_BaseError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = one_line(cause).removeprefix(f"{path.name}: ")
        raise UserError(f"{path} is broken or cannot be read: {reason}") from None
    except UnicodeEncodeError:
        raise UserError(f"{path} has a name that is not in UTF-8. Rename it.") from None


def driver_of(path: Path) -> str:
    """The GDAL driver for what a file begins with.

    Raises:
        UserError: the file is missing, or neither TIFF, PNG nor JPEG.
    """
    if not path.is_file():
        missing = "is no file" if path.exists() else "is missing"
        raise UserError(f"{path} {missing}; local files are read, no addresses")
    driver = signature(path)
    if driver is None:
        raise UserError(f"{path} is not a TIFF, PNG or JPEG picture")
    return driver


def signature(path: Path) -> str | None:
    """The GDAL driver for what a file begins with; None if it is no such picture."""
    with path.open("rb") as stream:
        start = stream.read(4)
    return next((driver for each, driver in SIGNATURES.items() if start.startswith(each)), None)


def check_size(path: Path, dataset: DatasetReader) -> None:
    """Raise a UserError if the file cannot hold what it claims, or not be read by parts.

    Also if its values are complex, as those of radar are.
    """
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise UserError(f"{path} has complex numbers for pixels: it is no photograph")
    height, width = dataset.shape
    size = path.stat().st_size
    if height * width > size * PIXELS_A_BYTE:
        raise UserError(
            f"{path} is broken: it claims {width:,}×{height:,} pixels in {size:,} bytes"
        )
    pixel = sum(np.dtype(dtype).itemsize for dtype in dataset.dtypes)
    if dataset.driver == "GTiff" or not _comes_in_passes(path, dataset.driver):
        block = max(rows * columns for rows, columns in dataset.block_shapes)
        at_once, what = block * pixel, "stored in too large pieces"
    elif dataset.driver == "PNG":
        at_once, what = height * width * pixel, "an interlaced PNG"
    else:
        at_once, what = height * width * PROGRESSIVE_BYTES, "a progressive JPEG"
    if at_once > DECODED_AT_ONCE:
        raise UserError(
            f"{path} is {what} of {width:,}×{height:,} pixels, which cannot be read by parts: "
            f"that would take {at_once / 1e9:.1f} GB of memory. {TO_TILED}."
        )


def _comes_in_passes(path: Path, driver: str) -> bool:
    """Whether a PNG is interlaced, or a JPEG progressive."""
    plugin = PngImageFile if driver == "PNG" else JpegImageFile  # `Image.open` takes no large ones
    with decoding(path, "Replace the file."), plugin(path) as picture:
        return not {"interlace", "progressive"}.isdisjoint(picture.info)


@contextlib.contextmanager
def open_mask(path: Path | None, shape: tuple[int, int]) -> Iterator[DatasetReader | None]:
    """A mask file as GDAL writes it, for a picture of that shape; else None.

    Raises:
        UserError: it is broken.
    """
    if path is None or signature(path) != "GTiff":
        yield None
        return
    with naming_errors(path):
        mask = rasterio.open(path, driver="GTiff", sharing=False)
    with mask:
        sound = mask.dtypes == ("uint8",) and mask.tags().items() >= MASK_FLAGS.items()
        if not sound or mask.shape != shape:
            yield None
            return
        check_size(path, mask)
        yield mask
