"""APLS: hand-made graphs whose scores are known, and an implementation that goes route by route."""

import itertools

import networkx
import numpy as np
import pytest
import shapely

from roads.graph.tracing import Edge, RoadGraph, trace_mask
from roads.metrics import apls as module
from roads.metrics.apls import STRAIGHT, apls
from tests.graph.test_tracing import METRES, blotches

EMPTY = RoadGraph(np.zeros((0, 2)), [])


def graph(*lines: list[tuple[float, float]]) -> RoadGraph:
    """A graph of lines of (row, column); ends in the same place are one node."""
    places = sorted({end for line in lines for end in (line[0], line[-1])})
    edges = []
    for line in lines:
        start, end = places.index(line[0]), places.index(line[-1])
        length = shapely.LineString(line).length
        edges.append(Edge(start, end, np.array(line, float), length, length, 1.0))
    return RoadGraph(np.array(places, float), edges)


def harmonic(one: float, other: float) -> float:
    return 2 * one * other / (one + other)


ROAD = graph([(0, 0), (0, 1000)])
CROSS = graph([(0, 0), (0, 100)], [(0, 0), (0, -100)], [(0, 0), (100, 0)], [(0, 0), (-100, 0)])


def test_identical_graphs_score_one() -> None:
    for one in (ROAD, CROSS, trace_mask(blotches(200, 150, 0), metres=METRES, spur=5, tolerance=1)):
        assert apls(one, one) == pytest.approx(1)


def test_graphs_without_roads() -> None:
    assert apls(EMPTY, EMPTY) == 1
    assert apls(EMPTY, ROAD) == apls(ROAD, EMPTY) == 0


def test_a_gap_breaks_all_routes_over_it() -> None:
    # 21 control points; that in the gap is lost, ten are left on each side of it: 90 of 210
    # routes. The halves of 490 m have 11 points each, and all of their routes are on the road.
    broken = graph([(0, 0), (0, 490)], [(0, 510), (0, 1000)])
    assert apls(ROAD, broken) == pytest.approx(harmonic(90 / 210, 1))


def test_a_missing_road_loses_its_routes() -> None:
    # Nine points, four of them the tips, four halfway; two are lost: 21 of 36 routes are left.
    assert apls(CROSS, RoadGraph(CROSS.nodes, CROSS.edges[:3])) == pytest.approx(
        harmonic(21 / 36, 1)
    )


def test_a_detour_costs_its_fraction_of_the_route() -> None:
    # A square of 40 m without one side: of its six routes one is three times as long, which
    # costs 1. Back, that route of 120 m is 40 m long, which costs 2 / 3.
    a, b, c, d = (0.0, 0.0), (0.0, 40.0), (40.0, 40.0), (40.0, 0.0)
    square, open_one = graph([a, b], [b, c], [c, d], [d, a]), graph([a, b], [b, c], [c, d])
    assert apls(square, open_one) == pytest.approx(harmonic(5 / 6, 1 - 2 / 3 / 6))


@pytest.mark.parametrize(("off", "score"), [(3.9, 1), (4.0, 1), (4.1, 0)])
def test_a_road_may_be_four_metres_off_and_no_more(off: float, score: float) -> None:
    assert apls(ROAD, graph([(off, 0), (off, 1000)])) == pytest.approx(score)


def test_a_longer_road_costs_on_one_side_only() -> None:
    # 1000 m of 1500: 21 of 31 points.
    longer = graph([(0, 0), (0, 1500)])
    assert apls(ROAD, longer) == pytest.approx(harmonic(1, (21 * 20) / (31 * 30)))


def test_of_two_roads_between_the_same_crossings_the_shorter_one_is_taken() -> None:
    bow: list[tuple[float, float]] = [(0, 0), (20, 20), (0, 40)]
    both = graph(bow, [(0, 0), (0, 40)])
    assert apls(graph([(0, 0), (0, 40)]), both) < 1  # the bow's middle is not on the road
    short = graph([(0, 0), (3, 20), (0, 40)], [(0, 0), (0, 40)])
    assert apls(graph([(0, 0), (0, 40)]), short) == pytest.approx(1)


def test_routes_shorter_than_ten_metres_are_not_taken() -> None:
    speck = graph([(0, 0), (0, 9)])
    assert apls(speck, speck) == 1
    with_speck = graph([(0, 0), (0, 1000)], [(500, 0), (500, 9)])
    assert apls(ROAD, with_speck) == pytest.approx(1)
    with_road = graph([(0, 0), (0, 1000)], [(500, 0), (500, 10)])
    assert apls(ROAD, with_road) == pytest.approx(harmonic(1, 210 / 211))


def test_straight_roads_may_be_left_without_points_as_in_cosmiqs_code() -> None:
    # Of the straight road's two ends no route is left; each half has one route, and it is there.
    broken = graph([(0, 0), (0, 490)], [(0, 510), (0, 1000)])
    assert apls(ROAD, broken, straight=STRAIGHT) == pytest.approx(0)
    # Bows of 113, 57, 40 and 28 m, and a straight road: the shortest and the straight have no cut.
    bows = [[(0, 0), (half, half), (0, 2 * half)] for half in (40, 20, 14.2, 10)]
    network = module._Network(graph(*bows, [(0, 0), (500, 0)]), (1, 1))
    assert network.pieces(50, STRAIGHT).tolist() == [3, 2, 2, 1, 1]
    assert network.pieces(50, None).tolist() == [3, 2, 1, 1, 10]


def test_the_size_of_a_metre_does_not_matter() -> None:
    one, other = (
        trace_mask(blotches(200, 150, seed), metres=METRES, spur=5, tolerance=1) for seed in (0, 1)
    )
    score = apls(one, other, snap=8)
    assert 0.01 < score < 0.99
    scaled = apls(one, other, metres=(3, 3), spacing=150, snap=24, shortest=30)
    assert scaled == pytest.approx(score)


def test_metres_of_rows_and_columns_may_differ() -> None:
    assert apls(ROAD, graph([(8, 0), (8, 1000)]), metres=(0.5, 1)) == pytest.approx(1)
    assert apls(ROAD, graph([(3, 0), (3, 1000)]), metres=(2, 1)) == pytest.approx(0)


def similarity(one: RoadGraph, other: RoadGraph, snap: float) -> float:
    """One side of APLS, route by route, with control points at every 20 m."""
    points = [tuple(place) for place in one.nodes.tolist()]
    for edge in one.edges:
        line = shapely.LineString(edge.line)
        pieces = max(1, int(np.ceil(line.length / 20)))
        points += [
            line.interpolate(number / pieces, normalized=True).coords[0]
            for number in range(1, pieces)
        ]
    length = routes_over(one, points, 1e-6)
    there = routes_over(other, points, snap)
    costs = []
    for a, b in itertools.combinations(range(len(points)), 2):
        if length.get((a, b), 0) >= 10:
            away = there.get((a, b))
            costs.append(1 if away is None else min(1, abs(length[a, b] - away) / length[a, b]))
    return 1 - float(np.mean(costs))


def routes_over(
    roads: RoadGraph, points: list[tuple[float, ...]], snap: float
) -> dict[tuple[int, int], float]:
    """Lengths of the routes between those points that are near a road, by their numbers."""
    stops: dict[int, list[tuple[float, tuple[str, int]]]] = {}
    lines = [shapely.LineString(edge.line) for edge in roads.edges]
    for number, place in enumerate(points):
        point = shapely.Point(place)
        distance, nearest = min((line.distance(point), i) for i, line in enumerate(lines))
        if distance <= snap:
            stop = (lines[nearest].project(point), ("point", number))
            stops.setdefault(nearest, []).append(stop)
    network = networkx.MultiGraph()
    for i, (edge, line) in enumerate(zip(roads.edges, lines, strict=True)):
        inside = sorted(stops.get(i, []))
        first, last = (("node", node) for node in (edge.start, edge.end))
        chain = [(0.0, first), *inside, (line.length, last)]
        for (here, one), (there, other) in itertools.pairwise(chain):
            network.add_edge(one, other, weight=there - here)
    found = {}
    for a in (number for each in stops.values() for _, (_, number) in each):
        ways = networkx.single_source_dijkstra_path_length(network, ("point", a))
        found.update({(a, to[1]): way for to, way in ways.items() if to[0] == "point"})
    return found


@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_an_implementation_that_goes_route_by_route(seed: int) -> None:
    first, second = (blotches(70, 90, seed + n, coarse=4) for n in (0, 10))
    changed = np.where(np.arange(90) < 50, first, second)
    one, other = (trace_mask(mask, metres=METRES, spur=5, tolerance=1) for mask in (first, changed))
    expected = harmonic(similarity(one, other, 4), similarity(other, one, 4))
    assert 0.05 < expected < 0.95
    assert apls(one, other, spacing=20) == pytest.approx(expected)
    assert apls(other, one, spacing=20) == pytest.approx(expected)


def test_a_sample_of_the_control_points_says_about_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken = graph([(0, 0), (0, 490)], [(0, 510), (0, 1000)])
    score = apls(ROAD, broken, spacing=5)
    monkeypatch.setattr(module, "MOST_POINTS", 60)
    sampled = apls(ROAD, broken, spacing=5)
    assert sampled == apls(ROAD, broken, spacing=5) != score
    assert sampled == pytest.approx(score, abs=0.05)
