"""The chains of pixels between a skeleton's crossings, traced strip by strip.

A pixel is linked to its neighbours above, below, left and right, and to a diagonal neighbour only
if none of these connects the two. Pixels with three or more links, and squares of four pixels, are
crossings. Adjacent crossings become one node at their centre.
"""

import numpy as np
from numpy.typing import NDArray

from roads.graph.edges import Edges, merge_nodes
from roads.graph.skeleton import ReadRows, skeleton_strips
from roads.runtime.arrays import Bool, Float64, Int64
from roads.runtime.errors import UserError

MOST_CHAINS = 1_000_000  # 80,000 km of city streets; noise has more and would fill the memory


def trace_chains(
    read_mask: ReadRows,
    read_probability: ReadRows,
    height: int,
    width: int,
    metres: tuple[float, float],
    strip: int | None,
    closing: int,
) -> tuple[Edges, Float64]:
    """Trace the skeleton strip by strip; see `trace_roads` and `skeleton_strips` for the arguments.

    Returns:
        The chains, which also end at the last row of each strip, and the positions of their nodes,
        (nodes, 2) row and column.

    Raises:
        UserError: there are more than MOST_CHAINS.
    """
    stride = width + 1  # so that no pixel has a neighbour beyond the end of its row
    keys, probabilities = np.zeros(0, np.int64), np.zeros(0, np.uint16)
    parts, crossings = [], []
    done = count = 0
    for top, lines in skeleton_strips(read_mask, height, width, strip, closing):
        bottom = top + len(lines)
        rows, columns = np.nonzero(lines)
        keys = np.append(keys, (rows + top) * stride + columns)
        probabilities = np.append(probabilities, read_probability(top, bottom)[rows, columns])
        known = bottom if bottom == height else bottom - 1  # a row needs the next one
        chains, crossing = _trace_rows(keys, probabilities, done, known, stride, metres)
        parts.append(chains)
        crossings.append(crossing)
        count += len(chains.start)
        if count > MOST_CHAINS:
            raise UserError(
                f"the road mask is noise: it has more than {MOST_CHAINS:,} pieces of road. "
                "Use a higher threshold, or a net that was trained longer."
            )
        done = known
        needed = keys >= (done - 1) * stride
        keys, probabilities = keys[needed], probabilities[needed]
    chains = Edges(*map(np.concatenate, zip(*parts, strict=True)))
    return _merge_crossings(chains, np.concatenate(crossings), stride, metres)


def _trace_rows(
    keys: Int64,
    probabilities: NDArray[np.uint16],
    top: int,
    bottom: int,
    stride: int,
    metres: tuple[float, float],
) -> tuple[Edges, Int64]:
    """Trace the links that leave rows [top, bottom) to the right or downward.

    Args:
        keys: pixels of the rows from top - 1 to bottom, as row · stride + column, ascending.
        probabilities: of these pixels, as stored.
        top, bottom: all pixels of rows top and bottom are ends of chains.
        stride, metres: as in `trace_chains`.

    Returns:
        The chains, with keys as nodes and points only at bends, and the keys of the crossings in
        these rows.
    """
    start, end, crossing = _links(keys, stride)
    degree = np.bincount(np.concatenate([start, end]), minlength=len(keys))
    crossing |= degree > 2
    rows = keys // stride
    mine = (rows[start] >= top) & (rows[start] < bottom)
    start, end = start[mine], end[mine]
    pixels = np.stack([rows, keys % stride], axis=1).astype(np.float64)
    links = Edges(
        start,
        end,
        length=np.hypot(*((pixels[end] - pixels[start]) * metres).T),
        steps=np.ones(len(start), np.int64),
        weight=(probabilities[start].astype(np.float64) + probabilities[end]) / 2,
        sizes=np.zeros(len(start), np.int64),
        points=np.zeros((0, 2)),
    )
    chains = links.join(pixels, (degree == 2) & ~crossing & (rows > top) & (rows < bottom))
    owner = np.repeat(np.arange(len(chains.sizes)), chains.sizes)
    bends = np.diff(chains.lines(pixels), n=2, axis=0) != 0
    turns = bends.any(axis=1)[np.arange(len(owner)) + 2 * owner]
    chains = chains._replace(
        start=keys[chains.start],
        end=keys[chains.end],
        sizes=np.bincount(owner[turns], minlength=len(chains.sizes)),
        points=chains.points[turns],
    )
    return chains, keys[crossing & (rows >= top) & (rows < bottom)]


def _links(keys: Int64, stride: int) -> tuple[Int64, Int64, Bool]:
    """Link pixels to their neighbours.

    Returns:
        The indices in `keys` of each link's ends, the upper or left one first, and which pixels
        belong to a square of four.
    """
    wanted = keys + np.array([[1], [stride], [stride + 1], [stride - 1]])
    places = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    linked = keys[places] == wanted
    right, below, below_right, below_left = linked
    corner = right & below & below_right
    square = corner.copy()
    square[places[:3, corner]] = True
    below_right &= ~right & ~below
    below_left &= ~np.roll(right, 1) & ~below  # rolled: whether a pixel has a left neighbour
    return np.nonzero(linked)[1], places[linked], square


def _merge_crossings(
    chains: Edges, crossings: Int64, stride: int, metres: tuple[float, float]
) -> tuple[Edges, Float64]:
    """Make adjacent crossings one node at the centre of their pixels; see `merge_nodes`."""
    pixels, ends = np.unique(np.concatenate([chains.start, chains.end]), return_inverse=True)
    start, end = ends.reshape(2, -1)
    crossing = np.isin(pixels, crossings)
    inside = (chains.steps == 1) & crossing[start] & crossing[end]
    places = np.stack(np.divmod(pixels, stride), axis=1).astype(np.float64)
    return merge_nodes(chains._replace(start=start, end=end), inside, places, metres)
