"""Where on the Earth a picture lies: its place, metres per pixel, longitude and latitude."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote

import numpy as np
from rasterio import Affine
from rasterio._err import CPLE_BaseError
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import RasterioError
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_coordinates

from roads.mapping.sidecars import read_sidecars
from roads.runtime.arrays import Float64
from roads.runtime.errors import UserError

ToLonLat = Callable[[Float64, Float64], tuple[Float64, Float64]]  # columns, rows → degrees

LONGITUDE_LATITUDE = CRS.from_epsg(4326)
STEP = 8  # pixels to either side of the middle over which a pixel is measured
WORLD_FILE_FIRST = ("PNG", "BMP")  # the GDAL drivers that take it before an .aux.xml
MOST_OFF = 2.0  # pixels by which an affine transform may miss a control point
SAME_PLACE = 1e-6  # degrees, a tenth of a metre
WARPED = "EPSG:3857"  # Web Mercator, which all maps can be warped to; any other will do


@dataclass(frozen=True)
class Place:
    """Where a picture lies.

    Attributes:
        crs: its coordinate system; None if unknown.
        transform: from columns and rows to coordinates; the identity if unknown.
        to_lonlat: from columns and rows to degrees; None if unknown.
        metres: on the ground, from row to row and from column to column. Without a transform None;
            without a coordinate system that leads to the Earth, by the transform's own unit, or
            the metre.
        notes: what the user should know of it.
    """

    crs: CRS | None
    transform: Affine
    to_lonlat: ToLonLat | None
    metres: tuple[float, float] | None
    notes: list[str]


def find_place(path: Path, dataset: DatasetReader, code: str | None) -> Place:
    """Where a picture lies, by the file itself and those next to it.

    As in GDAL, an `.aux.xml` counts before the file itself, and that before a world file; only
    PNG and BMP are placed by a world file first. Control points are used where there is no
    transform, and a `.prj` where no other file names a coordinate system.

    Args:
        path: the picture.
        dataset: the same, open.
        code: the coordinate system of pictures without one, such as EPSG:26986.

    Raises:
        UserError: the picture has another coordinate system than `code`, control points that no
            affine transform fits, or coordinates that are nowhere on the Earth.
    """
    beside = read_sidecars(path.resolve())
    unknown = dataset.transform.is_identity or dataset.transform.is_degenerate
    order = [beside.transform, None if unknown else dataset.transform, beside.world]
    if dataset.driver in WORLD_FILE_FIRST:
        order.reverse()
    transform = next((each for each in order if each is not None), None)
    crs = beside.crs or dataset.crs or beside.prj
    points, points_crs = dataset.gcps
    if beside.points:
        points, points_crs = beside.points, beside.points_crs
    notes = beside.notes
    if transform is None and points:
        transform, note = _fit(path, points, points_crs)
        crs = points_crs or crs
        notes.append(note)
    elif transform is None and dataset.rpcs is not None:
        notes.append(
            "is mapped in pixels: its RPCs place it only with the height of the land. For a place "
            f"on the Earth, orthorectify it first, by GDAL's own `gdalwarp -rpc -t_srs {WARPED} "
            f"-to RPC_HEIGHT={dataset.rpcs.height_off:g} {quote(str(path))} OUT.tif`"
        )
    elif transform is None and (crs or code):
        notes.append("does not say where in its coordinate system it lies: it is mapped in pixels")
    if transform is None:
        return Place(dataset.crs, Affine.identity(), None, None, notes)
    crs = _agreed(path, crs, code, transform, dataset.shape)
    place = place_at(crs, transform, dataset.shape, notes)
    if crs and place.to_lonlat is None and (code or crs.is_geographic):
        raise UserError(
            f"{path} lies nowhere on the Earth by {crs.to_string()}: its upper left corner is at "
            f"{transform.c:.10g}, {transform.f:.10g}. Say its coordinate system with --crs."
        )
    return place


def place_at(crs: CRS | None, transform: Affine, shape: tuple[int, int], notes: list[str]) -> Place:
    """The place of a picture whose coordinate system and transform are known."""
    to_lonlat = lonlat_converter(crs, transform, shape)
    if to_lonlat:
        metres = metres_per_pixel(to_lonlat, *shape)
    else:
        unit = crs.units_factor[1] if crs else 1.0
        metres = (
            unit * float(np.hypot(transform.b, transform.e)),
            unit * float(np.hypot(transform.a, transform.d)),
        )
    return Place(crs, transform, to_lonlat, metres, notes)


def _fit(
    path: Path, points: Sequence[GroundControlPoint], crs: CRS | None
) -> tuple[Affine | None, str]:
    """The affine transform that fits control points best, if they have one; and a note on it.

    Raises:
        UserError: it misses a point by more than MOST_OFF pixels.
    """
    many = f"{len(points)} control points"
    nowhere = None, f"has {many}, which do not place it"
    pixels = np.array([(each.col, each.row) for each in points])
    coordinates = np.array([(each.x, each.y) for each in points])
    if (
        not np.isfinite([pixels, coordinates]).all()
        or np.linalg.matrix_rank(pixels - pixels.mean(axis=0), tol=1) < 2  # all in a line
    ):
        return nowhere
    terms = np.column_stack([pixels, np.ones(len(points))])
    transform = Affine(*np.linalg.lstsq(terms, coordinates)[0].T.ravel().tolist())
    if transform.is_degenerate:
        return nowhere
    off = np.hypot(*(~transform @ coordinates.T - pixels.T)).max()
    if off <= MOST_OFF:
        return transform, f"is placed by {many}; an affine transform fits them to {off:.2f} pixels"
    if crs is None:
        return nowhere
    raise UserError(
        f"{path} has {many}, which an affine transform misses by up to {off:.1f} pixels. Warp it "
        f"first: `rio warp --dst-crs {WARPED} {quote(str(path))} OUT.tif`."
    )


def _agreed(
    path: Path, own: CRS | None, code: str | None, transform: Affine, shape: tuple[int, int]
) -> CRS | None:
    """A picture's own coordinate system, or that of `code` where it has none.

    Raises:
        UserError: the two would place the picture differently.
    """
    if code is None:
        return own
    given = CRS.from_string(code)
    theirs, ours = (lonlat_converter(crs, transform, shape) for crs in (own, given))
    if own is None or theirs is None:
        return given
    if not same_place(theirs, ours):
        name = f"EPSG:{own.to_epsg()}" if own.to_epsg() else own.to_wkt().split('"')[1]
        raise UserError(f"{path} says that it is in {name}, not {code}. Leave --crs out for it.")
    return own


def same_place(one: ToLonLat | None, other: ToLonLat | None) -> bool:
    """Whether both are known and place a picture's upper left corner alike."""
    if one is None or other is None:
        return False
    corner = np.zeros(1)
    return np.allclose(one(corner, corner), other(corner, corner), rtol=0, atol=SAME_PLACE)


def lonlat_converter(
    crs: CRS | None, transform: Affine, shape: tuple[int, int] = (0, 0)
) -> ToLonLat | None:
    """The function from columns and rows to longitudes and latitudes in degrees (WGS 84).

    Columns and rows are arrays counted from the picture's upper left corner, so that a pixel's
    centre is at + 0.5. None where the picture has no coordinate system, or one that leads to no
    place on the Earth: a building site's, or not for its corner or the middle of its `shape`.
    """
    if crs is None:
        return None

    def to_lonlat(columns: Float64, rows: Float64) -> tuple[Float64, Float64]:
        x, y = transform @ (columns, rows)
        lon, lat = transform_coordinates(crs, LONGITUDE_LATITUDE, x, y)
        return np.asarray(lon), np.asarray(lat)

    try:
        lon, lat = to_lonlat(*(np.array([0, length / 2]) for length in shape[::-1]))
    except (RasterioError, CPLE_BaseError):
        return None
    return to_lonlat if np.isfinite(lon).all() and (abs(lat) <= 90).all() else None


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
