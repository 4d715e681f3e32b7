"""APLS, the average path length similarity: whether routes over two road graphs are as long.

Van Etten, Lindenbaum and Bacastow, SpaceNet: A Remote Sensing Dataset and Challenge Series
(2018), section on evaluation. The variant taken here, which follows CosmiQ's `apls` in what the
paper leaves open:

- Control points are the nodes of a graph, and points that cut each of its edges into equal
  pieces of at most SPACING.
- A control point is found on the other graph at the nearest place of an edge, if that is at
  most SNAP away.
- Routes are the shortest paths between any two control points that are connected and at least
  SHORTEST apart along the roads. A route of length L costs min(1, |L − L'| / L), where L' is as
  long as the route between the same points on the other graph, and 1 if either is not found
  there or no road leads from one to the other.
- The similarity is 1 less the mean cost; of no routes it is 1. APLS is the harmonic mean of
  those of the first graph's routes and of the second's.
- Of more than MOST_POINTS control points so many are drawn, the same in every run.

Lengths are those of the lines. Identical graphs score 1, so do two without roads, and a graph
without roads against any other scores 0.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import shapely
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from roads.graph.tracing import RoadGraph
from roads.runtime.arrays import Float64, Int64

SPACING = 50.0  # metres, as are all lengths here
SNAP = 4.0
SHORTEST = 10.0
MOST_POINTS = 1000
SEED = 0
SOURCES_AT_ONCE = 100


@dataclass(frozen=True)
class _Points:
    """Places on a graph: the edge, and how far along its line, (p,) each."""

    edge: Int64
    along: Float64

    def pick(self, rows: NDArray) -> Self:
        return type(self)(self.edge[rows], self.along[rows])


@dataclass(frozen=True)
class _Network:
    """A graph in metres.

    Attributes:
        start, end: (n,) int64 nodes of its edges, at least one.
        lines: (n,) shapely lines.
        length: (n,) of the lines.
    """

    start: Int64
    end: Int64
    lines: NDArray[np.object_]
    length: Float64

    def control_points(self, spacing: float) -> _Points:
        """All nodes, and points along the edges; a sample of them where they are many."""
        edges = np.arange(len(self.start))
        ends = np.concatenate([self.start, self.end])
        _, first = np.unique(ends, return_index=True)
        node_edge = first % len(edges)
        node_along = np.where(first < len(edges), 0.0, self.length[node_edge])
        pieces = np.maximum(1, np.ceil(self.length / spacing)).astype(np.int64)
        edge = np.repeat(edges, pieces - 1)
        before = np.cumsum(pieces - 1) - (pieces - 1)
        number = np.arange(len(edge)) - before[edge] + 1
        points = _Points(
            np.concatenate([node_edge, edge]),
            np.concatenate([node_along, self.length[edge] * number / pieces[edge]]),
        )
        count = len(points.edge)
        if count <= MOST_POINTS:
            return points
        drawn = np.random.default_rng(SEED).choice(count, MOST_POINTS, replace=False)
        return points.pick(np.sort(drawn))

    def places(self, points: _Points) -> NDArray[np.object_]:
        """The points as shapely's."""
        found: NDArray[np.object_] = shapely.line_interpolate_point(
            self.lines[points.edge], points.along
        )
        return found

    def nearest(self, places: NDArray[np.object_], reach: float) -> tuple[Int64, _Points]:
        """Which of some places are at most `reach` from an edge, and where there."""
        found, edge = shapely.STRtree(self.lines).query_nearest(
            places, max_distance=reach, all_matches=False
        )
        along = shapely.line_locate_point(self.lines[edge], places[found])
        return found, _Points(edge, np.minimum(along, self.length[edge]))

    def distances(self, points: _Points) -> Float64:
        """Lengths of the shortest ways between all points, (p, p); inf where there is none."""
        edges, count = len(self.start), len(points.edge)
        nodes = int(max(self.start.max(), self.end.max())) + 1
        stops = np.concatenate([self.start, nodes + np.arange(count), self.end])
        edge = np.concatenate([np.arange(edges), points.edge, np.arange(edges)])
        along = np.concatenate([np.zeros(edges), points.along, self.length])
        rank = np.repeat([0, 1, 2], [edges, count, edges])
        order = np.lexsort((rank, along, edge))
        same = np.flatnonzero(edge[order][1:] == edge[order][:-1])
        one, other = stops[order][same], stops[order][same + 1]
        roads = _matrix(one, other, (along[order][1:] - along[order][:-1])[same], nodes + count)
        matrix = np.empty((count, count))
        for first in range(0, count, SOURCES_AT_ONCE):
            sources = np.arange(first, min(first + SOURCES_AT_ONCE, count))
            ways = csgraph.dijkstra(roads, directed=False, indices=nodes + sources)
            matrix[sources] = ways[:, nodes:]
        return matrix


def _matrix(one: Int64, other: Int64, length: Float64, size: int) -> sparse.csr_array:
    """The shortest road between each two stops, as a sparse matrix (which adds up equal ones)."""
    low, high = np.minimum(one, other), np.maximum(one, other)
    order = np.lexsort((length, high, low))
    low, high, length = low[order], high[order], length[order]
    shortest = np.ones(len(low), np.bool_)
    shortest[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return sparse.csr_array((length[shortest], (low[shortest], high[shortest])), (size, size))


def apls(
    first: RoadGraph,
    second: RoadGraph,
    *,
    metres: tuple[float, float] = (1.0, 1.0),
    spacing: float = SPACING,
    snap: float = SNAP,
    shortest: float = SHORTEST,
) -> float:
    """The similarity of two graphs, from 0 to 1, the same if they are swapped.

    Args:
        first, second: with lines in pixels of the same picture.
        metres: of a row and of a column.
        spacing, snap, shortest: metres, see above.
    """
    one, other = (_network(graph, metres) for graph in (first, second))
    there = _similarity(one, other, spacing, snap, shortest)
    back = _similarity(other, one, spacing, snap, shortest)
    return 2 * there * back / (there + back) if there + back else 0.0


def _network(graph: RoadGraph, metres: tuple[float, float]) -> _Network | None:
    if not graph.edges:
        return None
    points = np.concatenate([edge.line for edge in graph.edges]) * metres
    owner = np.repeat(np.arange(len(graph.edges)), [len(edge.line) for edge in graph.edges])
    lines = shapely.linestrings(points, indices=owner)
    start, end = (
        np.array([getattr(edge, name) for edge in graph.edges], np.int64)
        for name in ("start", "end")
    )
    return _Network(start, end, lines, shapely.length(lines))


def _similarity(
    network: _Network | None, other: _Network | None, spacing: float, snap: float, shortest: float
) -> float:
    """1 less the mean cost of the network's routes on the other."""
    if network is None:
        return 1.0
    points = network.control_points(spacing)
    length = network.distances(points)
    routes = np.isfinite(length) & (length >= shortest)
    if not routes.any():
        return 1.0
    cost = np.ones(length.shape)
    if other is not None:
        found, snapped = other.nearest(network.places(points), snap)
        both = np.ix_(found, found)
        routed = routes[both]
        true, there = length[both][routed], other.distances(snapped)[routed]
        block = np.ones(routed.shape)
        block[routed] = np.minimum(1, np.abs(true - there) / true)
        cost[both] = block
    return 1 - float(cost[routes].mean())
