"""Converts an image or a map that is not 8-bit to a form that the stages read, in place.

    python -m roads.mapping.eight_bits image FILE [R,G,B]
    python -m roads.mapping.eight_bits map FILE

An image becomes 8-bit RGB, as in `roads predict`. A map becomes 255 where its first band is above
0. The result is a TIFF; the original is kept as FILE.original.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import rasterio

from roads.mapping.opening import ORIGINAL, driver_of, naming_errors, quiet_gdal
from roads.mapping.rasters import open_raster
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, ascii_controls, exit_status
from roads.runtime.files import replacing


def rewrite_image(path: Path, bands: Sequence[int] | None = None) -> None:
    """Convert an image to RGB, white where imagery is missing, and print the raster's notes."""
    with open_raster(path, bands) as raster:
        for note in raster.notes:
            print(ascii_controls(f"{path} {note}"))
        image, _ = raster.read_rows(0, raster.height)
        _replace(path, image, crs=raster.crs, transform=raster.transform)


def rewrite_map(path: Path) -> None:
    """Convert a map to one band, 255 where its first band is above 0 and not nodata."""
    with quiet_gdal(), naming_errors(path), rasterio.open(path, driver=driver_of(path)) as dataset:
        road = dataset.read(1, masked=True).filled(0)[..., None] > 0
        _replace(path, road * np.uint8(255), crs=dataset.crs, transform=dataset.transform)


def _replace(path: Path, pixels: Image8, **place: object) -> None:
    height, width, count = pixels.shape
    size = {"height": height, "width": width, "count": count, "dtype": "uint8"}
    how = {"driver": "GTiff", "compress": "deflate", "interleave": "pixel"}
    original, target = Path(f"{path}{ORIGINAL}"), path.with_suffix(".tif")
    for taken in (original, target):
        if taken != path and taken.exists():
            raise UserError(f"{taken} already exists. Move it away to convert {path}.")
    with replacing(target) as partial:
        with quiet_gdal(), rasterio.open(partial, "w", **(size | how | place)) as out:
            out.write(np.moveaxis(pixels, 2, 0))
        path.rename(original)


def main() -> None:
    """The command line above."""
    kind, name, *bands = sys.argv[1:]
    if kind == "map":
        rewrite_map(Path(name))
    else:
        rewrite_image(Path(name), [int(n) for n in bands[0].split(",")] if bands else None)


if __name__ == "__main__":
    sys.exit(exit_status(main))
