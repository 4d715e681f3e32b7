"""Vectorized operations on the edges of a road graph: join, prune, merge crossings, drop specks."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from roads.runtime.arrays import Bool, Float64, Int64


class Edges(NamedTuple):
    """n lines from node to node, with p points in all between their ends.

    Attributes:
        start, end: (n,) int64, the nodes.
        length: (n,) float64 metres.
        steps: (n,) int64, the number of links between pixels.
        weight: (n,) float64, the sum over the links of the mean of their pixels' probabilities.
        sizes: (n,) int64, the number of `points` of each edge.
        points: (p, 2) float64, row and column, edge after edge, without the ends.
    """

    start: Int64
    end: Int64
    length: Float64
    steps: Int64
    weight: Float64
    sizes: Int64
    points: Float64

    def pick(self, rows: NDArray, backward: Bool | None = None) -> "Edges":
        """Some edges in the given order, some of them reversed."""
        turned = np.zeros(len(rows), np.bool_) if backward is None else backward
        sizes = self.sizes[rows]
        last = np.cumsum(self.sizes)[rows] - 1
        within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        from_start = np.repeat(last - sizes + 1, sizes) + within
        from_end = np.repeat(last, sizes) - within
        return Edges(
            start=np.where(turned, self.end[rows], self.start[rows]),
            end=np.where(turned, self.start[rows], self.end[rows]),
            length=self.length[rows],
            steps=self.steps[rows],
            weight=self.weight[rows],
            sizes=sizes,
            points=self.points[np.where(np.repeat(turned, sizes), from_end, from_start)],
        )

    def join(self, places: Float64, through: Bool) -> "Edges":
        """Join edges at the nodes `through`, (nodes,) bool, where exactly two ends must meet."""
        order, bounds = _paths(self.start, self.end, through)
        turned = self.pick(order % len(self.start), order >= len(self.start))
        first, last = bounds[:-1], bounds[1:] - 1
        joint = np.delete(np.arange(len(order)), last)
        return Edges(
            start=turned.start[first],
            end=turned.end[last],
            length=np.add.reduceat(turned.length, first),
            steps=np.add.reduceat(turned.steps, first),
            weight=np.add.reduceat(turned.weight, first),
            sizes=np.add.reduceat(turned.sizes, first) + last - first,
            points=np.insert(
                turned.points, np.cumsum(turned.sizes)[joint], places[turned.end[joint]], axis=0
            ),
        )

    def lines(self, places: Float64) -> Float64:
        """The points including the ends, (p + 2n, 2)."""
        ends = np.stack([self.start, self.end], axis=1).ravel()
        after = np.cumsum(self.sizes)
        bounds = np.stack([after - self.sizes, after], axis=1).ravel()
        return np.insert(self.points, bounds, places[ends], axis=0)

    def degree(self, nodes: int) -> Int64:
        """The number of edge ends at each node."""
        return np.bincount(np.concatenate([self.start, self.end]), minlength=nodes)


def components(start: Int64, end: Int64, nodes: int) -> Int64:
    """The connected component of each node, numbered by first node."""
    pairs = sparse.coo_array((np.ones(len(start), np.bool_), (start, end)), (nodes, nodes))
    return csgraph.connected_components(pairs, directed=False)[1].astype(np.int64)


def _paths(start: Int64, end: Int64, through: Bool) -> tuple[Int64, Int64]:
    """Find the paths that consecutive edges form.

    Edge i of n has two directions: i from its start to its end, and i + n the other way.

    Args:
        start, end: (n,), the nodes of the edges.
        through: as in `Edges.join`. A circle of such nodes only is cut at its first node.

    Returns:
        The directed edges of all paths in order, (n,), each edge once, and the bounds of the paths
        in them, (paths + 1,).
    """
    count = len(start)
    origin = np.concatenate([start, end])
    twin = np.roll(np.arange(2 * count), count)  # the reverse of each directed edge
    part = components(start, end, len(through))
    circle = np.bincount(part, ~through) == 0
    through = through.copy()
    through[np.unique(part, return_index=True)[1][circle]] = False
    leaving = np.flatnonzero(through[origin])
    one, other = leaving[np.argsort(origin[leaving], kind="stable")].reshape(-1, 2).T
    last = np.arange(2 * count)
    last[twin[one]], last[twin[other]] = other, one  # the next edge; below, the last
    left = (last != np.arange(2 * count)).astype(np.int64)
    while not np.array_equal(further := last[last], last):  # the distance doubles
        left += left[last]
        last = further
    first = np.flatnonzero(~through[origin])
    first = first[first < twin[last[first]]]  # one of each path and its reverse
    bounds = np.concatenate([[0], np.cumsum(left[first] + 1)])
    place = np.full(2 * count, -1)
    place[last[first]] = bounds[1:] - 1
    place = place[last] - left  # negative on the reverse paths
    chosen = np.flatnonzero(place >= 0)
    order = np.empty(count, np.int64)
    order[place[chosen]] = chosen
    return order, bounds


def join_edges(edges: Edges, nodes: Float64) -> Edges:
    """Join the edges at each node where only two ends meet."""
    return edges.join(nodes, edges.degree(len(nodes)) == 2)


def merge_nodes(
    edges: Edges, inside: Bool, nodes: Float64, metres: tuple[float, float]
) -> tuple[Edges, Float64]:
    """Drop the edges `inside`, and merge the nodes that they connect into one at their centre.

    The distance from a node, (m, 2) row and column, to the centre is added to the lengths of its
    edges. Returns the other edges, and the new positions of the nodes.
    """
    node = components(edges.start[inside], edges.end[inside], len(nodes))
    sums = np.stack([np.bincount(node, axis) for axis in nodes.T], axis=1)
    centres = sums / np.bincount(node)[:, None]
    to_centre = np.hypot(*((nodes - centres[node]) * metres).T)
    merged = edges._replace(
        start=node[edges.start],
        end=node[edges.end],
        length=edges.length + to_centre[edges.start] + to_centre[edges.end],
    )
    return merged.pick(np.flatnonzero(~inside)), centres


def merge_crossings(
    edges: Edges, nodes: Float64, metres: tuple[float, float], width: float
) -> tuple[Edges, Float64]:
    """Merge crossings that are connected by an edge shorter than `width` metres."""
    ends = edges.degree(len(nodes)) == 1
    short = (edges.length < width) & ~ends[edges.start] & ~ends[edges.end]
    return merge_nodes(edges, short, nodes, metres)


def prune_spurs(edges: Edges, nodes: Float64, spur: float) -> Edges:
    """Drop each crossing's shortest dead end or loop below `spur` metres, join, and repeat."""
    while True:
        degree = edges.degree(len(nodes))
        start_is_tip = degree[edges.start] == 1
        tip = np.where(start_is_tip, edges.start, edges.end)
        root = np.where(start_is_tip, edges.end, edges.start)
        open_end = (degree[tip] == 1) | (tip == root)
        spurs = np.flatnonzero(open_end & (degree[root] > 2) & (edges.length < spur))
        if spurs.size == 0:
            return edges
        spurs = spurs[np.lexsort((tip[spurs], edges.length[spurs].round(6), root[spurs]))]
        _, first = np.unique(root[spurs], return_index=True)
        kept = np.delete(np.arange(len(tip)), spurs[first])
        edges = join_edges(edges.pick(kept), nodes)


def drop_specks(edges: Edges, nodes: int, least: float) -> Edges:
    """Drop the connected components with less than `least` metres of road."""
    part = components(edges.start, edges.end, nodes)[edges.start]
    total = np.bincount(part, edges.length)
    return edges.pick(np.flatnonzero(total[part] >= least))


def sort_edges(edges: Edges) -> Edges:
    """Make each edge start at its smaller node, and sort by nodes and length."""
    edges = edges.pick(np.arange(len(edges.start)), edges.start > edges.end)
    return edges.pick(np.lexsort((edges.length.round(6), edges.end, edges.start)))
