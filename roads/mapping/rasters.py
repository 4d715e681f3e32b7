"""Reads pictures of any size by rows, as 8-bit RGB.

GDAL decodes them, except JPEGs that are not too large: these are decoded by Pillow, as in the
stages, because GDAL's libjpeg 9 upsamples the colours of JPEGs differently from libjpeg-turbo.
"""

import contextlib
import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from PIL import Image
from rasterio.enums import MaskFlags
from rasterio.io import DatasetReader
from rasterio.windows import Window

from roads.imagery.missing import COLLAR, OPAQUE, black_ends
from roads.imagery.pictures import load_picture
from roads.mapping.bands import (
    SAMPLED_COLUMNS,
    STRETCH,
    choose_bands,
    colours_of_values,
    percentiles,
    sample,
    stretched,
    structure_of,
)
from roads.mapping.georeference import Place, find_place
from roads.mapping.opening import (
    DECODED_AT_ONCE,
    MASK_SUFFIXES,
    check_size,
    copied,
    driver_of,
    naming_errors,
    open_mask,
    orientation,
    quiet_gdal,
)
from roads.mapping.resampling import strip_rows
from roads.runtime.arrays import Bool, Float64, Image8
from roads.runtime.errors import UserError

WHOLE_JPEG = DECODED_AT_ONCE // 4  # pixels: Pillow holds a whole JPEG, at 4 bytes per pixel
GDAL_DECODES = (
    f"of over {WHOLE_JPEG // 10**6} million pixels: decoded by GDAL, whose colours differ slightly "
    "from those that nets are trained on"
)


class Raster:
    """A picture that is read by rows: a file, or several files as one.

    Attributes:
        path: the file, or the name of several.
        height, width: in pixels, as stored: an EXIF orientation is not applied.
        crs, transform, metres, to_lonlat: where it lies, see `Place`.
        dtype: of its values before they are stretched to 8 bits.
        notes: decisions about its place and bands, for the user.
    """

    path: Path
    dtype: np.dtype[Any]
    notes: list[str]
    _percentiles: tuple[Float64, Float64] | None = None

    def _lie_at(self, place: Place, shape: tuple[int, int]) -> None:
        self.shape = self.height, self.width = shape
        self.crs, self.transform = place.crs, place.transform
        self.to_lonlat, self.metres = place.to_lonlat, place.metres

    def read_values(self, top: int, bottom: int) -> tuple[NDArray[Any], Bool]:
        """As `read_rows`, but with values as stored: (rows, width, 1 or 3) of `dtype`."""
        raise NotImplementedError

    def read_rows(self, top: int, bottom: int) -> tuple[Image8, Bool]:
        """Read rows `top` to `bottom` (excluded).

        Returns:
            The image, (rows, width, 3) uint8, and where imagery is missing, (rows, width) bool,
            see `roads.imagery.missing`. There the image is white.

        Raises:
            UserError: a file is broken.
        """
        values, missing = self.read_values(top, bottom)
        image = values if self._percentiles is None else stretched(values, *self._percentiles)
        if image.shape[2] == 1:
            image = np.repeat(image, 3, axis=2)
        image[missing] = 255
        return image, missing

    def stretch(self) -> None:
        """Make `read_rows` stretch values that are not 8-bit, by percentiles of a sample."""
        if self.dtype == np.uint8:
            return
        self._percentiles = percentiles(sample(self._sample_row, self.height))
        ranges = ", ".join(f"{a:.5g} to {b:.5g}" for a, b in np.transpose(self._percentiles))
        self.notes.append(
            f"has {self.dtype} values: each band's percentiles {STRETCH[0]} to {STRETCH[1]} "
            f"({ranges}) are stretched to 0 to 255"
        )

    def _sample_row(self, top: int) -> NDArray[Any]:
        """At most SAMPLED_COLUMNS pixels of a row that have imagery: (n, bands)."""
        values, missing = self.read_values(top, top + 1)
        return values[~missing][:: -(-self.width // SAMPLED_COLUMNS)]


class FileRaster(Raster):
    """A picture in an open file; with `whole_jpeg` Pillow may decode a whole JPEG at once.

    Raises:
        UserError: the file is broken, fails `check_size`, lacks one of `bands`, or has many bands
            without saying which are red, green and blue.
    """

    def __init__(
        self,
        path: Path,
        dataset: DatasetReader,
        mask: DatasetReader | None,
        bands: Sequence[int] | None,
        crs: str | None,
        whole_jpeg: bool = True,
    ):
        self.path, self._dataset, self._mask = path, dataset, mask
        check_size(path, dataset)
        with naming_errors(path):
            self._bands = choose_bands(path, dataset, bands)
            self.notes = self._bands.notes
            self.whole_jpeg = whole_jpeg and self._is_jpeg()
            place = find_place(path, dataset, crs)
        self._lie_at(place, dataset.shape)
        self.notes += place.notes
        self._colours = colours_of_values(dataset)
        self.dtype = np.dtype(np.uint8)
        if self._colours is None:
            self.dtype = np.dtype(dataset.dtypes[self._bands.colours[0] - 1])
        grey = self._colours is None or not np.ptp(self._colours[:, :3], axis=1).any()
        if grey and len(self._bands.colours) == 1:
            self.notes.append("is grey: the net was trained on colour and misses roads in grey")
        turned = orientation(path, dataset)
        if turned not in ("0", "1"):
            self.notes.append(f"is mapped as stored; its EXIF orientation {turned} is not applied")

    def read_values(self, top: int, bottom: int) -> tuple[NDArray[Any], Bool]:
        values, missing = self._read_values(top, bottom)
        row, (from_top, from_bottom) = np.arange(top, bottom)[:, None], self._black_columns
        missing |= (row < from_top) | (row >= self.height - from_bottom) | black_ends(values)
        return values, missing

    def _read_values(self, top: int, bottom: int) -> tuple[NDArray[Any], Bool]:
        """Values as stored or looked up in `_colours`, and where imagery is missing.

        Black collars are not considered yet.
        """
        window = Window(0, top, self.width, bottom - top)
        with naming_errors(self.path):
            values = self._read_bands(window)
            missing = self._read_missing(values, window)
        if self._colours is not None:
            colours = self._colours[values[..., 0]]
            missing |= colours[..., 3] < OPAQUE
            values = np.ascontiguousarray(colours[..., :3])
        return values, missing

    @functools.cached_property
    def _black_columns(self) -> NDArray[np.int64]:
        """The height of the black collar at the top and bottom of each column: (2, width).

        The whole picture is read only if there is one.
        """

        def lit(top: int, bottom: int) -> Bool:
            rows: Bool = np.any(self._read_values(top, min(bottom, self.height))[0], axis=2)
            return rows

        runs = np.zeros((2, self.width), np.int64)
        shortest = min(COLLAR, self.height)
        edges = (lit(top, top + shortest) for top in (0, self.height - shortest))
        if all(edge.any(axis=0).all() for edge in edges):
            return runs
        seen = np.zeros(self.width, np.bool_)
        step = strip_rows(self.width)
        for top in range(0, self.height, step):
            rows = lit(top, top + step)
            dark = ~rows.any(axis=0)
            runs[0, ~seen] += np.where(dark, len(rows), rows.argmax(axis=0))[~seen]
            runs[1] = np.where(dark, runs[1] + len(rows), rows[::-1].argmax(axis=0))
            seen |= ~dark
        runs[runs < shortest] = 0
        return runs

    def _read_missing(self, values: NDArray[Any], window: Window) -> Bool:
        """Where pixels are nodata in all bands, NaN in any, masked out or transparent.

        GDAL's own mask reflects only one of these at a time.
        """
        flags = self._dataset.mask_flag_enums[0]
        missing = np.zeros(values.shape[:2], np.bool_)
        if values.dtype.kind == "f":
            missing |= ~np.isfinite(values).all(axis=2)
        if MaskFlags.per_dataset in flags and MaskFlags.alpha not in flags:
            missing |= self._dataset.read_masks(1, window=window) < OPAQUE
        if self._mask is not None:
            missing |= self._mask.read(1, window=window) < OPAQUE
        if self._dataset.nodata is not None:
            missing |= (values == self._dataset.nodata).all(axis=2)
        if self._bands.alpha is not None:
            missing |= self._dataset.read(self._bands.alpha, window=window) < self._bands.opaque
        return missing

    def _read_bands(self, window: Window) -> NDArray[Any]:
        if not self.whole_jpeg:
            bands = self._dataset.read(self._bands.colours, window=window)
            return np.ascontiguousarray(np.moveaxis(bands, 0, 2))
        left, top = window.col_off, window.row_off
        rows = self._jpeg.crop((left, top, left + window.width, top + window.height))
        image, chosen = np.array(rows.convert("RGB")), [n - 1 for n in self._bands.colours]
        return image if chosen == [0, 1, 2] else image.take(chosen, axis=2)

    def _is_jpeg(self) -> bool:
        """Whether it is a JPEG, or a TIFF of subsampled JPEGs, small enough for Pillow."""
        compression = structure_of(self._dataset).get("COMPRESSION")
        if self._dataset.driver != "JPEG" and compression != "YCbCr JPEG":
            return False
        height, width = self._dataset.shape
        if height * width > WHOLE_JPEG:
            self.notes.append(f"is a JPEG {GDAL_DECODES}")
            return False
        return True

    @functools.cached_property
    def _jpeg(self) -> Image.Image:
        """The whole JPEG, decoded as in the stages."""
        return load_picture(self.path, "Replace the file.").picture


@contextlib.contextmanager
def open_raster(
    path: Path, bands: Sequence[int] | None = None, crs: str | None = None
) -> Iterator[FileRaster]:
    """Open a picture for reading by rows.

    Args:
        path: the file.
        bands: the numbers, from 1, of its grey band, or of red, green and blue; by default as
            tagged in the file.
        crs: the coordinate system of a picture without one, such as EPSG:26986.

    Raises:
        UserError: as `FileRaster`; or the file is missing, in no known format, or has several
            pictures.
    """
    with quiet_gdal(), open_file(path, bands, crs) as raster:
        raster.stretch()
        yield raster


@contextlib.contextmanager
def open_file(
    path: Path, bands: Sequence[int] | None, crs: str | None, whole_jpeg: bool = True
) -> Iterator[FileRaster]:
    """As `open_raster`, but without stretching the values; to be called within `quiet_gdal`."""
    driver, real = driver_of(path), path.resolve()
    masks = (real.with_name(real.name + suffix) for suffix in MASK_SUFFIXES)
    mask_path = next(filter(Path.is_file, masks), None)
    with contextlib.ExitStack() as stack:
        if driver == "BMP":  # the driver looks for other files next to the picture
            alone = Path(stack.enter_context(TemporaryDirectory()), path.name)
            alone.symlink_to(real)
            real = alone
        with naming_errors(path):
            dataset = rasterio.open(real, driver=driver, sharing=False)
        with dataset, open_mask(mask_path, dataset.shape) as mask:
            if dataset.driver == "GTiff" and dataset.subdatasets:
                first = copied(path, f"GTIFF_DIR:1:{path}", "_1")
                raise UserError(
                    f"{path} contains several pictures. Save each to its own file: {first}, and so "
                    "on."
                )
            raster = FileRaster(path, dataset, mask, bands, crs, whole_jpeg)
            if mask_path and mask is None:
                raster.notes.append(
                    f"is mapped without {mask_path.name}, which is not a GDAL mask of its size"
                )
            yield raster
