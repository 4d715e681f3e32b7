"""APLS, the average path length similarity: compares the lengths of routes over two road graphs.

Van Etten, Lindenbaum and Bacastow, SpaceNet: A Remote Sensing Dataset and Challenge Series
(2018), section on evaluation. Where the paper leaves a choice:

- Control points are the nodes of a graph, and points that cut each of its edges into equal
  pieces of SPACING or less.
- A control point is snapped to the nearest edge of the other graph, if that is within SNAP.
- Routes are the shortest paths between any two connected control points that are SHORTEST or
  more apart along the roads. A route of length L costs min(1, |L − L'| / L), where L' is the
  length of the route between the snapped points. It costs 1 if a point was not snapped or no
  road connects the two.
- The similarity is 1 minus the mean cost; without routes it is 1. APLS is the harmonic mean of
  the similarities for the first graph's routes and for the second's.
- If there are more than MOST_POINTS control points, that many are drawn at random, with a fixed
  seed.

Lengths are those of the lines. Identical graphs score 1, as do two without roads; a graph
without roads scores 0 against any graph with routes.

SPACING, SNAP, SHORTEST and the costs are those of the paper's own code (CosmiQ's `apls`), which
differs in three ways. It puts no control points on nearly straight edges (`create_graph_midpoints`;
`straight` here), so straight roads count less; this changes the score of a tile of the
Massachusetts Roads Dataset by −0.06 to +0.09. It cuts parallel edges and loops differently: a
point on one of two edges between the same nodes may divide the other. And it uses at most 500
control points, in another order.
"""

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
STRAIGHT = 0.012  # CosmiQ's is_curved_eps
SOURCES_AT_ONCE = 100


class _Network:
    """A graph with at least one edge, in metres.

    Places on it are given by (p,) edges and (p,) metres along their lines.
    """

    def __init__(self, graph: RoadGraph, metres: tuple[float, float]):
        self.start, self.end = np.array([(edge.start, edge.end) for edge in graph.edges]).T
        self.lines = np.array([shapely.LineString(edge.line * metres) for edge in graph.edges])
        self.length: Float64 = shapely.length(self.lines)

    def pieces(self, spacing: float, straight: float | None) -> Int64:
        """The number of pieces into which control points cut each edge."""
        pieces = np.maximum(1, np.ceil(self.length / spacing)).astype(np.int64)
        if straight is not None:  # as create_graph_midpoints
            left, low, right, high = shapely.bounds(self.lines).T
            bent = abs(np.hypot(right - left, high - low) - self.length) >= straight * self.length
            pieces[(self.length >= 0.75 * spacing) & (pieces == 1)] = 2
            pieces[~bent] = 1
        return pieces

    def control_points(self, pieces: Int64) -> tuple[Int64, Float64]:
        """All nodes, and points that cut the edges into these pieces, or a sample of all."""
        count = len(self.lines)
        _, first = np.unique(np.concatenate([self.start, self.end]), return_index=True)
        cut = np.repeat(np.arange(count), pieces - 1)
        number = np.arange(len(cut)) - np.searchsorted(cut, cut) + 1
        edge = np.concatenate([first % count, cut])
        along = np.concatenate([
            np.where(first < count, 0.0, self.length[first % count]),
            self.length[cut] * number / pieces[cut],
        ])  # fmt: skip
        if len(edge) > MOST_POINTS:
            drawn = np.random.default_rng(SEED).choice(len(edge), MOST_POINTS, replace=False)
            drawn.sort()
            return edge[drawn], along[drawn]
        return edge, along

    def snap(
        self, points: NDArray[np.object_], reach: float
    ) -> tuple[Int64, tuple[Int64, Float64]]:
        """Which of the shapely points are within `reach` of an edge, and their places on it."""
        found, edge = shapely.STRtree(self.lines).query_nearest(
            points, max_distance=reach, all_matches=False
        )
        along = shapely.line_locate_point(self.lines[edge], points[found])
        return found, (edge, np.minimum(along, self.length[edge]))

    def distances(self, edge: Int64, along: Float64) -> Float64:
        """Lengths of the shortest paths between all places, (p, p); inf where there is none."""
        count, edges = len(edge), np.arange(len(self.lines))
        nodes = int(max(self.start.max(), self.end.max())) + 1
        size = nodes + count
        stops = np.concatenate([self.start, np.arange(nodes, size), self.end])
        edge = np.concatenate([edges, edge, edges])
        along = np.concatenate([np.zeros(len(edges)), along, self.length])
        order = np.lexsort((along, edge))  # stable: each edge from its start to its end
        stops, edge = stops[order], edge[order]
        same = np.flatnonzero(edge[1:] == edge[:-1])
        length = np.diff(along[order])[same]
        low, high = np.sort([stops[same], stops[same + 1]], axis=0)
        rising = np.argsort(length)
        _, first = np.unique((low * size + high)[rising], return_index=True)
        shortest = rising[first]  # between two stops; a sparse matrix would add up duplicates
        roads = sparse.csr_array((length[shortest], (low[shortest], high[shortest])), (size, size))
        matrix = np.empty((count, count))
        for begin in range(0, count, SOURCES_AT_ONCE):
            sources = np.arange(begin, min(begin + SOURCES_AT_ONCE, count))
            paths = csgraph.dijkstra(roads, directed=False, indices=nodes + sources)
            matrix[sources] = paths[:, nodes:]
        return matrix


def apls(
    first: RoadGraph,
    second: RoadGraph,
    *,
    metres: tuple[float, float] = (1.0, 1.0),
    spacing: float = SPACING,
    snap: float = SNAP,
    shortest: float = SHORTEST,
    straight: float | None = None,
) -> float:
    """The similarity of two graphs, from 0 to 1; it is symmetric.

    Args:
        first, second: with lines in pixels of the same picture.
        metres: height and width of a pixel.
        spacing, snap, shortest: metres, see above.
        straight: an edge gets no control points between its ends if the diagonal of its bounding
            box differs from its length by less than this fraction; STRAIGHT for scores closer to
            those of CosmiQ's code, None for points on every edge.
    """
    one, other = (_Network(graph, metres) if graph.edges else None for graph in (first, second))
    there, back = (
        _similarity(here, away, here.pieces(spacing, straight), snap, shortest) if here else 1.0
        for here, away in ((one, other), (other, one))
    )
    return 2 * there * back / (there + back) if there + back else 0.0


def _similarity(
    network: _Network, other: _Network | None, pieces: Int64, snap: float, shortest: float
) -> float:
    """1 minus the mean cost of the network's routes on the other."""
    edge, along = network.control_points(pieces)
    length = network.distances(edge, along)
    routes = np.isfinite(length) & (length >= shortest)
    if not routes.any():
        return 1.0
    there = np.full(length.shape, np.inf)
    if other is not None:
        points = shapely.line_interpolate_point(network.lines[edge], along)
        found, places = other.snap(points, snap)
        there[np.ix_(found, found)] = other.distances(*places)
    cost = np.minimum(1, np.abs(length[routes] - there[routes]) / length[routes])
    return 1 - float(cost.mean())
