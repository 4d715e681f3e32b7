"""Vector layers, written with GDAL: roads, their nodes, and areas of road."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import rasterio
import shapely
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.features import shapes
from shapely.geometry import shape

from roads.graph.tracing import RoadGraph
from roads.mapping.georeference import ToLonLat
from roads.mapping.layers import write_layer
from roads.runtime.arrays import Float64

ToXY = Callable[[Float64, Float64], tuple[Float64, Float64]]  # columns, rows → coordinates

PIXELS = "pixels, x to the right and y down from the picture's upper left corner"
Y_UP = Affine.scale(1, -1)  # QGIS shows a picture without a place below y = 0
DIGITS, PROBABILITY_DIGITS = 2, 5  # decimals of metres or pixels; of probabilities


class Roads(NamedTuple):
    """Roads with lengths and widths.

    Attributes:
        graph: the roads, with lengths in `unit`.
        widths: (edges,) in `unit`, NaN if unknown.
        unit: m or px.
    """

    graph: RoadGraph
    widths: Float64
    unit: str


def write_geojson(path: Path, roads: Roads, to_lonlat: ToLonLat | None) -> None:
    """Write roads as lines (GeoJSON, RFC 7946); lines that meet share the coordinates there.

    A line across the 180th meridian becomes a MultiLineString with its whole length.

    `to_lonlat` is that of `Place`. Without it, the file has pixels, x to the right and y down from
    the picture's corner, and a member that says so.
    """
    if to_lonlat:
        options = {"RFC7946": "YES"}  # seven decimals: about a centimetre
    else:
        members = json.dumps({"unit": PIXELS})
        media = "application/vnd.geo+json"
        options = {"COORDINATE_PRECISION": "2", "NATIVE_DATA": members, "NATIVE_MEDIA_TYPE": media}
    lines = road_lines(roads.graph, to_lonlat or converter(Affine.identity()))
    options["WRITE_NAME"] = "NO"
    crs = CRS.from_epsg(4326) if to_lonlat else None
    write_layer(path, "roads", lines, _fields(roads), crs, driver="GeoJSON", layer_options=options)


def write_geopackage(path: Path, roads: Roads, transform: Affine, crs: CRS | None) -> None:
    """Write the layers `roads` and `nodes` of a new GeoPackage, in the picture's coordinates.

    If `transform` is the identity, y is negated, so that the roads lie on the picture in QGIS.
    """
    to_xy = converter(Y_UP if transform.is_identity else transform)
    edges, nodes = roads.graph.edges, roads.graph.nodes
    write_layer(path, "roads", road_lines(roads.graph, to_xy), _fields(roads), crs)
    ends = np.array([(edge.start, edge.end) for edge in edges], np.int64).ravel()
    degrees = {"id": np.arange(len(nodes)), "degree": np.bincount(ends, minlength=len(nodes))}
    points = shapely.points(_coordinates(nodes, to_xy))
    write_layer(path, "nodes", points, degrees, crs, geometry_type="Point")


def add_areas(
    path: Path, mask: Path, transform: Affine, crs: CRS | None, pixel: float, unit: str
) -> None:
    """Add the layer `areas` to a GeoPackage: polygons along the borders of a mask's pixels.

    The whole mask, one byte per pixel, and all polygons are held in memory.

    Args:
        path: the GeoPackage.
        mask: a GeoTIFF with one band, 0 where there is no road.
        transform, crs: as in `write_geopackage`.
        pixel: the area of a pixel, in `unit` squared.
        unit: m or px.
    """
    with rasterio.open(mask, driver="GTiff") as dataset:
        road = dataset.read(1)
    placed = Y_UP if transform.is_identity else transform
    polygons = np.array([shape(each) for each, _ in shapes(road, road, transform=placed)], object)
    areas = (shapely.area(polygons) * (pixel / abs(placed.determinant))).round(DIGITS)
    fields = {"id": np.arange(len(polygons)), f"area_{unit}2": areas}
    write_layer(path, "areas", polygons, fields, crs, geometry_type="Polygon")


def converter(transform: Affine) -> ToXY:
    """The function from columns and rows to coordinates."""

    def to_xy(columns: Float64, rows: Float64) -> tuple[Float64, Float64]:
        x, y = transform @ (columns, rows)
        return x, y

    return to_xy


def _coordinates(places: Float64, to_xy: ToXY) -> Float64:
    """Coordinates of rows and columns, (n, 2)."""
    rows, columns = (places.reshape(-1, 2) + 0.5).T
    return np.stack(to_xy(columns, rows), axis=1)


def road_lines(graph: RoadGraph, to_xy: ToXY) -> NDArray[Any]:
    """The line of each road, (edges,) LineStrings."""
    if not graph.edges:
        return np.empty(0, object)
    places = np.concatenate([edge.line for edge in graph.edges])
    owner = np.repeat(np.arange(len(graph.edges)), [len(edge.line) for edge in graph.edges])
    lines: NDArray[Any] = shapely.linestrings(_coordinates(places, to_xy), indices=owner)
    return lines


def _fields(roads: Roads) -> dict[str, NDArray[Any]]:
    edges, unit = roads.graph.edges, roads.unit
    return {
        "id": np.arange(len(edges)),
        f"length_{unit}": np.array([edge.length for edge in edges]).round(DIGITS),
        f"width_{unit}": roads.widths.round(DIGITS),
        "probability": np.array([edge.probability for edge in edges]).round(PROBABILITY_DIGITS),
        "start": np.array([edge.start for edge in edges], np.int64),
        "end": np.array([edge.end for edge in edges], np.int64),
    }
