"""Where a picture lies on the Earth: its place, metres per pixel, longitude and latitude."""

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
STEP = 8  # the size of a pixel is measured over this many pixels on both sides of the middle
WORLD_FILE_FIRST = ("PNG", "BMP")  # GDAL drivers that prefer a world file to an .aux.xml
MOST_OFF = 2.0  # pixels by which an affine transform may miss a control point
SAME_PLACE = 1e-6  # degrees, a tenth of a metre
WARPED = "EPSG:3857"  # Web Mercator, as an example: every map can be warped to it


@dataclass(frozen=True)
class Place:
    """Where a picture lies.

    Attributes:
        crs: its coordinate system; None if unknown.
        transform: from columns and rows to coordinates; the identity if unknown.
        to_lonlat: from columns and rows to degrees; None if unknown.
        metres: height and width of a pixel on the ground; None without a transform. If the
            coordinate system is unknown or local, in its unit, or else in the transform's.
        notes: remarks for the user.
    """

    crs: CRS | None
    transform: Affine
    to_lonlat: ToLonLat | None
    metres: tuple[float, float] | None
    notes: list[str]


def find_place(path: Path, dataset: DatasetReader, code: str | None) -> Place:
    """Find where a picture lies from the file itself and its sidecars.

    The order is GDAL's: an `.aux.xml`, the file itself, a world file; for PNG and BMP the world
    file comes first. Control points are used only without a transform, and a `.prj` only if no
    other file names a coordinate system.

    `code` is the coordinate system of pictures without one, such as EPSG:26986.

    Raises:
        UserError: the picture has another coordinate system than `code`, control points that no
            affine transform fits, or coordinates outside the Earth.
    """
    sidecars = read_sidecars(path.resolve())
    unknown = dataset.transform.is_identity or dataset.transform.is_degenerate
    order = [sidecars.transform, None if unknown else dataset.transform, sidecars.world]
    if dataset.driver in WORLD_FILE_FIRST:
        order.reverse()
    transform = next((each for each in order if each is not None), None)
    crs = sidecars.crs or dataset.crs or sidecars.prj
    points, points_crs = dataset.gcps
    if sidecars.points:
        points, points_crs = sidecars.points, sidecars.points_crs
    notes = sidecars.notes
    if transform is None and points:
        transform, note = _fit(path, points, points_crs)
        crs = points_crs or crs
        notes.append(note)
    elif transform is None and dataset.rpcs is not None:
        notes.append(
            "is mapped in pixels: to place it with its RPCs, terrain heights are needed. To "
            f"georeference it, orthorectify it first with GDAL: `gdalwarp -rpc -t_srs {WARPED} "
            f"-to RPC_HEIGHT={dataset.rpcs.height_off:g} {quote(str(path))} OUT.tif`"
        )
    elif transform is None and (crs or code):
        notes.append("has a coordinate system but no transform: it is mapped in pixels")
    if transform is None:
        return Place(dataset.crs, Affine.identity(), None, None, notes)
    crs = _agreed(path, crs, code, transform, dataset.shape)
    place = place_at(crs, transform, dataset.shape, notes)
    if crs and place.to_lonlat is None and (code or crs.is_geographic):
        raise UserError(
            f"{path} is outside the Earth in {crs.to_string()}: its upper left corner is at "
            f"{transform.c:.10g}, {transform.f:.10g}. Set its coordinate system with --crs."
        )
    return place


def place_at(crs: CRS | None, transform: Affine, shape: tuple[int, int], notes: list[str]) -> Place:
    """The place of a picture with this coordinate system and transform."""
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
    """The affine transform that best fits control points, or None; and a note.

    Raises:
        UserError: it misses a point by more than MOST_OFF pixels.
    """
    many = f"{len(points)} control points"
    nowhere = None, f"has {many}, which do not place it"
    pixels = np.array([(each.col, each.row) for each in points])
    coordinates = np.array([(each.x, each.y) for each in points])
    if (
        not np.isfinite([pixels, coordinates]).all()
        or np.linalg.matrix_rank(pixels - pixels.mean(axis=0), tol=1) < 2  # all on one line
    ):
        return nowhere
    terms = np.column_stack([pixels, np.ones(len(points))])
    transform = Affine(*np.linalg.lstsq(terms, coordinates)[0].T.ravel().tolist())
    if transform.is_degenerate:
        return nowhere
    off = np.hypot(*(~transform @ coordinates.T - pixels.T)).max()
    if off <= MOST_OFF:
        return transform, f"is placed by {many}, with an error of at most {off:.2f} pixels"
    if crs is None:
        return nowhere
    raise UserError(
        f"{path} has {many}, which an affine transform misses by up to {off:.1f} pixels. Warp it "
        f"first: `rio warp --dst-crs {WARPED} {quote(str(path))} OUT.tif`."
    )


def _agreed(
    path: Path, own: CRS | None, code: str | None, transform: Affine, shape: tuple[int, int]
) -> CRS | None:
    """A picture's own coordinate system, or `code` if it has none.

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
        raise UserError(f"{path} is in {name}, not {code}. Map it without --crs.")
    return own


def same_place(one: ToLonLat | None, other: ToLonLat | None) -> bool:
    """Whether both are known and put a picture's upper left corner in the same place."""
    if one is None or other is None:
        return False
    corner = np.zeros(1)
    return np.allclose(one(corner, corner), other(corner, corner), rtol=0, atol=SAME_PLACE)


def lonlat_converter(
    crs: CRS | None, transform: Affine, shape: tuple[int, int] = (0, 0)
) -> ToLonLat | None:
    """The function from columns and rows to longitudes and latitudes in degrees (WGS 84).

    Columns and rows are arrays counted from the picture's upper left corner, so a pixel's centre
    is at + 0.5. None if the coordinate system is unknown or local, or the picture's corner or the
    middle of its `shape` is outside the Earth.
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
    """The height and width of a pixel in metres on the ground.

    They are measured on the WGS 84 ellipsoid in the middle of the picture, so they are right for
    feet, for degrees, and for Web Mercator, whose scale depends on the latitude.
    """
    columns = width / 2 + np.array([0, 0, 0, -STEP, STEP])
    rows = height / 2 + np.array([0, -STEP, STEP, 0, 0])
    lon, lat = to_lonlat(columns, rows)
    around = CRS.from_dict(proj="aeqd", lon_0=lon[0], lat_0=lat[0], ellps="WGS84", units="m")
    x, y = transform_coordinates(LONGITUDE_LATITUDE, around, lon, lat)
    down, across = np.hypot(np.diff(x), np.diff(y))[[1, 3]] / (2 * STEP)
    return float(down), float(across)
