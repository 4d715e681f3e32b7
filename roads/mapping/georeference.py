"""Where on the Earth a picture lies: world files, metres per pixel, longitude and latitude."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_coordinates

from roads.runtime.arrays import Float64

ToLonLat = Callable[[Float64, Float64], tuple[Float64, Float64]]  # columns, rows → degrees

LONGITUDE_LATITUDE = CRS.from_epsg(4326)
WORLD_FILE_BYTES = 1000  # six numbers, each in a line
STEP = 8  # pixels to either side of the middle over which a pixel is measured


def lonlat_converter(crs: CRS | None, transform: Affine) -> ToLonLat | None:
    """The function from columns and rows to longitudes and latitudes in degrees (WGS 84).

    Columns and rows are arrays counted from the picture's upper left corner, so that a pixel's
    centre is at + 0.5. None where the picture has no coordinate system, or one of its own (a
    building site's) that leads to no place on the Earth.
    """
    if crs is None:
        return None

    def to_lonlat(columns: Float64, rows: Float64) -> tuple[Float64, Float64]:
        x, y = transform @ (columns, rows)
        lon, lat = transform_coordinates(crs, LONGITUDE_LATITUDE, x, y)
        return np.asarray(lon), np.asarray(lat)

    try:
        lon, lat = to_lonlat(np.zeros(1), np.zeros(1))
    except (RasterioError, CPLE_BaseError):
        return None
    return to_lonlat if np.isfinite([lon, lat]).all() else None


def read_world_file(picture: Path) -> Affine | None:
    """From columns and rows to coordinates, by the world file of a picture; None without one.

    That of `a.tif` is `a.tfw`, `a.tifw` or `a.wld`, in small or capital letters. One that does not
    hold six numbers is passed over, as GDAL does.
    """
    ending = picture.suffix[1:]
    for suffix in (f"{ending[:1]}{ending[-1:]}w", f"{ending}w", "wld"):
        for path in (picture.with_suffix(f".{each}") for each in (suffix.lower(), suffix.upper())):
            if path.is_file():
                with contextlib.suppress(ValueError), path.open(encoding="ascii") as stream:
                    lines = stream.read(WORLD_FILE_BYTES).replace(",", ".").split()
                    a, d, b, e, c, f = map(float, lines[:6])
                    place = Affine(a, b, c, d, e, f) @ Affine.translation(-0.5, -0.5)
                    if np.isfinite(place).all() and not place.is_degenerate:
                        return place
    return None


def metres_per_pixel(to_lonlat: ToLonLat, height: int, width: int) -> tuple[float, float]:
    """Metres on the ground from a row to the next, and from a column to the next.

    Measured on the WGS 84 ellipsoid in the middle of the picture, so it is right for feet, for
    degrees, and for Web Mercator, whose metres shrink with the latitude.
    """
    columns = width / 2 + np.array([0, 0, 0, -STEP, STEP])
    rows = height / 2 + np.array([0, -STEP, STEP, 0, 0])
    lon, lat = to_lonlat(columns, rows)
    around = CRS.from_dict(proj="aeqd", lon_0=lon[0], lat_0=lat[0], ellps="WGS84", units="m")
    x, y = transform_coordinates(LONGITUDE_LATITUDE, around, lon, lat)
    down, across = np.hypot(np.diff(x), np.diff(y))[[1, 3]] / (2 * STEP)
    return float(down), float(across)
