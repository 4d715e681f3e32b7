"""Reads pictures of any size by rows: TIFF, GeoTIFF, PNG and JPEG, as 8-bit RGB.

GDAL decodes them, through rasterio, only from local files and by these three drivers. It would open
the files that go with a picture (`.msk`, `.ovr`) by any driver, and some drivers read other files,
addresses and programs; so it is told of none, and masks and world files are read here. JPEGs that
are not too large Pillow decodes, as in the stages: libjpeg 9, which GDAL has here, fills in the
colours of subsampled JPEGs differently than libjpeg-turbo. A broken file is a UserError of one
line; what a header claims is checked against the file's size.
"""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import CRSError, NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from roads.imagery.missing import OPAQUE, black_collar
from roads.imagery.pictures import decoding, load_picture
from roads.mapping.georeference import lonlat_converter, metres_per_pixel, read_world_file
from roads.runtime.arrays import Bool, Image8
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
WHOLE_JPEG = DECODED_AT_ONCE // 4  # pixels: Pillow holds all of a JPEG, at 4 bytes a pixel
PROGRESSIVE_BYTES = 6  # a pixel that libjpeg holds of a progressive JPEG: 3 coefficients of 2
STRETCH = (2, 98)  # percentiles that become 0 and 255 where a band has 16 bits
SAMPLED_ROWS = 64  # rows that the percentiles are of
SAMPLED_COLUMNS = 4096  # at most, of each
LEVELS_16 = 2**16
TO_TILED = "A tiled GeoTIFF can: `rio convert --co tiled=true IN OUT.tif`"


class Raster:
    """A picture that is open for reading.

    Attributes:
        path: the file.
        height, width: in pixels, as stored: an EXIF orientation is not applied.
        crs, transform: where it lies; None and the identity where the file does not say.
        metres: ground metres from row to row and from column to column; None if unknown.
        to_lonlat: from columns and rows to degrees; None if unknown.
        notes: what was decided about its bands, for the user to know.

    Raises:
        UserError: the file is broken, claims what it cannot hold, has bands of another kind
            than 8 or 16 bits, or does not say which of many bands are red, green and blue.
    """

    def __init__(self, path: Path, dataset: DatasetReader, mask: DatasetReader | None):
        self.path, self._dataset, self._mask = path, dataset, mask
        self.height, self.width = dataset.shape
        self.crs: CRS | None = dataset.crs
        self.transform: Affine = dataset.transform
        if self.transform.is_identity:
            self.transform = read_world_file(path.resolve()) or self.transform
        self.notes: list[str] = []
        self._bands = self._choose_bands()
        _check_size(path, dataset)
        self._jpeg = self._load_jpeg()
        located = not (self.transform.is_identity or self.transform.is_degenerate)
        self.to_lonlat = lonlat_converter(self.crs, self.transform) if located else None
        self.metres: tuple[float, float] | None = None
        if self.to_lonlat:
            with naming_errors(path):
                self.metres = metres_per_pixel(self.to_lonlat, self.height, self.width)
        self._colours = self._find_colours()
        deep = self._colours is None and dataset.dtypes[self._bands[0] - 1] == "uint16"
        self._stretched = self._stretch() if deep else None
        orientation = dataset.tags().get("EXIF_Orientation", "1")
        if orientation not in ("0", "1"):
            self.notes.append(
                f"is mapped as stored; its EXIF orientation {orientation} is not applied"
            )

    @property
    def shape(self) -> tuple[int, int]:
        return self.height, self.width

    def read_rows(self, top: int, bottom: int) -> tuple[Image8, Bool]:
        """Read rows `top` to `bottom` (excluded).

        Returns:
            (rows, width, 3) uint8, and (rows, width) bool: where imagery is missing, as
            `roads.imagery.missing` has it. There the image is white.

        Raises:
            UserError: the file is broken there.
        """
        values, missing = self._read(Window(0, top, self.width, bottom - top))
        image = values if self._stretched is None else self._stretched[values, np.arange(3)]
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        image[missing] = 255
        return image, missing

    def _read(self, window: Window) -> tuple[NDArray[Any], Bool]:
        """The bands, of 16 bits or as `_colours` has them: (rows, width, 1 or 3); and missing."""
        with naming_errors(self.path):
            values = self._read_bands(window)
            missing = self._read_missing(values, window)
        if self._colours is not None:
            colours = self._colours[values[..., 0]]
            missing |= colours[..., 3] < OPAQUE
            values = np.ascontiguousarray(colours[..., :3])
        return values, missing | black_collar(values)

    def _read_missing(self, values: NDArray[Any], window: Window) -> Bool:
        """Where pixels are nodata in all bands, masked out or transparent.

        GDAL's own mask of a picture knows only one of these at a time.
        """
        flags, colours = self._dataset.mask_flag_enums[0], list(self._dataset.colorinterp)
        missing = np.zeros(values.shape[:2], np.bool_)
        if MaskFlags.per_dataset in flags:
            missing |= self._dataset.read_masks(1, window=window) < OPAQUE
        if self._mask is not None:
            missing |= self._mask.read(1, window=window) < OPAQUE
        if self._dataset.nodata is not None:
            missing |= (values == self._dataset.nodata).all(axis=2)
        if ColorInterp.alpha in colours and MaskFlags.alpha not in flags:
            alpha = self._dataset.read(colours.index(ColorInterp.alpha) + 1, window=window)
            missing |= alpha < np.iinfo(alpha.dtype).max / 2
        return missing

    def _read_bands(self, window: Window) -> NDArray[Any]:
        if self._jpeg is None:
            bands = self._dataset.read(self._bands, window=window)
            return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
        left, top = window.col_off, window.row_off
        rows = self._jpeg.crop((left, top, left + window.width, top + window.height))
        return np.array(rows.convert("RGB"))

    def _load_jpeg(self) -> Image.Image | None:
        """The picture as the stages decode it, if it is a JPEG, or a TIFF of subsampled ones."""
        structure = self._dataset.tags(ns="IMAGE_STRUCTURE")
        if self._dataset.driver != "JPEG" and structure.get("COMPRESSION") != "YCbCr JPEG":
            return None
        if self.height * self.width > WHOLE_JPEG:
            self.notes.append(
                f"is a JPEG of over {WHOLE_JPEG // 10**6} million pixels: GDAL decodes it, whose "
                "colours differ a little from those that nets are trained on"
            )
            return None
        return load_picture(self.path, "Replace the file.").picture

    def _choose_bands(self) -> list[int]:
        """Numbers from 1 of the bands that are grey, or red, green and blue."""
        dtypes = set(self._dataset.dtypes)
        if not dtypes <= {"uint8", "uint16"}:
            raise UserError(
                f"{self.path} has pixels of type {', '.join(sorted(dtypes))}. Convert it to 8 or "
                "16 bits without sign: `rio convert --dtype uint8 --scale-ratio 0.1 IN OUT.tif`."
            )
        colours = list(self._dataset.colorinterp)
        rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
        pictures = [n for n, what in enumerate(colours, 1) if what != ColorInterp.alpha]
        if all(colours.count(colour) == 1 for colour in rgb):
            chosen = [colours.index(colour) + 1 for colour in rgb]
        elif len(pictures) == 1:
            chosen = pictures
        elif len(pictures) in (3, 4):
            chosen = pictures[:3]
        else:
            raise UserError(
                f"{self.path} has {len(colours)} bands and does not say which are red, green and "
                "blue. Pick them: `rio stack --bidx 3,2,1 IN -o OUT.tif`."
            )
        left_out = [n for n in pictures if n not in chosen]
        if left_out:
            self.notes.append(
                f"has {len(colours)} bands: {', '.join(map(str, chosen))} are taken for red, "
                f"green and blue, {', '.join(map(str, left_out))} left out"
            )
        return chosen

    def _find_colours(self) -> Image8 | None:
        """Red, green, blue and alpha of each value: (256 or more, 4). None if it is a level."""
        bits = int(self._dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
        if self._dataset.colorinterp[0] == ColorInterp.palette:
            colours = self._dataset.colormap(1)
            table = np.full((LEVELS_16, 4), 255, np.uint8)
            table[list(colours)] = list(colours.values())
            return table
        negative = "MINISWHITE" in self._dataset.tags(ns="IMAGE_STRUCTURE")
        if self._dataset.dtypes == ("uint8",) and (bits < 8 or negative):
            table = np.full((2**bits, 4), 255, np.uint8)
            levels = np.linspace(0, 255, 2**bits).round()
            table[:, :3] = (levels[::-1] if negative else levels)[:, None]
            return table
        return None

    def _stretch(self) -> Image8:
        """The table that stretches the 2nd to 98th percentile of each 16-bit band to 0 to 255."""
        sampled = []
        for top in np.unique(np.linspace(0, self.height - 1, SAMPLED_ROWS).astype(int)):
            values, missing = self._read(Window(0, int(top), self.width, 1))
            sampled.append(values[~missing][:: -(-self.width // SAMPLED_COLUMNS)])
        values = np.concatenate(sampled)
        if len(values) == 0:
            values = np.zeros((1, len(self._bands)))
        low, high = np.percentile(values, STRETCH, axis=0)
        ranges = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
        self.notes.append(
            f"has 16 bits: each band's percentiles {STRETCH[0]} to {STRETCH[1]} ({ranges}) "
            "are stretched to 0 to 255"
        )
        levels = np.repeat(np.arange(LEVELS_16)[:, None], 3, axis=1)
        stretched = (levels - low) * 255 / np.maximum(high - low, 1)
        return np.rint(stretched.clip(0, 255)).astype(np.uint8)


@contextlib.contextmanager
def open_raster(path: Path) -> Iterator[Raster]:
    """Open a picture for reading by rows.

    Raises:
        UserError: as `Raster`; or the file is missing, or neither TIFF, PNG nor JPEG.
    """
    driver, real = _driver(path), path.resolve()
    beside = (real.with_name(real.name + suffix) for suffix in MASK_SUFFIXES)
    mask_path = next(filter(Path.is_file, beside), None)
    with quiet_gdal():
        with naming_errors(path):
            dataset = rasterio.open(real, driver=driver, sharing=False)
        with dataset, _open_mask(mask_path, dataset.shape) as mask:
            raster = Raster(path, dataset, mask)
            if mask_path and mask is None:
                raster.notes.append(f"is mapped without {mask_path.name}: not a mask by GDAL")
            yield raster


@contextlib.contextmanager
def _open_mask(path: Path | None, shape: tuple[int, int]) -> Iterator[DatasetReader | None]:
    """A mask file as GDAL writes it, for a picture of that shape; else None.

    Raises:
        UserError: it is broken.
    """
    if path is None or _signature(path) != "GTiff":
        yield None
        return
    with naming_errors(path):
        mask = rasterio.open(path, driver="GTiff", sharing=False)
    with mask:
        sound = mask.dtypes == ("uint8",) and mask.tags().items() >= MASK_FLAGS.items()
        if not sound or mask.shape != shape:
            yield None
            return
        _check_size(path, mask)
        yield mask


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


def _driver(path: Path) -> str:
    """The GDAL driver for what the file begins with."""
    if not path.is_file():
        missing = "is no file" if path.exists() else "is missing"
        raise UserError(f"{path} {missing}; local files are read, no addresses")
    driver = _signature(path)
    if driver is None:
        raise UserError(f"{path} is not a TIFF, PNG or JPEG picture")
    return driver


def _signature(path: Path) -> str | None:
    with path.open("rb") as stream:
        start = stream.read(4)
    return next((driver for each, driver in SIGNATURES.items() if start.startswith(each)), None)


def _check_size(path: Path, dataset: DatasetReader) -> None:
    """Raise a UserError if the file cannot hold what it claims, or not be read by parts."""
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
