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

    A line over the 180th meridian becomes a MultiLineString; its length is that of all of it.

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
            parts = [line.tolist()] if to_lonlat is None else cut_at_180(line)
            single = len(parts) == 1
            feature = {
                "type": "Feature",
                "properties": {
                    "length_m": round(edge.length, 2),
                    "probability": round(edge.probability, PROBABILITY_DIGITS),
                    "start": edge.start,
                    "end": edge.end,
                },
                "geometry": {
                    "type": "LineString" if single else "MultiLineString",
                    "coordinates": parts[0] if single else parts,
                },
            }
            stream.write(("," if number else "") + "\n" + json.dumps(feature))


def _coordinates(places: Float64, to_lonlat: ToLonLat | None) -> Float64:
    """Row and column of points as what GeoJSON wants, rounded."""
    rows, columns = (places + 0.5).T
    if to_lonlat is None:
        return np.stack([columns, rows], axis=1).round(PIXEL_DIGITS)
    return np.stack(to_lonlat(columns, rows), axis=1).round(DEGREE_DIGITS)


def cut_at_180(line: Float64) -> list[list[list[float]]]:
    """Cut a line of longitudes and latitudes where it crosses the 180th meridian.

    Both parts end on the meridian, one at 180 and the other at -180 (RFC 7946, 3.1.9).
    """
    east = np.unwrap(line[:, 0], period=360)
    turns = np.floor((east + 180) / 360)
    cuts = np.flatnonzero(np.diff(turns))  # between these points and the next
    meridians = 360 * np.maximum(turns[cuts], turns[cuts + 1]) - 180
    along = (meridians - east[cuts]) / (east[cuts + 1] - east[cuts])
    latitudes = (line[cuts, 1] * (1 - along) + line[cuts + 1, 1] * along).round(DEGREE_DIGITS)
    ends = np.repeat(np.stack([meridians, latitudes], axis=1), 2, axis=0)
    points = np.insert(np.stack([east, line[:, 1]], axis=1), np.repeat(cuts + 1, 2), ends, axis=0)
    parts = np.split(points, cuts + 2 + 2 * np.arange(len(cuts)))
    for part, turn in zip(parts, turns[[0, *(cuts + 1)]], strict=True):
        part[:, 0] = (part[:, 0] - 360 * turn).round(DEGREE_DIGITS)
    parts = [part for part in parts if (part != part[0]).any()] or parts[:1]  # some touch it only
    return [part.tolist() for part in parts]
