"""Paths through a graph of links, and tables of unequal rows, without a loop over either."""

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from roads.runtime.arrays import Bool, Int64


def join_links(start: NDArray, end: NDArray, through: Bool) -> tuple[Int64, Int64]:
    """Join links to paths that go on wherever they may.

    A link has two directions: number i of m links is i from its start to its end, and i + m
    from its end to its start.

    Args:
        start, end: (m,) integer, the points that each link joins.
        through: (points,) bool, the points that paths go through; exactly two ends of links
            meet there. A circle of only such points is cut at its first one.

    Returns:
        The directed links of each path in its order, (m,), every link once; and where each path
        begins and ends in them, (paths + 1,).
    """
    links = len(start)
    origin, target = np.concatenate([start, end]), np.concatenate([end, start])
    twin = np.concatenate([np.arange(links, 2 * links), np.arange(links)])
    through = through & ~_cuts(start, end, through)
    following = _following(origin, target, twin, through)
    last, left = _last_of_each(following)
    first = np.flatnonzero(~through[origin])
    first = first[first < twin[last[first]]]  # of a path and its reverse, one
    offsets = np.concatenate([[0], np.cumsum(left[first] + 1)])
    path = np.full(2 * links, -1)
    path[last[first]] = np.arange(len(first))
    path = path[last]
    members = np.flatnonzero(path >= 0)
    ordered = np.empty(links, np.int64)
    ordered[offsets[path[members] + 1] - 1 - left[members]] = members
    return ordered, offsets


def _cuts(start: NDArray, end: NDArray, through: Bool) -> Bool:
    """The first point of each circle that nothing interrupts."""
    points = len(through)
    pairs = sparse.coo_array((np.ones(len(start), np.bool_), (start, end)), (points, points))
    _, part = csgraph.connected_components(pairs, directed=False)
    _, first = np.unique(part, return_index=True)
    closed = np.bincount(part, ~through) == 0
    cuts = np.zeros(points, np.bool_)
    cuts[first[closed]] = True
    return cuts


def _following(origin: NDArray, target: NDArray, twin: NDArray, through: Bool) -> Int64:
    """The directed link that follows each on its path; the last ones are followed by themselves."""
    following = np.arange(len(origin))
    leaving = np.flatnonzero(through[origin])
    pairs = leaving[np.argsort(origin[leaving], kind="stable")].reshape(-1, 2)
    following[twin[pairs[:, 0]]], following[twin[pairs[:, 1]]] = pairs[:, 1], pairs[:, 0]
    return following


def _last_of_each(following: Int64) -> tuple[Int64, Int64]:
    """The last link of each one's path, and how many follow, by doubling the reach."""
    last, left = following, (following != np.arange(len(following))).astype(np.int64)
    while True:
        further = last[last]
        if np.array_equal(further, last):
            return last, left
        left = left + left[last]
        last = further


def take_rows(offsets: Int64, rows: NDArray, backward: Bool) -> tuple[Int64, Int64]:
    """Pick rows of a ragged table, some of them backward.

    Args:
        offsets: (n + 1,), row i is at [offsets[i], offsets[i + 1]) of the table's data.
        rows: (k,), the rows to pick.
        backward: (k,) bool, which of them to turn around.

    Returns:
        Where in the data the picked values lie, and the picked rows' own offsets, (k + 1,).
    """
    sizes = offsets[rows + 1] - offsets[rows]
    picked = np.concatenate([[0], np.cumsum(sizes)])
    within = np.arange(picked[-1]) - np.repeat(picked[:-1], sizes)
    from_end = np.repeat(offsets[rows + 1], sizes) - 1 - within
    from_start = np.repeat(offsets[rows], sizes) + within
    return np.where(np.repeat(backward, sizes), from_end, from_start), picked


def run_sums(values: NDArray, offsets: Int64) -> NDArray:
    """The sums of consecutive runs, none of them empty."""
    return np.add.reduceat(values, offsets[:-1]) if len(offsets) > 1 else values[:0]
