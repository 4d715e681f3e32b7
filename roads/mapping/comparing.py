"""Compares a road map with another: what the other one lacks, and what it has that was not found.

All is done in metres, in a transverse Mercator projection around a point of the prediction:
distances are right to 1e-4 within 90 km of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.enums import ColorInterp
from rasterio.features import shapes
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_coordinates
from rasterio.windows import Window
from shapely.geometry import shape

from roads.graph.matching import STEP, Lines, Match, Pieces, match_maps
from roads.graph.tracing import CERTAIN, trace_roads
from roads.mapping.georeference import LONGITUDE_LATITUDE, Place, find_place
from roads.mapping.layers import FORMATS as LINE_FORMATS
from roads.mapping.layers import has_lines, read_lines
from roads.mapping.opening import (
    FORMATS,
    check_size,
    driver_of,
    is_picture,
    naming_errors,
    quiet_gdal,
)
from roads.mapping.outputs import read_facts
from roads.mapping.resampling import strip_rows
from roads.params.evaluate import read_evaluate
from roads.runtime.arrays import Bool, Float64
from roads.runtime.errors import UserError

WITHIN = 8.0  # metres
OF_A_MAP = ("_roads", "_mask")  # end the names of the files of `roads predict` that have roads
AREA_SIDE = 2048  # pixels; missing imagery is looked for in a copy that is no larger
SIDE_STEPS = 100  # points on the border of an area, which a projection may bend, a side


@dataclass(frozen=True)
class Side:
    """One of the two maps.

    Attributes:
        path: its file.
        lines: (n,) LineStrings.
        crs: what coordinates are in.
        area: where roads were looked for; None if unknown.
        probability: of each line, NaN where unknown.
        notes: what the user should know of it.
    """

    path: Path
    lines: Lines
    crs: CRS
    area: shapely.Geometry | None
    probability: Float64
    notes: list[str]


class Ranked(NamedTuple):
    """Pieces of road, those to look at first come first, and their probabilities (NaN: unknown)."""

    pieces: Pieces
    probability: Float64


@dataclass(frozen=True)
class Comparison:
    """Two maps, compared.

    Attributes:
        match: all pieces, in metres.
        layers: by name, what the reference lacks (the longest and most probable first), what the
            prediction lacks (the longest and least probable first), and the matched pieces of the
            prediction (the farthest off first).
        crs: of the prediction.
        metric: of the pieces.
        area: where the maps were compared, in words.
        notes: what the user should know of the two maps.
    """

    match: Match
    layers: dict[str, Ranked]
    crs: CRS
    metric: CRS
    area: str
    notes: list[str]


def map_of(path: Path) -> tuple[str, Path | None]:
    """The name of the map that a file is of, and its probability if `roads predict` made it."""
    name = path.stem
    for ending in OF_A_MAP:
        name = name.removesuffix(ending)
    sizes = read_facts(path.with_name(f"{name}.json")).get("files", {})
    raster = path.with_name(f"{name}_probability.tif")
    return name, raster if raster.name in sizes and raster.is_file() else None


def compare_maps(
    prediction: Path,
    reference: Path,
    *,
    within: float = WITHIN,
    crs: str | None = None,
    layer: str | None = None,
) -> Comparison:
    """Compare two files of lines, or rasters in which roads are bright.

    Args:
        prediction: roads or mask by `roads predict`, or any other map.
        reference: the map that may lack roads.
        within: metres between matched roads, at most.
        crs: the coordinate system of files without one, such as EPSG:26986.
        layer: that of the reference, if several of its layers have lines.

    Raises:
        UserError: a file cannot be read, one does not say where it lies, or the two lie apart.
    """
    with quiet_gdal():
        ours, theirs = _read_side(prediction, crs, None), _read_side(reference, crs, layer)
        _, raster = map_of(prediction)
        with naming_errors(prediction):
            metric = _metric(ours)
            found = projected(ours.lines, ours.crs, metric)
            area, said = _area(ours, raster, found, metric, within, crs)
        with naming_errors(reference):
            if theirs.area:
                area &= projected(theirs.area, theirs.crs, metric)
                said += f" and {reference} has pixels"
            box = shapely.box(*projected(area, metric, theirs.crs).bounds)
            near = shapely.intersects(theirs.lines, box)  # an extract may be of the whole Earth
            known = projected(theirs.lines[near], theirs.crs, metric)
        if not shapely.intersects(known, area).any():
            raise UserError(
                f"{reference} has no road where {prediction} lies. Look at both in a GIS."
            )
        match = match_maps(_clipped(found, area), _clipped(known, area), within)

        def along(pieces: Pieces) -> Float64:
            points, owner = shapely.get_coordinates(
                shapely.segmentize(pieces.lines, STEP), return_index=True
            )
            if raster:
                values = _read_probability(raster, points, metric, crs)
            else:
                nearest = shapely.STRtree(found).nearest(shapely.points(points))
                values = ours.probability[nearest]
            return np.bincount(owner, values) / np.bincount(owner)

        missing, matched = along(match.missing), along(match.matched)
        unseen = along(match.unseen) if raster else np.full(len(match.unseen.lines), np.nan)
    sure, unsure = np.nan_to_num(missing, nan=1.0), 1 - np.nan_to_num(unseen)
    layers = {
        "missing_in_map": _ranked(match.missing, missing, match.missing.lengths * sure),
        "not_seen": _ranked(match.unseen, unseen, match.unseen.lengths * unsure),
        "matched": _ranked(match.matched, matched, match.matched.distances),
    }
    notes = [f"{side.path} {note}" for side in (ours, theirs) for note in side.notes]
    return Comparison(match, layers, ours.crs, metric, said, notes)


def projected(geometry: Any, source: CRS, target: CRS) -> Any:
    """A geometry, or an array of them, in another coordinate system."""

    def convert(points: Float64) -> Float64:
        return np.stack(transform_coordinates(source, target, *points.T), axis=1)

    return shapely.transform(geometry, convert)


def _ranked(pieces: Pieces, probability: Float64, worth: Float64) -> Ranked:
    order = np.argsort(-worth, kind="stable")
    return Ranked(pieces.pick(order), probability[order])


def _read_side(path: Path, crs: str | None, layer: str | None) -> Side:
    if path.is_file() and has_lines(path):
        file = read_lines(path, layer)
        system = file.crs or (crs and CRS.from_string(crs)) or _unknown(path)
        return Side(path, file.lines, system, None, file.probability, file.notes)
    if path.is_file() and not is_picture(path):
        raise UserError(f"{path} is neither {LINE_FORMATS} nor a raster: {FORMATS}")
    with naming_errors(path), _open(path) as dataset:
        check_size(path, dataset)
        place = _place(path, dataset, crs)
        if place.metres is None:
            raise UserError(f"{path} does not say where it lies. Georeference it first.")
        lines = _trace(dataset, place.metres, place.transform)
        area = _imagery(dataset, place.transform)
    if not len(lines):
        raise UserError(f"{path} has no roads")
    return Side(
        path, lines, place.crs or _unknown(path), area, np.full(len(lines), np.nan), place.notes
    )


def _unknown(path: Path) -> CRS:
    raise UserError(f"{path} does not say its coordinate system. Say it with --crs.")


def _place(path: Path, dataset: DatasetReader, crs: str | None) -> Place:
    """Where a raster lies; `crs` is for one without a coordinate system."""
    place = find_place(path, dataset, None)
    return find_place(path, dataset, crs) if place.crs is None else place


def _open(path: Path) -> DatasetReader:
    return rasterio.open(path.resolve(), driver=driver_of(path), sharing=False)


def _trace(dataset: DatasetReader, metres: tuple[float, float], transform: Affine) -> Lines:
    """The centrelines of what is brighter than half of the brightest pixel, in any band."""
    colours = [
        band
        for band, kind in zip(dataset.indexes, dataset.colorinterp, strict=True)
        if kind != ColorInterp.alpha
    ]
    height, width = dataset.shape
    step = strip_rows(width)

    def read(top: int, bottom: int) -> NDArray[Any]:
        rows: NDArray[Any] = dataset.read(colours, window=Window(0, top, width, bottom - top))
        return rows.max(axis=0)

    half = max(read(top, min(top + step, height)).max() for top in range(0, height, step)) / 2
    how = read_evaluate()
    graph = trace_roads(
        lambda top, bottom: read(top, bottom) > half,
        lambda top, bottom: np.full((bottom - top, width), CERTAIN, np.uint16),
        height,
        width,
        metres=metres,
        spur=how.spur,
        tolerance=how.tolerance,
    )
    to_xy = [transform.a, transform.b, transform.d, transform.e, transform.c, transform.f]
    lines = [shapely.LineString(edge.line[:, ::-1] + 0.5) for edge in graph.edges]
    return np.array([shapely.affinity.affine_transform(line, to_xy) for line in lines], object)


def _imagery(dataset: DatasetReader, transform: Affine) -> shapely.Geometry:
    """Where a raster is not masked out, in its coordinates."""
    shrink = max(1, max(dataset.shape) / AREA_SIDE)
    height, width = (max(1, round(side / shrink)) for side in dataset.shape)
    valid: Bool = dataset.read_masks(1, out_shape=(height, width)) > 0
    scale = Affine.scale(dataset.width / width, dataset.height / height)
    found = shapes(valid.astype(np.uint8), valid, transform=transform @ scale)
    area = shapely.union_all([shape(each) for each, _ in found])
    return shapely.segmentize(area, max(area.length / 4 / SIDE_STEPS, 1e-9))


def _metric(side: Side) -> CRS:
    """A projection in metres around a point of a map."""
    points = shapely.get_coordinates(side.lines)
    (lon,), (lat,) = transform_coordinates(
        side.crs, LONGITUDE_LATITUDE, *points[len(points) // 2, :, None]
    )
    return CRS.from_dict(proj="tmerc", lon_0=lon, lat_0=lat, ellps="WGS84", units="m")


def _area(
    side: Side, raster: Path | None, lines: Lines, metric: CRS, within: float, crs: str | None
) -> tuple[shapely.Geometry, str]:  # fmt: skip
    """Where a prediction looked for roads, and how that is known."""
    if side.area:
        return projected(side.area, side.crs, metric), f"where {side.path} has pixels"
    if raster:
        with naming_errors(raster), _open(raster) as dataset:
            place = _place(raster, dataset, crs)
            area = _imagery(dataset, place.transform)
        return projected(area, place.crs, metric), f"where {raster} has imagery"
    box = shapely.box(*shapely.total_bounds(lines)).buffer(within, join_style="mitre")
    return box, f"in the bounding box of {side.path} and {within:g} m around it"


def _clipped(lines: Lines, area: shapely.Geometry) -> Lines:
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(lines, area)))
    return parts[shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING]


def _read_probability(path: Path, points: Float64, metric: CRS, crs: str | None) -> Float64:
    """The probability at points, (n, 2); beyond the raster, that at its border."""
    with naming_errors(path), _open(path) as dataset:
        place = _place(path, dataset, crs)
        moved = shapely.get_coordinates(projected(shapely.points(points), metric, place.crs))
        columns, rows = (np.floor(each).astype(np.int64) for each in ~place.transform @ moved.T)
        height, width = dataset.shape
        rows, columns = rows.clip(0, height - 1), columns.clip(0, width - 1)
        values = np.empty(len(points))
        step = strip_rows(width)
        for strip in np.unique(rows // step):
            here = rows // step == strip
            window = Window(0, strip * step, width, min(step, height - strip * step))
            band = dataset.read(1, window=window)
            values[here] = band[rows[here] - strip * step, columns[here]]
    return values / CERTAIN
