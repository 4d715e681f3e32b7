"""Road graphs as GeoJSON (RFC 7946)."""

import json
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from roads.graph.tracing import RoadGraph
from roads.mapping.georeference import ToLonLat
from roads.runtime.arrays import Float64
from roads.runtime.files import replacing

LINES_AT_ONCE = 10_000  # written together
DEGREE_DIGITS = 7  # of longitude and latitude: about a centimetre
PIXEL_DIGITS = 2
PROBABILITY_DIGITS = 5  # of a probability in steps of 1/65535


def write_geojson(path: Path, graph: RoadGraph, to_lonlat: ToLonLat | None) -> None:
    """Write the edges as lines (GeoJSON, RFC 7946), those that meet with the same coordinates.

    Args:
        path: the file to write or replace.
        graph: the roads.
        to_lonlat: takes columns and rows, of which (0, 0) is the corner of the first pixel and
            (0.5, 0.5) its centre, and gives longitudes and latitudes (WGS 84). None writes
            pixels, x to the right and y down from that corner, and says so in the file.
    """
    header: dict[str, Any] = {"type": "FeatureCollection"}
    if to_lonlat is None:
        header["unit"] = "pixels, x to the right and y down from the picture's upper left corner"
    with replacing(path) as partial, partial.open("w", encoding="utf-8") as stream:
        stream.write(json.dumps(header)[:-1] + ', "features": [')
        _write_features(stream, graph, to_lonlat)
        stream.write("\n]}\n")


def _write_features(stream: TextIO, graph: RoadGraph, to_lonlat: ToLonLat | None) -> None:
    nodes = _coordinates(graph.nodes, to_lonlat)
    for first in range(0, len(graph.edges), LINES_AT_ONCE):
        edges = graph.edges[first : first + LINES_AT_ONCE]
        places = _coordinates(np.concatenate([edge.line for edge in edges]), to_lonlat)
        bounds = np.cumsum([len(edge.line) for edge in edges])[:-1]
        for number, (edge, line) in enumerate(
            zip(edges, np.split(places, bounds), strict=True), start=first
        ):
            line[0], line[-1] = nodes[edge.start], nodes[edge.end]
            feature = {
                "type": "Feature",
                "properties": {
                    "length_m": round(edge.length, 2),
                    "probability": round(edge.probability, PROBABILITY_DIGITS),
                    "start": edge.start,
                    "end": edge.end,
                },
                "geometry": {"type": "LineString", "coordinates": line.tolist()},
            }
            stream.write(("," if number else "") + "\n" + json.dumps(feature))


def _coordinates(places: Float64, to_lonlat: ToLonLat | None) -> Float64:
    """Row and column of points as what GeoJSON wants, rounded."""
    rows, columns = (places + 0.5).T
    if to_lonlat is None:
        return np.stack([columns, rows], axis=1).round(PIXEL_DIGITS)
    return np.stack(to_lonlat(columns, rows), axis=1).round(DEGREE_DIGITS)
