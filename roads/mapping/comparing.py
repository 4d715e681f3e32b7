"""Compares two road maps: which roads the other map lacks, and which the prediction lacks.

Everything is computed in metres, in a transverse Mercator projection around the prediction. Its
distances are right to 1e-4 within 90 km.
"""

import re
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
from rasterio.errors import CRSError
from rasterio.features import shapes
from rasterio.io import DatasetReader
from rasterio.warp import transform as transform_coordinates
from rasterio.windows import Window
from shapely.geometry import shape

from roads.graph.matching import STEP, WITHIN, Lines, Match, Pieces, match_maps
from roads.graph.tracing import CERTAIN, trace_roads
from roads.mapping.georeference import LONGITUDE_LATITUDE, Place, find_place
from roads.mapping.layers import FORMATS as LINE_FORMATS
from roads.mapping.layers import LineMap, has_lines, read_lines
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
from roads.mapping.vectors import converter, road_lines
from roads.params.evaluate import read_evaluate
from roads.runtime.arrays import Bool, Float64
from roads.runtime.errors import UserError

MAP_ENDING = "_(roads|mask)$"  # of the files of `roads predict` that show roads
AREA_SIDE = 2048  # pixels; missing imagery is searched for in a copy of at most this size
SIDE_STEPS = 100  # points on each side of an area, because a projection may bend it


class Ranked(NamedTuple):
    """Pieces of road, the most interesting first, and their probabilities (NaN if unknown)."""

    pieces: Pieces
    probability: Float64


@dataclass(frozen=True)
class Comparison:
    """The result of a comparison of two maps.

    Attributes:
        match: all pieces, in metres.
        layers: by name: roads missing from the reference (the longest and most probable first),
            roads not seen by the prediction (the longest and least probable first), and matched
            pieces of the prediction (the largest offset first).
        crs: of the prediction.
        metric: of the pieces.
        area: where the maps were compared, in words.
        notes: remarks on the two maps for the user.
    """

    match: Match
    layers: dict[str, Ranked]
    crs: CRS
    metric: CRS
    area: str
    notes: list[str]


def map_of(path: Path) -> tuple[str, Path | None]:
    """The name of a file's map, and the map's probability file if `roads predict` wrote it."""
    name = re.sub(MAP_ENDING, "", path.stem)
    raster = path.with_name(f"{name}_probability.tif")
    listed = read_facts(path.with_name(f"{name}.json")).get("files", {})
    return name, raster if raster.name in listed and raster.is_file() else None


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
        within: the largest distance between matched roads, in metres.
        crs: the coordinate system of files without one, such as EPSG:26986.
        layer: the layer to read of a file in which several have lines.

    Raises:
        UserError: a file cannot be read or has no known place, or the two do not overlap.
    """
    with quiet_gdal():
        ours, theirs = (_read_map(path, crs, layer) for path in (prediction, reference))
        with naming_errors(prediction):
            points = shapely.get_coordinates(ours.lines)
            middle = points[len(points) // 2, :, None]
            (lon,), (lat,) = transform_coordinates(ours.crs, LONGITUDE_LATITUDE, *middle)
            if not abs(lat) <= 90:
                raise CRSError("its coordinates are outside of its coordinate system")
            metric = CRS.from_dict(proj="tmerc", lon_0=lon, lat_0=lat, ellps="WGS84", units="m")
            found = projected(ours.lines, ours.crs, metric)
        area, said = _area(prediction, reference, found, metric, within, crs)
        with naming_errors(reference):
            box = shapely.box(*projected(_bendable(area), metric, theirs.crs).bounds)
            near = shapely.intersects(theirs.lines, box)  # the file may cover the whole Earth
            known = projected(theirs.lines[near], theirs.crs, metric)
        if not shapely.intersects(known, area).any():
            raise UserError(
                f"{reference} has no road in the area of {prediction}. Look at both in a GIS."
            )
        match = match_maps(_clipped(found, area), _clipped(known, area), within)
        raster = map_of(prediction)[1]

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
        "missing_from_map": _ranked(match.missing, missing, match.missing.lengths * sure),
        "not_seen": _ranked(match.unseen, unseen, match.unseen.lengths * unsure),
        "matched": _ranked(match.matched, matched, match.matched.distances),
    }
    both = (prediction, ours), (reference, theirs)
    notes = [f"{path} {note}" for path, side in both for note in side.notes]
    return Comparison(match, layers, ours.crs, metric, said, notes)


def projected(geometry: Any, source: CRS, target: CRS) -> Any:
    """A geometry, or an array of them, in another coordinate system."""

    def convert(points: Float64) -> Float64:
        return np.stack(transform_coordinates(source, target, *points.T), axis=1)

    return shapely.transform(geometry, convert)


def _ranked(pieces: Pieces, probability: Float64, worth: Float64) -> Ranked:
    order = np.argsort(-worth, kind="stable")
    return Ranked(pieces.pick(order), probability[order])


def _read_map(path: Path, crs: str | None, layer: str | None) -> LineMap:
    """Read lines, or trace a raster; `crs` is used if the file names no coordinate system."""
    if path.is_file() and has_lines(path):
        found = read_lines(path, layer)
    elif path.is_file() and not is_picture(path):
        raise UserError(f"{path} is neither {LINE_FORMATS} nor a raster: {FORMATS}")
    else:
        with naming_errors(path), _open(path) as dataset:
            found = _trace(path, dataset, _place(path, dataset, crs))
    system = found.crs or (crs and CRS.from_string(crs))
    if not system:
        raise UserError(f"{path} has no coordinate system. Set it with --crs.")
    return found._replace(crs=system)


def _place(path: Path, dataset: DatasetReader, crs: str | None) -> Place:
    """Where a raster lies; `crs` is used if it has no coordinate system."""
    place = find_place(path, dataset, None)
    return find_place(path, dataset, crs) if place.crs is None else place


def _open(path: Path) -> DatasetReader:
    return rasterio.open(path.resolve(), driver=driver_of(path), sharing=False)


def _trace(path: Path, dataset: DatasetReader, place: Place) -> LineMap:
    """The centrelines of pixels brighter than half of the brightest one, in any band."""
    check_size(path, dataset)
    if place.metres is None:
        raise UserError(f"{path} has no known place. Georeference it first.")
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
        metres=place.metres,
        spur=how.spur,
        tolerance=how.tolerance,
    )
    if not graph.edges:
        raise UserError(f"{path} has no roads")
    lines = road_lines(graph, converter(place.transform))
    return LineMap(lines, place.crs, np.full(len(lines), np.nan), place.notes)


def _area(
    prediction: Path, reference: Path, lines: Lines, metric: CRS, within: float, crs: str | None
) -> tuple[shapely.Geometry, str]:  # fmt: skip
    """Where to compare two maps, in metres and in words; `lines` are those of the prediction."""
    raster = map_of(prediction)[1] or prediction
    if is_picture(raster):
        area, said = _data_area(raster, metric, crs), f"where {raster} has data"
    else:
        area = shapely.box(*shapely.total_bounds(lines)).buffer(within, join_style="mitre")
        said = f"in the bounding box of {prediction} and {within:g} m around it"
    if is_picture(reference):
        area &= _data_area(reference, metric, crs)
        said += f", and where {reference} has data"
    return area, said


def _data_area(path: Path, metric: CRS, crs: str | None) -> shapely.Geometry:
    """Where a raster is not masked out."""
    with naming_errors(path), _open(path) as dataset:
        place = _place(path, dataset, crs)
        shrink = max(1, max(dataset.shape) / AREA_SIDE)
        height, width = (max(1, round(side / shrink)) for side in dataset.shape)
        valid: Bool = dataset.read_masks(1, out_shape=(height, width)) > 0
        pixel = place.transform @ Affine.scale(dataset.width / width, dataset.height / height)
        found = shapes(valid.astype(np.uint8), valid, transform=pixel)
        area = shapely.union_all([shape(each) for each, _ in found])
        return projected(_bendable(area), place.crs, metric)


def _bendable(area: shapely.Geometry) -> shapely.Geometry:
    """An area with many points on its sides."""
    return shapely.segmentize(area, max(area.length / 4 / SIDE_STEPS, 1e-9))


def _clipped(lines: Lines, area: shapely.Geometry) -> Lines:
    parts = shapely.get_parts(shapely.get_parts(shapely.intersection(lines, area)))
    return parts[shapely.length(parts) > 0]  # not where they touch it in a point, or miss it


def _read_probability(path: Path, points: Float64, metric: CRS, crs: str | None) -> Float64:
    """The probability at points, (n, 2), or at the nearest border of the raster."""
    with naming_errors(path), _open(path) as dataset:
        place = _place(path, dataset, crs)
        moved = shapely.get_coordinates(projected(shapely.points(points), metric, place.crs))
        columns, rows = np.floor(~place.transform @ moved.T).astype(np.int64)
        rows, columns = rows.clip(0, dataset.height - 1), columns.clip(0, dataset.width - 1)
        values = np.empty(len(points))
        step = strip_rows(dataset.width)
        for strip in np.unique(rows // step):
            here = rows // step == strip
            window = Window(
                0, strip * step, dataset.width, min(step, dataset.height - strip * step)
            )
            values[here] = dataset.read(1, window=window)[rows[here] % step, columns[here]]
    return values / CERTAIN
