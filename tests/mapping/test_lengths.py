"""Lengths on the ground, against PROJ's geodesics."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from rasterio import Affine
from rasterio.crs import CRS
from rasterio.warp import transform

from roads.graph.tracing import Edge, RoadGraph
from roads.mapping.georeference import ToLonLat, lonlat_converter, metres_per_pixel
from roads.mapping.lengths import ground_distances, measured
from roads.runtime.arrays import Float64


def geodesic(lon: Float64, lat: Float64) -> Float64:
    """Metres from each point to the next: from the centre of PROJ's `aeqd` they are geodesic."""
    distances = []
    for here, there in itertools.pairwise(zip(lon, lat, strict=True)):
        around = CRS.from_dict(proj="aeqd", lon_0=here[0], lat_0=here[1], ellps="WGS84", units="m")
        x, y = transform("EPSG:4326", around, there[:1], there[1:])
        distances.append(np.hypot(x[0], y[0]))
    return np.array(distances)


@pytest.mark.parametrize("latitude", [-80.0, -42, 0, 1, 42, 60, 80])
@pytest.mark.parametrize("turn", range(0, 360, 45))
@pytest.mark.parametrize("metres", [1.0, 50_000])
def test_distances_are_geodesic(latitude: float, turn: int, metres: float) -> None:
    there = metres * np.array([np.sin(np.radians(turn)), np.cos(np.radians(turn))]) / 111_000
    lon = np.array([179.99999, 179.99999 + there[0] / np.cos(np.radians(latitude))])
    lat = np.array([latitude, latitude + there[1]])
    for each in (lon, (lon + 180) % 360 - 180):
        assert ground_distances(each, lat) == pytest.approx(geodesic(lon, lat), rel=1e-4)


def graph(lines: Sequence[Sequence[tuple[float, float]]], metres: tuple[float, float]) -> RoadGraph:
    """Lines of rows and columns as a graph, whose length is by one size of pixel."""
    edges = []
    for number, line in enumerate(lines):
        points = np.array(line, float)
        length = float(np.hypot(*(np.diff(points, axis=0) * metres).T).sum())
        edges.append(Edge(2 * number, 2 * number + 1, points, length, length, 1.0))
    return RoadGraph(np.zeros((2 * len(lines), 2)), edges)


HIGH, WIDE = 100_000, 20_000  # pixels
LINES = [
    [(0, 0), (9_000, 300), (20_000, 9_000)],
    [(HIGH - 1, 0), (HIGH - 1, WIDE - 1)],
    [(50_000, 8_000), (50_900, 8_000), (50_000, 8_000), (45_000, 3_000)],
]


def mapped(code: int, place: Affine) -> tuple[RoadGraph, RoadGraph, ToLonLat]:
    to_lonlat = lonlat_converter(CRS.from_epsg(code), place)
    assert to_lonlat is not None
    metres = metres_per_pixel(to_lonlat, HIGH, WIDE)
    before = graph(LINES, metres)
    return before, measured(before, to_lonlat), to_lonlat


@pytest.mark.parametrize(
    ("code", "place"),
    [
        (3857, Affine(1.35, 0, -7_900_000, 0, -1.35, 5_300_000)),
        (3857, Affine(1, 0, 20_037_500, 0, -1, -5_300_000)),  # over the 180th meridian
        (4326, Affine(1e-5, 0, -71, 0, -1e-5, 42.5)),
        (32619, Affine(1, -0.2, 300_000, 0, -1, 4_690_000)),  # sheared
    ],
)
def test_lengths_follow_the_lines_where_pixel_sizes_vary(code: int, place: Affine) -> None:
    before, after, to_lonlat = mapped(code, place)
    off = []
    for old, new, line in zip(before.edges, after.edges, LINES, strict=True):
        rows, columns = (np.array(line, float) + 0.5).T
        length = geodesic(*to_lonlat(columns, rows)).sum()
        assert new.length == pytest.approx(length, rel=5e-4)
        assert (new.start, new.end, new.traced) == (old.start, old.end, old.traced)
        np.testing.assert_array_equal(new.line, old.line)
        off.append(abs(old.length / length - 1))
    assert max(off) > 5e-4


@pytest.mark.parametrize("code", [32619, 26919])
def test_lengths_follow_the_pixels_where_their_size_is_constant(code: int) -> None:
    place = Affine(0.1, 0, 500_000, 0, -0.1, 4_690_000)
    before, after, _ = mapped(code, place)
    for old, new in zip(before.edges, after.edges, strict=True):
        assert new.length == pytest.approx(old.length, rel=1e-4)


def test_no_roads_have_no_length() -> None:
    empty = RoadGraph(np.zeros((0, 2)), [])
    to_lonlat = lonlat_converter(CRS.from_epsg(4326), Affine(1e-5, 0, 0, 0, -1e-5, 50))
    assert to_lonlat is not None
    assert measured(empty, to_lonlat) is empty
