"""Road graphs: hand-made lines, a tracer that goes pixel by pixel, and other strips."""

import itertools
import json
from collections import Counter
from pathlib import Path

import networkx
import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import ndimage
from skimage.morphology import skeletonize

from roads.graph import chains, skeleton
from roads.graph.tracing import RoadGraph, trace_mask, trace_roads
from roads.mapping.vectors import Roads, write_geojson
from roads.runtime.arrays import Bool, Float64
from roads.runtime.errors import UserError

METRES = (1.0, 1.0)
DIAGONAL = 2**0.5
MASKS = st.tuples(st.integers(1, 16), st.integers(1, 16)).flatmap(
    lambda shape: arrays.arrays(np.bool_, shape)
)


def drawn(*rows: str) -> Bool:
    """A mask from a drawing, `#` is road; one-pixel lines are thin already."""
    return np.array([[mark == "#" for mark in row] for row in rows])


def blotches(height: int, width: int, seed: int, coarse: float = 2.5) -> Bool:
    """Something like roads and yards: the bright half of smooth noise."""
    noise = np.random.default_rng(seed).random((height, width))
    return np.asarray(ndimage.gaussian_filter(noise, coarse) > 0.5)


def trace(mask: Bool, spur: float = 0, tolerance: float = 0, merge: float = 0) -> RoadGraph:
    return trace_mask(mask, metres=METRES, spur=spur, tolerance=tolerance, merge=merge)


def measured(graph: RoadGraph) -> Roads:
    return Roads(graph, np.full(len(graph.edges), np.nan), "m")


def lengths(graph: RoadGraph) -> list[float]:
    return sorted(round(edge.length, 4) for edge in graph.edges)


def degrees(graph: RoadGraph) -> Counter[int]:
    return Counter(itertools.chain(*((edge.start, edge.end) for edge in graph.edges)))


def outline(graph: RoadGraph) -> Counter[tuple[object, ...]]:
    """Edges by the places of their nodes and their lengths; of lone circles only the length."""
    degree = degrees(graph)
    found: Counter[tuple[object, ...]] = Counter()
    for edge in graph.edges:
        alone = edge.start == edge.end and degree[edge.start] == 2
        ends = [tuple(graph.nodes[node].round(3).tolist()) for node in (edge.start, edge.end)]
        found[(None if alone else tuple(sorted(ends)), round(edge.traced, 3))] += 1
    return found


def reference(lines: Bool) -> Counter[tuple[object, ...]]:
    """The outline of a skeleton's graph, pixel by pixel, as chains.py defines it."""
    pixels = {(int(row), int(column)) for row, column in np.argwhere(lines)}
    graph = networkx.Graph()
    crossings = set()
    for row, column in pixels:
        for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
            other = (row + down, column + right)
            detour = {(row + down, column), (row, column + right)} & pixels
            if other in pixels and (down * right == 0 or not detour):
                graph.add_edge((row, column), other, length=float(np.hypot(down, right)))
        square = {(row, column), (row, column + 1), (row + 1, column), (row + 1, column + 1)}
        crossings |= square if square <= pixels else set()
    crossings |= {pixel for pixel, degree in graph.degree if degree > 2}
    place = {pixel: pixel for pixel in graph}
    for group in networkx.connected_components(graph.subgraph(crossings)):
        centre = tuple(np.mean(sorted(group), axis=0).round(9).tolist())
        place |= dict.fromkeys(group, centre)
    joined = networkx.MultiGraph()
    for one, other, length in graph.edges.data("length"):
        if not {one, other} <= crossings:
            hops = (
                np.hypot(*np.subtract(one, place[one])),
                np.hypot(*np.subtract(other, place[other])),
            )
            joined.add_edge(place[one], place[other], length=length + sum(hops))
    for node in list(joined):
        if joined.degree(node) == 2 and not joined.has_edge(node, node):
            (_, one, first), (_, other, second) = joined.edges(node, data="length")
            joined.remove_node(node)
            joined.add_edge(one, other, length=first + second)
    found: Counter[tuple[object, ...]] = Counter()
    for one, other, length in joined.edges.data("length"):
        alone = one == other and joined.degree(one) == 2
        ends = [tuple(np.round(end, 3).tolist()) for end in (one, other)]
        found[(None if alone else tuple(sorted(ends)), round(length, 3))] += 1
    return found


def test_a_crossing_joins_four_roads() -> None:
    graph = trace(drawn("...#...", "...#...", "#######", "...#...", "...#...", "...#..."))
    assert lengths(graph) == [2, 3, 3, 3]
    assert sorted(degrees(graph).values()) == [1, 1, 1, 1, 4]
    (middle,) = (node for node, degree in degrees(graph).items() if degree == 4)
    assert graph.nodes[middle].tolist() == [2, 3]


def test_a_bend_is_not_a_node_and_a_straight_line_has_two_points() -> None:
    (bent,) = trace(drawn(".#....", ".#....", ".#....", "..####", "......"), tolerance=0.5).edges
    assert bent.line.tolist() == [[0, 1], [2, 1], [3, 2], [3, 5]]
    assert bent.length == 5 + DIAGONAL
    (slope,) = trace(np.eye(30, dtype=np.bool_)).edges
    assert slope.line.tolist() == [[0, 0], [29, 29]]
    assert slope.length == pytest.approx(29 * DIAGONAL)


def test_lengths_are_in_metres_of_rows_and_columns() -> None:
    mask = np.zeros((9, 30), np.bool_)
    mask[4, 5:25] = True
    for turned, metres in ((mask, (7.0, 2.0)), (mask.T, (2.0, 7.0))):
        (edge,) = trace_mask(turned, metres=metres, spur=0, tolerance=0).edges
        assert edge.length == 38
    (slope,) = trace_mask(np.eye(5, dtype=np.bool_), metres=(3, 4), spur=0, tolerance=0).edges
    assert slope.length == 20


def test_circles_parallel_roads_and_roads_back_to_their_crossing_are_kept() -> None:
    ring = drawn(".###.", "#...#", "#...#", "#...#", ".###.")
    (circle,) = trace(np.pad(ring, 1), tolerance=0.1).edges
    assert circle.start == circle.end
    assert circle.line[0].tolist() == circle.line[-1].tolist()
    assert circle.length == pytest.approx(8 + 4 * DIAGONAL)
    through = np.pad(ring, ((1, 1), (6, 6)))
    through[3, :7] = through[3, 10:] = True
    graph = trace(through)
    assert sorted(degrees(graph).values()) == [1, 1, 3, 3]
    assert lengths(graph)[:2] == [6, 6]
    assert len({(edge.start, edge.end) for edge in graph.edges}) == 3
    lasso = through[:, :11]
    graph = trace(lasso)
    assert sorted(degrees(graph).values()) == [1, 3]
    assert sum(edge.start == edge.end for edge in graph.edges) == 1


def test_a_short_spur_is_pruned_and_its_road_is_joined() -> None:
    mask = np.zeros((30, 60), np.bool_)
    mask[20] = True
    mask[14:20, 25] = True
    assert len(trace(mask, spur=6).edges) == 3  # 6 metres are not shorter than 6
    (road,) = trace(mask, spur=6.5).edges
    assert road.line.tolist() == [[20, 0], [20, 59]]
    assert road.length == 59


def test_the_longer_branch_of_a_fork_at_a_dead_end_is_kept() -> None:
    mask = np.zeros((40, 80), np.bool_)
    mask[20, :60] = True
    for step in range(1, 9):
        mask[20 - step, 59 + step] = step < 6  # the shorter one
        mask[20 + step, 59 + step] = True
    (road,) = trace(mask, spur=30, tolerance=0.5).edges
    assert road.line.tolist() == [[20, 0], [20, 59], [28, 67]]


def test_specks_are_dropped_but_short_roads_between_crossings_are_kept() -> None:
    mask = np.zeros((40, 80), np.bool_)
    mask[3, 5:12] = True
    mask[30, 60] = True
    mask[20] = True
    mask[20:, 30] = mask[:20, 36] = True
    assert lengths(trace(mask, spur=10)) == [6, 19, 20, 30, 43]


def test_crossings_closer_than_a_road_width_are_merged() -> None:
    mask = np.zeros((81, 81), np.bool_)
    mask[40] = mask[:40, 38] = mask[40:, 42] = True  # 4 metres
    assert lengths(trace(mask, spur=20)) == [4, 38, 38, 40, 40]
    graph = trace(mask, spur=20, merge=7)
    assert sorted(degrees(graph).values()) == [1, 1, 1, 1, 4]
    assert np.hypot(*(graph.nodes - 40).T).min() < 1


def test_gaps_holes_and_strips_narrower_than_a_road_are_filled() -> None:
    whole = np.zeros((41, 201), np.bool_)
    whole[17:24] = True
    gap, hole, strip = whole.copy(), whole.copy(), whole.copy()
    gap[:, 100:105] = False
    hole[19:22, 100:103] = False
    strip[20, 60:140] = False
    for mask in (gap, hole, strip):
        assert len(trace(mask, spur=20).edges) > 1
        (road,) = trace(mask, spur=20, merge=7).edges
        assert road.line.tolist() == [[20, 0], [20, 200]]
    gap[:, 100:115] = False
    whole[8:14] = whole[27:33] = True  # three roads, 3 metres apart
    assert len(trace(gap, spur=20, merge=7).edges) == 2
    assert len(trace(whole, spur=20).edges) == 3
    assert len(trace(whole, spur=20, merge=7).edges) == 1


def test_a_short_loop_is_pruned_with_the_spur_that_it_hangs_on() -> None:
    mask = np.zeros((40, 60), np.bool_)
    mask[30] = mask[25:30, 20] = True
    mask[20:25, 18:23] = drawn(".###.", "#...#", "#...#", "#...#", ".###.")
    assert len(trace(mask, spur=5).edges) == 4
    (road,) = trace(mask, spur=20).edges
    assert road.line.tolist() == [[30, 0], [30, 59]]


def test_a_mask_without_road_has_an_empty_graph(tmp_path: Path) -> None:
    for shape in ((1, 1), (5, 9)):
        graph = trace(np.zeros(shape, np.bool_))
        assert (graph.edges, graph.nodes.shape) == ([], (0, 2))
    write_geojson(tmp_path / "roads.geojson", measured(graph), None)
    assert json.loads((tmp_path / "roads.geojson").read_text())["features"] == []


@pytest.mark.slow
@given(MASKS)
@settings(deadline=None, max_examples=150)
def test_agrees_with_a_tracer_that_goes_pixel_by_pixel(mask: Bool) -> None:
    mask = np.pad(mask, 1)  # no road leaves the picture
    assert outline(trace(mask)) == reference(skeletonize(mask))


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_that_tracer_on_larger_pictures(seed: int) -> None:
    mask = np.pad(blotches(150, 130, seed), 1)
    assert outline(trace(mask)) == reference(skeletonize(mask))


@pytest.mark.slow
@pytest.mark.parametrize("merge", [0, 3])
@pytest.mark.parametrize("strip", [1, 2, 23, 64])
def test_the_graph_does_not_depend_on_strips(strip: int, merge: float) -> None:
    mask = blotches(200, 90, 5)
    probability = np.random.default_rng(0).integers(0, 65_536, mask.shape, np.uint16)

    def traced(strip: int | None) -> RoadGraph:
        return trace_roads(
            lambda top, bottom: mask[top:bottom],
            lambda top, bottom: probability[top:bottom],
            *mask.shape, metres=METRES, spur=4, tolerance=1.5, merge=merge, strip=strip,
        )  # fmt: skip

    whole, cut = traced(None), traced(strip)
    assert outline(cut) == outline(whole)
    assert len(whole.edges) > 30
    assert [edge.probability for edge in cut.edges] == pytest.approx(
        [edge.probability for edge in whole.edges]
    )
    alone = [node for node, degree in degrees(whole).items() if degree == 2]
    for one, other in zip(whole.edges, cut.edges, strict=True):
        if one.start not in alone:
            np.testing.assert_allclose(one.line, other.line)


def stitched(mask: Bool, strip: int) -> Bool:
    strips = skeleton.skeleton_strips(reader(mask), mask.shape[0], mask.shape[1], strip)
    return np.concatenate([rows for _, rows in strips])


@pytest.mark.parametrize(("margin", "same"), [(32, True), (16, False)])
def test_areas_wider_than_the_margins_are_thinned_differently_but_stay_connected(
    margin: int, same: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(skeleton, "MARGIN", margin)
    monkeypatch.setattr(skeleton, "BORDER", 8)
    parts = []
    for seed in range(6):
        mask = blotches(400, 300, seed, coarse=9)  # up to 64 pixels wide
        monkeypatch.setattr(skeleton, "BLOCK", 1000)
        whole = stitched(mask, strip=400)
        monkeypatch.setattr(skeleton, "BLOCK", 64)
        cut = stitched(mask, strip=64)
        assert not (cut & ~mask).any()
        assert not same or np.array_equal(whole, cut)
        parts.append([ndimage.label(lines, np.ones((3, 3)))[1] for lines in (whole, cut)])
    assert all(one == other for one, other in parts)


def diagonal(side: int, angle: float, half: float) -> Bool:
    """A road through the middle of a square, at an angle to its rows."""
    y, x = np.indices((side, side)) - (side - 1) / 2
    return np.asarray(abs(y * np.cos(angle) - x * np.sin(angle)) <= half)


@pytest.mark.parametrize("turned", [0, 20, 40, 70, 90, 110])
def test_roads_reach_the_border_without_a_hook(turned: int) -> None:
    angle, half = np.radians(turned), 8
    (road,) = trace(diagonal(201, angle, half), spur=20, tolerance=2).edges
    across = np.array([np.cos(angle), -np.sin(angle)])
    assert (abs((road.line - 100) @ across) <= half / 2).all()
    for row, column in (road.line[0], road.line[-1]):
        assert min(row, column, 200 - row, 200 - column) == 0


def test_a_road_along_the_border_stays() -> None:
    mask = np.zeros((100, 100), np.bool_)
    mask[:, :5] = True
    for turns in range(4):
        (road,) = trace(np.rot90(mask, turns), spur=20, tolerance=2).edges
        assert road.length > 90


def reader(values: NDArray) -> skeleton.ReadRows:
    return lambda top, bottom: values[top:bottom]


@pytest.mark.slow
@pytest.mark.parametrize("strip", [1, 7, 200, None])
def test_rows_are_read_once_and_in_order(strip: int | None) -> None:
    mask = blotches(300, 40, 0)
    asked: dict[str, list[int]] = {"mask": [], "probability": []}

    def noted(name: str, values: NDArray) -> skeleton.ReadRows:
        def read(top: int, bottom: int) -> NDArray:
            asked[name] += range(top, bottom)
            return values[top:bottom]

        return read

    trace_roads(
        noted("mask", mask),
        noted("probability", np.zeros(mask.shape, np.uint16)),
        *mask.shape, metres=METRES, spur=0, tolerance=0, strip=strip,
    )  # fmt: skip
    assert asked == {"mask": list(range(300)), "probability": list(range(300))}


def test_probability_is_the_mean_along_the_road() -> None:
    mask = np.zeros((5, 21), np.bool_)
    mask[2] = True
    probability = np.full(mask.shape, 9, np.uint16)
    probability[2] = np.arange(21) * 3000
    (edge,) = trace_roads(
        reader(mask), reader(probability), *mask.shape, metres=METRES, spur=0, tolerance=0
    ).edges
    assert edge.probability == pytest.approx(30_000 / 65_535)
    assert trace(mask).edges[0].probability == 1


@pytest.mark.parametrize("merge", [0, 1])
@pytest.mark.parametrize("spur", [0, 2, 5])
def test_a_pruned_graph_has_no_short_edges(spur: float, merge: float) -> None:
    for seed in range(3):
        mask = blotches(150, 130, seed)
        graph = trace_mask(mask, metres=(0.3, 0.7), spur=spur, tolerance=0.5, merge=merge)
        degree = degrees(graph)
        assert len(graph.edges) > 50
        assert set(degree) == set(range(len(graph.nodes)))
        circles = {edge.start for edge in graph.edges if edge.start == edge.end}
        assert {node for node in degree if degree[node] == 2} <= circles
        for edge in graph.edges:
            tip, root = sorted((degree[edge.start], degree[edge.end]))
            if tip == 1 or edge.start == edge.end:
                assert edge.traced >= spur, (tip, root)
            else:
                assert edge.traced >= merge, (tip, root)
            assert edge.start <= edge.end
            assert edge.line[0].tolist() == graph.nodes[edge.start].tolist()
            assert edge.line[-1].tolist() == graph.nodes[edge.end].tolist()


@pytest.mark.parametrize("tolerance", [0.5, 2, 5])
def test_lines_stay_within_the_tolerance(tolerance: float) -> None:
    mask = blotches(150, 130, 1)
    whole, simple = trace(mask, spur=5), trace(mask, spur=5, tolerance=tolerance)
    for edge, other in zip(whole.edges, simple.edges, strict=True):
        one, two = shapely.LineString(edge.line), shapely.LineString(other.line)
        assert shapely.hausdorff_distance(one, two) <= tolerance + 1e-9
    points = [sum(len(edge.line) for edge in graph.edges) for graph in (simple, whole)]
    assert points[0] < 0.75 * points[1]


def joined(mask: Bool, join: float) -> RoadGraph:
    return trace_mask(mask, metres=(2, 2), spur=20, tolerance=1, join=join)


def test_a_gap_is_joined_by_an_edge_with_the_probability_along_it() -> None:
    mask = np.zeros((40, 120), np.bool_)
    mask[20, :50] = mask[21, 60:] = True
    assert len(joined(mask, 20).edges) == 2
    probability = np.where(mask, 40_000, 5_000).astype(np.uint16)
    graph = trace_roads(
        reader(mask), reader(probability), *mask.shape,
        metres=(2, 2), spur=20, tolerance=1, join=25,
    )  # fmt: skip
    assert sorted(degrees(graph).values()) == [1, 1, 2, 2]
    (gap,) = (edge for edge in graph.edges if edge.length < 30)
    assert gap.length == pytest.approx(2 * np.hypot(1, 11))
    assert gap.probability == pytest.approx((10 * 5_000 + 2 * 40_000) / 12 / 65_535)


def test_a_dead_end_is_joined_to_the_road_ahead_which_is_cut_there() -> None:
    mask = np.zeros((80, 120), np.bool_)
    mask[10] = mask[20:, 70] = True
    mask[40, :60] = True  # 22 metres before a road that ends 20 metres before another
    graph = joined(mask, 25)
    assert lengths(graph) == [20, 22, 40, 78, 98, 118, 140]
    assert sorted(degrees(graph).values()) == [1, 1, 1, 1, 2, 2, 3, 3]
    for edge in graph.edges:
        assert edge.start <= edge.end
        assert edge.line[[0, -1]].tolist() == graph.nodes[[edge.start, edge.end]].tolist()


def test_roads_next_to_a_dead_end_or_further_ahead_are_not_joined() -> None:
    mask = np.zeros((60, 120), np.bool_)
    mask[30, 40:80] = mask[22, 40:80] = mask[26, 85:] = True  # 16 and 8 metres to the side
    mask[:, 30] = True  # 20 metres ahead
    assert len(joined(mask, 19).edges) == 4
    assert len(joined(mask, 21).edges) == 8


def north_east(columns: Float64, rows: Float64) -> tuple[Float64, Float64]:
    """Ten-millionths of a degree around Boston, rows to the south."""
    return -71 + columns * 1.23456789e-5, 42 - rows * 0.98765432e-5


def test_geojson_is_lines_of_longitude_and_latitude(tmp_path: Path) -> None:
    graph = trace(blotches(150, 130, 1), spur=5, tolerance=1)
    path = tmp_path / "roads.geojson"
    write_geojson(path, measured(graph), north_east)
    values = json.loads(path.read_text(encoding="utf-8"))
    assert set(values) == {"type", "features"}
    assert values["type"] == "FeatureCollection"
    places: dict[int, set[tuple[float, ...]]] = {}
    for edge, feature in zip(graph.edges, values["features"], strict=True):
        assert set(feature) == {"type", "properties", "geometry"}
        line = shapely.geometry.shape(feature["geometry"])
        assert line.geom_type == "LineString"
        assert line.is_valid
        wanted = np.stack(north_east(edge.line[:, 1] + 0.5, edge.line[:, 0] + 0.5), axis=1)
        np.testing.assert_allclose(shapely.get_coordinates(line), wanted, atol=1e-7)
        told = feature["properties"]
        assert told["length_m"] == pytest.approx(edge.length, abs=0.005)
        assert told["probability"] == 1
        for node, end in ((told["start"], 0), (told["end"], -1)):
            places.setdefault(node, set()).add(tuple(feature["geometry"]["coordinates"][end]))
    assert len(places) == len(graph.nodes)
    assert all(len(each) == 1 for each in places.values())
    assert shapely.from_geojson(path.read_text()).geom_type == "GeometryCollection"


def test_without_a_georeference_geojson_is_in_pixels_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "roads.geojson"
    mask = np.zeros((5, 9), np.bool_)
    mask[1, 2:7] = True
    write_geojson(path, measured(trace(mask)), None)
    values = json.loads(path.read_text())
    assert "pixels" in values["unit"]
    (feature,) = values["features"]
    assert feature["geometry"]["coordinates"] == [[2.5, 1.5], [6.5, 1.5]]


def test_lines_across_the_180th_meridian_are_cut(tmp_path: Path) -> None:
    """RFC 7946, 3.1.9: a line over it is two that end on it, at 180 and at -180."""

    def fiji(columns: Float64, rows: Float64) -> tuple[Float64, Float64]:
        lon = 179.99 + columns * 0.001
        return np.where(lon > 180, lon - 360, lon), -17 - rows * 0.001

    mask = np.zeros((9, 30), np.bool_)
    mask[2, 2:28] = True
    mask[5, 2:8] = True
    mask[7, 13:28] = True
    graph = trace(mask)
    write_geojson(tmp_path / "roads.geojson", measured(graph), fiji)
    features = json.loads((tmp_path / "roads.geojson").read_text())["features"]
    assert [each["geometry"]["type"] for each in features] == [
        "MultiLineString", "LineString", "LineString",
    ]  # fmt: skip
    over, west, east = (each["geometry"]["coordinates"] for each in features)
    assert over == [
        [[179.9925, -17.0025], [180, -17.0025]],
        [[-180, -17.0025], [-179.9825, -17.0025]],
    ]
    assert west == [[179.9925, -17.0055], [179.9975, -17.0055]]
    assert east == [[-179.9965, -17.0075], [-179.9825, -17.0075]]
    assert [each["properties"]["length_m"] for each in features] == [25, 5, 14]


def test_noise_is_refused_before_it_fills_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chains, "MOST_CHAINS", 100)
    noise = np.random.default_rng(0).random((300, 300)) < 0.3
    with pytest.raises(UserError, match="noise: it has more than 100 pieces of road"):
        trace(noise)
