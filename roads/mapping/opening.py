"""Opens pictures by GDAL: which files, by which drivers, of which size.

GDAL decodes them, through rasterio, only from local files and by drivers that open no other file.
It would open the files that go with a picture (`.msk`, `.ovr`) by any driver, and some drivers read
other files, addresses and programs; so it is told of none, and masks and world files are read here.
"""

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from shlex import quote

import numpy as np
import rasterio
from PIL import ExifTags
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from rasterio._err import CPLE_BaseError
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader

from roads.imagery.pictures import decoding
from roads.runtime.errors import UserError, one_line

GDAL_OPTIONS = {
    "GDAL_CACHEMAX": 128_000_000,  # bytes: a row of 512×512 tiles, 50,000 pixels wide
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # opens no file but the picture
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # else a truncated JPEG ends in grey
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # else a truncated PNG ends in black
    "GDAL_PAM_ENABLED": False,  # neither reads nor leaves .aux.xml files
    "GDAL_TIFF_INTERNAL_MASK": True,
}
SIGNATURES = {  # of GDAL's drivers
    "GTiff": rb"II[*+]\0|MM\0[*+]",
    "PNG": rb"\x89PNG",
    "JPEG": rb"\xff\xd8\xff",
    "JP2OpenJPEG": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "BMP": rb"BM.{4}\0{4}",
    "WEBP": rb"RIFF.{4}WEBP",
}
FORMATS = "TIFF, PNG, JPEG, JPEG 2000, BMP or WebP"
VRT = b"<VRTDataset"
ORIGINAL = ".original"  # ends the name of what `eight_bits` converted
BESIDE = (".msk", ".ovr", ORIGINAL)  # a picture's mask, smaller copies, and what it was
MASK_SUFFIXES = (".msk", ".MSK")  # of a mask file, after the picture's whole name
MASK_FLAGS = {"INTERNAL_MASK_FLAGS_1": "2"}  # by which GDAL says that it is of the whole picture
PIXELS_A_BYTE = 50_000  # of the file; even a mosaic that is nearly all empty has fewer
DECODED_AT_ONCE = 300_000_000  # bytes; what a decoder may need for one strip, or a whole picture
PASSES = {"PNG": PngImageFile, "JPEG": JpegImageFile}  # `Image.open` takes no large ones
PROGRESSIVE_BYTES = 6  # a pixel that libjpeg holds of a progressive JPEG: 3 coefficients of 2


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
        UserError: the file is missing, or begins as none of FORMATS does.
    """
    if not path.is_file():
        missing = "is no file" if path.exists() else "is missing"
        raise UserError(f"{path} {missing}; local files are read, no addresses")
    driver = signature(path)
    if driver is None:
        if VRT in first_bytes(path):
            raise UserError(
                f"{path} is a VRT, which refers to other files. Map the folder of its pictures "
                f"with --mosaic, or make it a GeoTIFF, with gdal_translate or {copied(path)}."
            )
        raise UserError(f"{path} is not a {FORMATS} picture")
    return driver


def is_picture(path: Path) -> bool:
    """Whether a file begins like a picture, and does not go with another one."""
    return path.suffix.lower() not in BESIDE and signature(path) is not None


def copied(path: Path, source: str | None = None, ending: str = "_tiled") -> str:
    """A command that copies a picture, or what else GDAL reads, into a tiled GeoTIFF beside it."""
    code = (
        "import sys, rasterio.shutil; rasterio.shutil.copy(*sys.argv[1:], driver='GTiff', "
        "tiled=True, compress='deflate', bigtiff='if_safer')"
    )
    files = quote(source or str(path)), quote(str(path.with_name(f"{path.stem}{ending}.tif")))
    return f'`python -c "{code}" {" ".join(files)}`'


def signature(path: Path) -> str | None:
    """The GDAL driver for what a file begins with; None if it is no such picture."""
    start = first_bytes(path)
    return next((each for each, begin in SIGNATURES.items() if re.match(begin, start, re.S)), None)


def first_bytes(path: Path) -> bytes:
    """Enough bytes of a file to tell its format."""
    with path.open("rb") as stream:
        return stream.read(300)


def orientation(path: Path, dataset: DatasetReader) -> str:
    """The EXIF orientation of a JPEG or TIFF, "1" where it is as stored."""
    if dataset.driver == "GTiff":  # GDAL does not tell
        with contextlib.suppress(UserError), decoding(path, ""), TiffImageFile(path) as picture:
            return str(picture.tag_v2.get(ExifTags.Base.Orientation, 1))
    return str(dataset.tags().get("EXIF_Orientation", 1))


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
    if dataset.driver == "WEBP":
        at_once, what = height * width * pixel, "a WebP"
    elif dataset.driver not in PASSES or not _comes_in_passes(path, dataset.driver):
        block = max(rows * columns for rows, columns in dataset.block_shapes)
        at_once, what = block * pixel, "stored in too large pieces"
    elif dataset.driver == "PNG":
        at_once, what = height * width * pixel, "an interlaced PNG"
    else:
        at_once, what = height * width * PROGRESSIVE_BYTES, "a progressive JPEG"
    if at_once > DECODED_AT_ONCE:
        raise UserError(
            f"{path} is {what} of {width:,}×{height:,} pixels, which cannot be read by parts: "
            f"that would take {at_once / 1e9:.1f} GB of memory. A tiled GeoTIFF can: "
            f"{copied(path)}."
        )


def _comes_in_passes(path: Path, driver: str) -> bool:
    """Whether a PNG is interlaced, or a JPEG progressive."""
    with decoding(path, "Replace the file."), PASSES[driver](path) as picture:
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
