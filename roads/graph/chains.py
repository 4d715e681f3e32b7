"""Chains of pixels: a skeleton traced strip by strip, without a loop over its pixels.

A pixel is linked to its neighbours up, down, left and right, and to a diagonal one where no such
neighbour joins the two anyway. Pixels with three links or more, and squares of four pixels, are
crossings; those that touch become one node, at their centre.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

from roads.graph.paths import join_links, run_sums, take_rows
from roads.graph.skeleton import ReadRows, skeleton_strips
from roads.runtime.arrays import Bool, Float64, Int64
from roads.runtime.errors import UserError

MOST_CHAINS = 1_000_000  # 80,000 km of city streets; noise has more, and would fill the memory


@dataclass(frozen=True)
class Chains:
    """Chains of linked pixels, as traced in strips.

    Attributes:
        start, end: (n,) int64, the pixels at their ends, as row · stride + column; later nodes.
        length: (n,) float64 metres.
        steps: (n,) int64, links between pixels.
        weight: (n,) float64, over the links the sum of the mean of their pixels' probabilities.
        offsets: (n + 1,) int64, where in `inner` the chains begin and end.
        inner: (p, 2) int32, row and column of the points between their ends at which they turn.
        crossings: (c,) int64, the pixels that are crossings, whether or not a chain ends there.
    """

    start: Int64
    end: Int64
    length: Float64
    steps: Int64
    weight: Float64
    offsets: Int64
    inner: NDArray[np.int32]
    crossings: Int64


def trace_chains(
    read_mask: ReadRows,
    read_probability: ReadRows,
    height: int,
    width: int,
    metres: tuple[float, float],
    strip: int | None,
) -> Chains:
    """Trace the skeleton strip by strip; chains end where a strip's last row is, too.

    Raises:
        UserError: there are more than MOST_CHAINS.
    """
    stride = width + 1  # so that no pixel has a neighbour beyond the end of its row
    keys, bytes_ = np.zeros(0, np.int64), np.zeros(0, np.uint8)
    parts = [_trace_rows(keys, bytes_, 0, 0, stride, metres)]
    done = count = 0
    for top, lines in skeleton_strips(read_mask, height, width, strip):
        rows, columns = np.nonzero(lines)
        keys = np.concatenate([keys, (rows + top) * stride + columns])
        bytes_ = np.concatenate(
            [bytes_, read_probability(top, top + len(lines))[rows, columns].astype(np.uint8)]
        )
        bottom = top + len(lines)
        known = bottom if bottom == height else bottom - 1  # a row is traced with the next
        if known > done:
            parts.append(_trace_rows(keys, bytes_, done, known, stride, metres))
            done = known
            count += len(parts[-1].start)
            if count > MOST_CHAINS:
                raise UserError(
                    f"the road mask is noise: its lines are in more than {MOST_CHAINS:,} pieces. "
                    "Take a higher threshold, or a net that was trained longer."
                )
        needed = keys >= (done - 1) * stride
        keys, bytes_ = keys[needed], bytes_[needed]
    sizes = np.concatenate([np.diff(part.offsets) for part in parts])
    return Chains(
        start=np.concatenate([part.start for part in parts]),
        end=np.concatenate([part.end for part in parts]),
        length=np.concatenate([part.length for part in parts]),
        steps=np.concatenate([part.steps for part in parts]),
        weight=np.concatenate([part.weight for part in parts]),
        offsets=np.concatenate([[0], np.cumsum(sizes)]),
        inner=np.concatenate([part.inner for part in parts]),
        crossings=np.concatenate([part.crossings for part in parts]),
    )


def _trace_rows(
    keys: Int64,
    bytes_: NDArray[np.uint8],
    top: int,
    bottom: int,
    stride: int,
    metres: tuple[float, float],
) -> Chains:
    """Trace the links that leave rows [top, bottom) to the right or downward.

    Args:
        keys: pixels of the rows from top - 1 to bottom, ascending.
        bytes_: their probabilities.
        top, bottom: all pixels of row top and row bottom are ends of chains.
        stride, metres: as in `trace_chains`.
    """
    start, end, crossing = _links(keys, stride)
    degree = np.bincount(np.concatenate([start, end]), minlength=len(keys))
    crossing |= degree > 2
    rows = keys // stride
    mine = (rows[start] >= top) & (rows[start] < bottom)
    start, end = start[mine], end[mine]
    through = (degree == 2) & ~crossing & (rows > top) & (rows < bottom)
    path, offsets = join_links(start, end, through)
    links = len(start)
    pixels = np.stack([rows, keys % stride], axis=1).astype(np.int32)
    step = pixels[end] - pixels[start]
    length = np.hypot(step[:, 0] * metres[0], step[:, 1] * metres[1])
    weight = (bytes_[start].astype(np.float64) + bytes_[end]) / 2
    backward = path >= links
    link = path % max(1, links)
    reached = np.where(backward, start[link], end[link])
    heading = np.where(backward[:, None], -step[link], step[link])
    turns = np.zeros(len(path), np.bool_)
    turns[:-1] = (heading[1:] != heading[:-1]).any(axis=1)
    turns[offsets[1:] - 1] = False  # the chain's end
    left = np.where(backward, end[link], start[link])
    own = (rows >= top) & (rows < bottom)
    return Chains(
        start=keys[left[offsets[:-1]]],
        end=keys[reached[offsets[1:] - 1]],
        length=run_sums(length[link], offsets),
        steps=np.diff(offsets),
        weight=run_sums(weight[link], offsets),
        offsets=np.concatenate([[0], np.cumsum(turns)])[offsets],
        inner=pixels[reached[turns]],
        crossings=keys[crossing & own],
    )


def _links(keys: Int64, stride: int) -> tuple[Int64, Int64, Bool]:
    """Link pixels to their neighbours.

    Returns:
        Places in `keys` of each link's ends, the upper or left one first; and which pixels
        belong to a square of four.
    """
    pixels = np.arange(len(keys))
    right = np.zeros(len(keys), np.bool_)
    right[:-1] = keys[1:] == keys[:-1] + 1
    left = np.roll(right, 1)
    below, has_below = _find(keys, keys + stride)
    after, has_after = _find(keys, keys + stride + 1)
    before, has_before = _find(keys, keys + stride - 1)
    down_right = has_after & ~right & ~has_below
    down_left = has_before & ~left & ~has_below
    square = np.zeros(len(keys), np.bool_)
    first = pixels[right & has_below & has_after]
    square[np.concatenate([first, first + 1, below[first], after[first]])] = True
    start = np.concatenate([pixels[kind] for kind in (right, has_below, down_right, down_left)])
    end = np.concatenate(
        [pixels[right] + 1, below[has_below], after[down_right], before[down_left]]
    )
    return start, end, square


def _find(keys: Int64, wanted: Int64) -> tuple[Int64, Bool]:
    """Where in the ascending keys the wanted ones are, and whether they are there at all."""
    if len(keys) == 0:
        return np.zeros(0, np.int64), np.zeros(0, np.bool_)
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return places, keys[places] == wanted


def merge_crossings(
    chains: Chains, stride: int, metres: tuple[float, float]
) -> tuple[Chains, Float64]:
    """Make crossings that touch one node, at the centre of their pixels.

    The way from a crossing's pixel to that centre is added to the lengths.

    Returns:
        The chains with nodes for ends, and the nodes' places, (n, 2) row and column.
    """
    count = len(chains.start)
    ends = np.concatenate([chains.start, chains.end])
    pixels, ends = np.unique(ends, return_inverse=True)
    crossing = np.isin(pixels, chains.crossings)
    start, end = ends[:count], ends[count:]
    inside = (chains.steps == 1) & crossing[start] & crossing[end]
    pairs = sparse.coo_array(
        (np.ones(np.count_nonzero(inside), np.bool_), (start[inside], end[inside])),
        (len(pixels), len(pixels)),
    )
    _, group = csgraph.connected_components(pairs, directed=False)
    _, first, group = np.unique(group, return_index=True, return_inverse=True)
    node = np.argsort(np.argsort(first))[group]  # in the order of their first pixels
    places = np.stack(np.divmod(pixels, stride), axis=1).astype(np.float64)
    size = np.bincount(node)
    centres = np.stack([np.bincount(node, places[:, axis]) / size for axis in (0, 1)], axis=1)
    to_centre = np.hypot(*((places - centres[node]) * metres).T)
    kept = ~inside
    picked, offsets = take_rows(chains.offsets, np.flatnonzero(kept), np.zeros(kept.sum(), bool))
    merged = Chains(
        start=node[start[kept]],
        end=node[end[kept]],
        length=(chains.length + to_centre[start] + to_centre[end])[kept],
        steps=chains.steps[kept],
        weight=chains.weight[kept],
        offsets=offsets,
        inner=chains.inner[picked],
        crossings=chains.crossings,
    )
    return merged, centres
