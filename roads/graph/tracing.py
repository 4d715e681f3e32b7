"""Road centrelines as a graph: its nodes are crossings and dead ends, its edges the lines between.

The length of a road is that of its simplified line. The chain of pixels, whose length decides
what is a spur, goes in steps of 1 and √2 pixels and is up to 8 % longer. A circle without a
crossing has one node.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

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
LINES_AT_ONCE = 10_000  # simplified together


@dataclass(frozen=True, slots=True)
class Edge:
    """A road between two nodes, or from one back to itself.

    Attributes:
        start, end: rows of RoadGraph.nodes, start ≤ end.
        line: (k, 2) float64, row and column of its points, from node to node.
        length: of the line, in metres.
        traced: length of the chain of pixels that the line simplifies, in metres.
        probability: the mean over the chain, 0 to 1; its two end pixels count half.
    """

    start: int
    end: int
    line: Float64
    length: float
    traced: float
    probability: float


@dataclass(frozen=True)
class RoadGraph:
    """Roads and where they meet; several roads may join the same two nodes.

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
    strip: int | None = None,
) -> RoadGraph:
    """Thin a mask to centrelines and trace them; only a strip and the graph are in memory.

    Args:
        read_mask: gives rows [top, bottom) of the road mask, (rows, width) bool. Both readers are
            asked for each row once, from top to bottom.
        read_probability: the same for the probability, uint16, CERTAIN for 1.
        height, width: of the picture in pixels.
        metres: height and width of a pixel.
        spur: metres; dead ends at a crossing that are shorter than this are pruned, the shortest
            first; so are loops that are shorter, and separate pieces of road with less than this
            in all.
        tolerance: metres by which simplified lines may be off (Douglas and Peucker 1973).
        merge: metres; gaps and holes of the mask that are narrower than this are filled, so that
            no two roads run closer side by side, and crossings that are joined by less than this
            become one.
        strip: rows traced at once, by default as many as skeleton.STRIP_PIXELS allows. It changes
            the graph only for roads wider than skeleton.MARGIN, and which point of a circle is
            its node.

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
    return RoadGraph(
        nodes[kept],
        [
            Edge(start, end, line, _length(line, metres), traced, probability)
            for start, end, line, traced, probability in columns
        ],
    )


def trace_mask(
    mask: Bool,
    *,
    metres: tuple[float, float],
    spur: float,
    tolerance: float,
    merge: float = MERGE,
) -> RoadGraph:
    """Trace a mask in memory, (height, width) bool, with probability 1; see `trace_roads`."""
    height, width = mask.shape
    return trace_roads(
        lambda top, bottom: mask[top:bottom],
        lambda top, bottom: np.full((bottom - top, width), CERTAIN, np.uint16),
        height,
        width,
        metres=metres,
        spur=spur,
        tolerance=tolerance,
        merge=merge,
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
        simple = np.where(shapely.length(simple) > 0, simple, lines)  # of a circle too small
        points, owner = shapely.get_coordinates(simple, return_index=True)
        bounds = np.searchsorted(owner, np.arange(1, len(some.start)))
        parts = np.split(points / metres, bounds)
        for line, start, end in zip(parts, some.start, some.end, strict=True):
            line[0], line[-1] = nodes[start], nodes[end]
            yield line


def _length(line: Float64, metres: tuple[float, float]) -> float:
    return float(np.hypot(*(np.diff(line, axis=0) * metres).T).sum())
