"""Where on the Earth a picture lies: metres per pixel, longitude and latitude."""

import math
from collections.abc import Callable

import numpy as np
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.warp import transform as transform_coordinates

from roads.runtime.arrays import Float64

ToLonLat = Callable[[Float64, Float64], tuple[Float64, Float64]]  # columns, rows → degrees

LONGITUDE_LATITUDE = CRS.from_epsg(4326)
EQUATOR = 6_378_137.0  # metres: radius of the WGS 84 ellipsoid
ECCENTRICITY = 0.00669437999014  # of it, squared
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


def metres_per_pixel(to_lonlat: ToLonLat, height: int, width: int) -> tuple[float, float]:
    """Metres on the ground from a row to the next, and from a column to the next.

    Measured on the WGS 84 ellipsoid in the middle of the picture, so it is right for feet, for
    degrees, and for Web Mercator, whose metres shrink with the latitude.
    """
    row, column = height / 2, width / 2
    columns = np.array([column, column, column - STEP, column + STEP])
    rows = np.array([row - STEP, row + STEP, row, row])
    lon, lat = (np.radians(degrees) for degrees in to_lonlat(columns, rows))
    middle = float(lat.mean())
    flatness = 1 - ECCENTRICITY * math.sin(middle) ** 2
    north = EQUATOR * (1 - ECCENTRICITY) / flatness**1.5  # metres a radian, along a meridian
    east = EQUATOR / math.sqrt(flatness) * math.cos(middle)
    turn = 2 * math.pi
    around = (np.diff(lon)[[0, 2]] + math.pi) % turn - math.pi  # across the 180th meridian too
    down, across = np.hypot(around * east, np.diff(lat)[[0, 2]] * north) / (2 * STEP)
    return float(down), float(across)
