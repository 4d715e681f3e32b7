"""Opens pictures with GDAL: which files are accepted, with which drivers, up to which size.

GDAL decodes local files only, through rasterio, with drivers that open no other file. It would open
a picture's sidecars (`.msk`, `.ovr`) with any driver, and some drivers read other files, URLs and
programs; so GDAL does not look for sidecars, and masks and world files are read by this package.
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
    "GDAL_CACHEMAX": 128_000_000,  # bytes: enough for a row of 512×512 tiles, 50,000 pixels wide
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # open no file but the picture
    "GDAL_ERROR_ON_LIBJPEG_WARNING": True,  # else a truncated JPEG ends in grey
    "GDAL_PNG_WHOLE_IMAGE_OPTIM": False,  # else a truncated PNG ends in black
    "GDAL_PAM_ENABLED": False,  # neither read nor write .aux.xml files
    "GDAL_TIFF_INTERNAL_MASK": True,
}
SIGNATURES = {  # the first bytes of a file, by GDAL driver
    "GTiff": rb"II[*+]\0|MM\0[*+]",
    "PNG": rb"\x89PNG",
    "JPEG": rb"\xff\xd8\xff",
    "JP2OpenJPEG": rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51",
    "BMP": rb"BM.{4}\0{4}",
    "WEBP": rb"RIFF.{4}WEBP",
}
FORMATS = "TIFF, PNG, JPEG, JPEG 2000, BMP or WebP"
VRT = b"<VRTDataset"
ORIGINAL = ".original"  # suffix of the files that `eight_bits` converted
SIDECARS = (".msk", ".ovr", ORIGINAL)  # a picture's mask, overviews, and unconverted original
MASK_SUFFIXES = (".msk", ".MSK")  # of a mask file, after the picture's whole name
MASK_FLAGS = {"INTERNAL_MASK_FLAGS_1": "2"}  # GDAL's tag of a mask for all bands
PIXELS_A_BYTE = 50_000  # at most, of the file; even nearly empty mosaics have fewer
DECODED_AT_ONCE = 300_000_000  # bytes that a decoder may need for one strip, or a whole picture
PASSES = {"PNG": PngImageFile, "JPEG": JpegImageFile}  # `Image.open` refuses large ones
PROGRESSIVE_BYTES = 6  # per pixel in libjpeg, for progressive JPEGs: 3 coefficients of 2 bytes


@contextlib.contextmanager
def quiet_gdal() -> Iterator[None]:
    """Use GDAL with this project's options, and keep its messages off stderr."""
    logging.getLogger("rasterio").setLevel(logging.CRITICAL)
    with rasterio.Env(**GDAL_OPTIONS), warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        yield


@contextlib.contextmanager
def naming_errors(path: Path) -> Iterator[None]:
    """Turn GDAL's errors into a UserError that names the file."""
    try:
        yield
    except (RasterioError, CRSError, CPLE_BaseError) as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        reason = one_line(cause).removeprefix(f"{path.name}: ")
        raise UserError(f"{path} is broken or cannot be read: {reason}") from None
    except UnicodeEncodeError:
        raise UserError(f"{path} has a name that is not valid UTF-8. Rename it.") from None


def driver_of(path: Path) -> str:
    """The GDAL driver for a file, by its first bytes.

    Raises:
        UserError: the file is missing, or in none of FORMATS.
    """
    if not path.is_file():
        missing = "is not a file" if path.exists() else "is missing"
        raise UserError(f"{path} {missing}; only local files are read, no URLs")
    driver = signature(path)
    if driver is None:
        if VRT in first_bytes(path):
            raise UserError(
                f"{path} is a VRT, which refers to other files. Map the folder of its pictures "
                f"with --mosaic, or convert it to a GeoTIFF with gdal_translate or {copied(path)}."
            )
        raise UserError(f"{path} is not a {FORMATS} picture")
    return driver


def is_picture(path: Path) -> bool:
    """Whether a file begins like a picture, and is not a picture's sidecar."""
    return path.suffix.lower() not in SIDECARS and signature(path) is not None


def copied(path: Path, source: str | None = None, ending: str = "_tiled") -> str:
    """A command that copies a file that GDAL can read to a tiled GeoTIFF next to it."""
    code = (
        "import sys, rasterio.shutil; rasterio.shutil.copy(*sys.argv[1:], driver='GTiff', "
        "tiled=True, compress='deflate', bigtiff='if_safer')"
    )
    files = quote(source or str(path)), quote(str(path.with_name(f"{path.stem}{ending}.tif")))
    return f'`python -c "{code}" {" ".join(files)}`'


def signature(path: Path) -> str | None:
    """The GDAL driver for a file, by its first bytes; None if it is in none of FORMATS."""
    start = first_bytes(path)
    return next((each for each, begin in SIGNATURES.items() if re.match(begin, start, re.S)), None)


def first_bytes(path: Path) -> bytes:
    """Enough bytes of a file to tell its format."""
    with path.open("rb") as stream:
        return stream.read(300)


def orientation(path: Path, dataset: DatasetReader) -> str:
    """The EXIF orientation of a JPEG or TIFF; "1" is upright."""
    if dataset.driver == "GTiff":  # GDAL does not report it
        with contextlib.suppress(UserError), decoding(path, ""), TiffImageFile(path) as picture:
            return str(picture.tag_v2.get(ExifTags.Base.Orientation, 1))
    return str(dataset.tags().get("EXIF_Orientation", 1))


def check_size(path: Path, dataset: DatasetReader) -> None:
    """Raise a UserError if a file cannot have the size that it claims, or is too large to decode.

    Also if its values are complex numbers, as in radar images.
    """
    if any("complex" in dtype for dtype in dataset.dtypes):
        raise UserError(f"{path} has complex numbers as pixels: it is not a photograph")
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
        at_once, what = block * pixel, "a picture with large strips or tiles,"
    elif dataset.driver == "PNG":
        at_once, what = height * width * pixel, "an interlaced PNG"
    else:
        at_once, what = height * width * PROGRESSIVE_BYTES, "a progressive JPEG"
    if at_once > DECODED_AT_ONCE:
        raise UserError(
            f"{path} is {what} of {width:,}×{height:,} pixels, which cannot be read in parts: "
            f"decoding it takes {at_once / 1e9:.1f} GB of memory. Convert it to a tiled GeoTIFF: "
            f"{copied(path)}."
        )


def _comes_in_passes(path: Path, driver: str) -> bool:
    """Whether a PNG is interlaced, or a JPEG progressive."""
    with decoding(path, "Replace the file."), PASSES[driver](path) as picture:
        return not {"interlace", "progressive"}.isdisjoint(picture.info)


@contextlib.contextmanager
def open_mask(path: Path | None, shape: tuple[int, int]) -> Iterator[DatasetReader | None]:
    """Open a mask file written by GDAL for a picture of that shape; yield None if it is not one."""
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
