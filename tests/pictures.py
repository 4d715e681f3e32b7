"""Pictures in files to map roads in, and a net that finds them for sure."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio import Affine

from roads.mapping.opening import quiet_gdal
from roads.mapping.predicting import Model, Options
from roads.prediction.blending import Float32
from roads.runtime.arrays import Image8

UTM = "EPSG:32619"  # the Massachusetts Roads Dataset's part of the Earth; metres
CORNER = (300_000.0, 4_690_000.0)  # there, its upper left

VRT = """<VRTDataset rasterXSize="50" rasterYSize="40">
  <Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>
  <VRTRasterBand dataType="Byte" band="1"><SimpleSource>
    <SourceFilename relativeToVRT="0">{source}</SourceFilename><SourceBand>1</SourceBand>
  </SimpleSource></VRTRasterBand>
</VRTDataset>"""


def brightness(windows: Image8) -> Float32:
    """A net that sees single pixels: road is as probable as a pixel is bright."""
    return (windows.mean(axis=3) / 255).astype(np.float32)


BRIGHTNESS = Model(brightness, 2, "brightness", "0" * 64)


def options(**changes: Any) -> Options:
    """Small windows, and else as the command line has them."""
    values = {
        "gsd": None, "crs": None, "threshold": 0.5, "window": 64, "overlap": 16, "tta": False,
        "format": "tif", "spur": 15.0, "tolerance": 1.5, "join": 20.0,
    }  # fmt: skip
    return Options(**(values | changes))


def noise(height: int, width: int, bands: int = 3) -> Image8:
    """Dark noise, (height, width, bands) uint8."""
    return np.random.default_rng(0).integers(0, 60, (height, width, bands), np.uint8)


def crossing(height: int, width: int, row: int, column: int, half: int = 3) -> Image8:
    """Dark noise with a bright road across and one down that cross at (row, column)."""
    image = noise(height, width)
    image[row - half : row + half + 1] = 220
    image[:, column - half : column + half + 1] = 220
    return image


def write_tiff(path: Path, image: NDArray[Any], *, metres: float | None = None, **how: Any) -> Path:
    """Write (height, width, bands) as TIFF; with `metres` a pixel, as GeoTIFF in UTM."""
    place = {} if metres is None else {"crs": UTM, "transform": place_of(metres)}
    height, width, bands = image.shape
    shape = {"height": height, "width": width, "count": bands, "dtype": image.dtype}
    with quiet_gdal(), rasterio.open(path, "w", driver="GTiff", **(shape | place | how)) as dataset:
        dataset.write(np.moveaxis(image, 2, 0))
    return path


def place_of(metres: float) -> Affine:
    """The place of a north-up picture with its upper left at CORNER."""
    return Affine(metres, 0, CORNER[0], 0, -metres, CORNER[1])
