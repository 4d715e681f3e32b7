"""Traces road centrelines as a graph: nodes are crossings and dead ends, edges the roads between.

The length of a road is that of its simplified line. The chain of pixels, whose length decides
whether a road is a spur, has steps of 1 and √2 pixels and is up to 8 % longer. A circle without a
crossing has one node, and a joined gap is a separate edge.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import shapely
from shapely.ops import substring

from roads.graph.chains import trace_chains
from roads.graph.edges import (
    Edges,
    drop_specks,
    join_edges,
    merge_crossings,
    prune_spurs,
    sort_edges,
)
from roads.graph.skeleton import ReadRows
from roads.runtime.arrays import Bool, Float64

CERTAIN = 65_535  # the probability 1, as it is stored
MERGE = 7.0  # metres; the width of a road in the maps of the Massachusetts Roads Dataset
BACK = 10.0  # metres at the end of a road that define its direction there
LINES_AT_ONCE = 10_000  # to simplify


@dataclass(frozen=True, slots=True)
class Edge:
    """A road between two nodes, or a loop at one.

    Attributes:
        start, end: rows of RoadGraph.nodes, start ≤ end.
        line: (k, 2) float64, row and column of its points, from node to node.
        length: of the line, in metres.
        traced: length of the chain of pixels, in metres; `length` for a joined gap.
        probability: the mean over the chain, 0 to 1, in which the two end pixels count half; the
            mean along the line for a joined gap, the whole road's for a part of a cut road.
    """

    start: int
    end: int
    line: Float64
    length: float
    traced: float
    probability: float


@dataclass(frozen=True)
class RoadGraph:
    """Roads and their nodes; several roads may connect the same two nodes.

    Attributes:
        nodes: (n, 2) float64, row and column; (0, 0) is the centre of the first pixel.
        edges: sorted by their nodes.
    """

    nodes: Float64
    edges: list[Edge]


def trace_roads(
    read_mask: ReadRows,
    read_probability: ReadRows,
    height: int,
    width: int,
    *,
    metres: tuple[float, float],
    spur: float,
    tolerance: float,
    merge: float = MERGE,
    join: float = 0,
    strip: int | None = None,
) -> RoadGraph:
    """Thin a mask to centrelines and trace them; only a strip and the graph are in memory.

    Args:
        read_mask: returns rows [top, bottom) of the road mask, (rows, width) bool. Both readers
            are called once for each row, from top to bottom.
        read_probability: the same for the probability, uint16, CERTAIN for 1. It is called again
            for the rows of each joined gap.
        height, width: of the picture in pixels.
        metres: height and width of a pixel.
        spur: metres; shorter dead ends at crossings are pruned, the shortest first, and so are
            shorter loops and isolated pieces with a shorter total length.
        tolerance: the largest error of simplified lines, in metres (Douglas and Peucker 1973).
        merge: metres; narrower gaps and holes of the mask are filled, so that no two roads run
            closer side by side, and crossings connected by a shorter road are merged.
        join: metres; finally a dead end is joined to the nearest road in the corridor straight
            ahead of it, which is this long and MERGE wide. 0 joins none.
        strip: rows traced at once, by default as many as skeleton.STRIP_PIXELS allows. It affects
            only roads wider than skeleton.MARGIN, and which point of a circle is its node.

    Raises:
        UserError: the mask is noise.
    """
    closing = round(merge / 2 / max(metres))
    edges, nodes = trace_chains(read_mask, read_probability, height, width, metres, strip, closing)
    edges = prune_spurs(join_edges(edges, nodes), nodes, spur)
    edges, nodes = merge_crossings(edges, nodes, metres, merge)
    edges = prune_spurs(join_edges(edges, nodes), nodes, spur)
    edges = sort_edges(drop_specks(edges, len(nodes), spur))
    kept, ends = np.unique(np.concatenate([edges.start, edges.end]), return_inverse=True)
    columns = zip(
        *ends.reshape(2, -1).tolist(),
        _lines(edges, nodes, metres, tolerance),
        edges.length.tolist(),
        (edges.weight / (CERTAIN * edges.steps)).tolist(),
        strict=True,
    )
    graph = RoadGraph(
        nodes[kept],
        [
            Edge(start, end, line, _length(line, metres), traced, probability)
            for start, end, line, traced, probability in columns
        ],
    )
    return _join_gaps(graph, metres, join, read_probability) if join and graph.edges else graph


def trace_mask(mask: Bool, **how: Any) -> RoadGraph:
    """Trace a mask in memory, (height, width) bool, with probability 1; `how` as `trace_roads`."""
    height, width = mask.shape
    return trace_roads(
        lambda top, bottom: mask[top:bottom],
        lambda top, bottom: np.full((bottom - top, width), CERTAIN, np.uint16),
        height,
        width,
        **how,
    )


def _lines(
    edges: Edges, nodes: Float64, metres: tuple[float, float], tolerance: float
) -> Iterator[Float64]:
    """The simplified line of each edge, from node to node."""
    for first in range(0, len(edges.start), LINES_AT_ONCE):
        some = edges.pick(np.arange(first, min(first + LINES_AT_ONCE, len(edges.start))))
        owner = np.repeat(np.arange(len(some.start)), some.sizes + 2)
        lines = shapely.linestrings(some.lines(nodes) * metres, indices=owner)
        simple = shapely.simplify(lines, tolerance, preserve_topology=False)
        simple = np.where(shapely.length(simple) > 0, simple, lines)  # a tiny circle may collapse
        points, owner = shapely.get_coordinates(simple, return_index=True)
        bounds = np.searchsorted(owner, np.arange(1, len(some.start)))
        parts = np.split(points / metres, bounds)
        for line, start, end in zip(parts, some.start, some.end, strict=True):
            line[0], line[-1] = nodes[start], nodes[end]
            yield line


def _length(line: Float64, metres: tuple[float, float]) -> float:
    return float(np.hypot(*(np.diff(line, axis=0) * metres).T).sum())


def _join_gaps(
    graph: RoadGraph, metres: tuple[float, float], join: float, read_probability: ReadRows
) -> RoadGraph:
    """Join each dead end to the road ahead, see `trace_roads`, and cut that road there."""
    nodes, edges = list(graph.nodes), graph.edges
    degree = np.bincount([node for edge in edges for node in (edge.start, edge.end)])
    lines = shapely.STRtree([shapely.LineString(edge.line * metres) for edge in edges])
    cuts: dict[int, list[tuple[float, int]]] = {}  # by edge: metres along it, and the node there
    gaps = set()
    for own, edge in enumerate(edges):
        line = lines.geometries[own]
        for tip, onward in ((edge.start, line), (edge.end, line.reverse())):
            if degree[tip] > 1 or (found := _road_ahead(lines, own, onward, join)) is None:
                continue
            hit, along = found
            other, length = edges[hit], lines.geometries[hit].length
            stops = cuts.setdefault(hit, [(0.0, other.start), (length, other.end)])
            near = [node for place, node in stops if abs(place - along) < MERGE]
            if not near:
                near = [len(nodes)]
                place = lines.geometries[hit].interpolate(along)
                nodes.append(shapely.get_coordinates(place)[0] / metres)
                stops.append((along, near[0]))
            gaps.add((min(tip, near[0]), max(tip, near[0])))
    joined = [edge for number, edge in enumerate(edges) if number not in cuts]
    for hit, stops in cuts.items():
        whole, road = edges[hit], lines.geometries[hit]
        for (begin, one), (end, two) in itertools.pairwise(sorted(stops)):
            line = shapely.get_coordinates(substring(road, begin, end)) / metres
            line[0], line[-1] = nodes[one], nodes[two]
            if one > two:
                one, two, line = two, one, line[::-1]
            traced = whole.traced * (end - begin) / road.length
            length = _length(line, metres)
            joined.append(Edge(one, two, line, length, traced, whole.probability))
    for one, two in gaps:
        line = np.stack([nodes[one], nodes[two]])
        length = _length(line, metres)
        joined.append(Edge(one, two, line, length, length, _probability(line, read_probability)))
    return RoadGraph(
        np.stack(nodes), sorted(joined, key=lambda edge: (edge.start, edge.end, edge.traced))
    )


def _road_ahead(
    lines: shapely.STRtree, own: int, line: shapely.LineString, reach: float
) -> tuple[int, float] | None:
    """The road ahead of the start of line number `own`, and the position along it in metres."""
    tip, back = shapely.get_coordinates(shapely.line_interpolate_point(line, [0, BACK]))
    ahead = tip + (tip - back) * (reach / np.hypot(*(tip - back)))
    corridor = shapely.buffer(shapely.LineString([tip, ahead]), MERGE / 2, cap_style="flat")
    hits = np.setdiff1d(lines.query(corridor, "intersects"), own)
    if not hits.size:
        return None
    roads = lines.geometries[hits]
    gaps = shapely.shortest_line(shapely.Point(tip), shapely.intersection(roads, corridor))
    nearest = shapely.length(gaps).argmin()
    place = shapely.get_point(gaps[nearest], 1)
    return int(hits[nearest]), shapely.line_locate_point(roads[nearest], place)


def _probability(line: Float64, read_probability: ReadRows) -> float:
    """The mean along a straight line between two points, (2, 2) row and column."""
    steps = int(np.ceil(np.abs(line[1] - line[0]).max())) + 1
    rows, columns = np.rint(np.linspace(line[0], line[1], steps)).astype(np.int64).T
    top = int(rows.min())
    return float(read_probability(top, int(rows.max()) + 1)[rows - top, columns].mean()) / CERTAIN
