"""Lengths of roads on the ground, in pictures whose pixels are not all of one size there."""

from dataclasses import replace

import numpy as np

from roads.graph.tracing import RoadGraph
from roads.mapping.georeference import ToLonLat
from roads.mapping.resampling import Shape
from roads.runtime.arrays import Float64

EQUATOR, FLATTENING = 6_378_137.0, 1 / 298.257223563  # of the WGS 84 ellipsoid; metres
EVEN = 1e-4  # relative; distances that differ less from those by one size of pixel are left


def on_the_ground(
    graph: RoadGraph, to_lonlat: ToLonLat, metres: tuple[float, float], shape: Shape
) -> RoadGraph:
    """The same roads with their lengths on the ellipsoid, if one size of pixel gives others.

    Args:
        graph: the roads, with lengths by one size of pixel.
        to_lonlat: from columns and rows to degrees.
        metres: that size, height and width.
        shape: of the picture, height and width in pixels.
    """
    if not graph.edges or _has_even_pixels(to_lonlat, metres, shape):
        return graph
    rows, columns = (np.concatenate([edge.line for edge in graph.edges]) + 0.5).T
    distances = ground_distances(*to_lonlat(columns, rows))
    bounds = np.cumsum([len(edge.line) for edge in graph.edges])[:-1]
    parts = np.split(np.append(distances, 0), bounds)  # each ends with the way to the next line
    edges = [
        replace(edge, length=float(part[:-1].sum()))
        for edge, part in zip(graph.edges, parts, strict=True)
    ]
    return replace(graph, edges=edges)


def ground_distances(lon: Float64, lat: Float64) -> Float64:
    """Metres on the WGS 84 ellipsoid from each point to the next; points are in degrees.

    By the radii of curvature midway, which is right to 1e-4 over 50 km up to 80° of latitude.
    """
    middle = np.radians(lat[1:] + lat[:-1]) / 2
    squared_eccentricity = FLATTENING * (2 - FLATTENING)
    prime_vertical = EQUATOR / np.sqrt(1 - squared_eccentricity * np.sin(middle) ** 2)
    meridian = prime_vertical**3 * (1 - squared_eccentricity) / EQUATOR**2
    north = meridian * np.radians(np.diff(lat))
    turn = (np.diff(lon) + 180) % 360 - 180  # the short way, over the 180th meridian too
    return np.hypot(north, prime_vertical * np.cos(middle) * np.radians(turn))


def _has_even_pixels(to_lonlat: ToLonLat, metres: tuple[float, float], shape: Shape) -> bool:
    """Whether distances along rows, columns and diagonals are those by one size of pixel."""
    down, across = (np.linspace(0, length, 5) for length in shape)
    lines = [(down, across), (down, across[::-1])]
    lines += [(np.full(5, row), across) for row in down]
    lines += [(down, np.full(5, column)) for column in across]
    for rows, columns in lines:
        expected = np.hypot(np.diff(rows) * metres[0], np.diff(columns) * metres[1])
        if (abs(ground_distances(*to_lonlat(columns, rows)) / expected - 1) > EVEN).any():
            return False
    return True
