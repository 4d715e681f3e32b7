"""Road centrelines as a graph: crossings and dead ends are its nodes, the lines between its edges.

A road is as long as its simplified line: the skeleton's chain of pixels, from which spurs are
judged, goes in steps of 1 and √2 and is up to 8 % longer between the eight directions. A circle
without a crossing has one node.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import shapely

from roads.graph.chains import Chains, merge_crossings, trace_chains
from roads.graph.edges import (
    Edges,
    drop_specks,
    edges_of_chains,
    join_edges,
    prune_spurs,
    sort_edges,
)
from roads.graph.paths import take_rows
from roads.graph.skeleton import ReadRows
from roads.runtime.arrays import Bool, Float64, Int64

CERTAIN = 255  # the probability 1 as a byte
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
    """Roads, several between the same nodes among them.

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
    strip: int | None = None,
) -> RoadGraph:
    """Thin a mask to centrelines and trace them, in memory for a strip and the graph.

    Args:
        read_mask: gives rows [top, bottom) of the road, (rows, width) bool. Both readers are
            asked for each row once, from top to bottom.
        read_probability: the same of the probability, uint8, 255 = certain.
        height, width: of the picture in pixels.
        metres: of a row and of a column.
        spur: metres; dead ends shorter than this that hang on a crossing are pruned, the
            shortest first, and so are roads shorter than this that hang on nothing.
        tolerance: metres that the lines may be off the traced ones (Douglas and Peucker 1973).
        strip: rows traced at once, None is as many as fit; it does not change the graph but
            for roads wider than skeleton.MARGIN, and where on a circle its node lies.
    """
    chains = trace_chains(read_mask, read_probability, height, width, metres, strip)
    chains, nodes = merge_crossings(chains, width + 1, metres)
    edges = join_edges(edges_of_chains(chains, len(nodes)))
    edges = sort_edges(drop_specks(prune_spurs(edges, spur), spur))
    kept, ends = np.unique(np.concatenate([edges.start, edges.end]), return_inverse=True)
    start, end = ends.reshape(2, -1).tolist()
    probability = edges.weight / (CERTAIN * edges.steps)
    values = zip(
        start,
        end,
        _lines(edges, chains, nodes, metres, tolerance),
        edges.length.tolist(),
        probability.tolist(),
        strict=True,
    )
    return RoadGraph(
        nodes[kept],
        [
            Edge(one, other, line, _length(line, metres), traced, certain)
            for one, other, line, traced, certain in values
        ],
    )


def _length(line: Float64, metres: tuple[float, float]) -> float:
    return float(np.hypot(*(np.diff(line, axis=0) * metres).T).sum())


def trace_mask(
    mask: Bool, *, metres: tuple[float, float], spur: float, tolerance: float
) -> RoadGraph:
    """`trace_roads` of a mask in memory, (height, width) bool, that is taken as certain."""
    height, width = mask.shape
    return trace_roads(
        lambda top, bottom: mask[top:bottom],
        lambda top, bottom: np.full((bottom - top, width), CERTAIN, np.uint8),
        height,
        width,
        metres=metres,
        spur=spur,
        tolerance=tolerance,
    )


def _lines(
    edges: Edges, chains: Chains, nodes: Float64, metres: tuple[float, float], tolerance: float
) -> Iterator[Float64]:
    """The simplified line of each edge, from node to node."""
    for first in range(0, len(edges.start), LINES_AT_ONCE):
        some = edges.pick(np.arange(first, min(first + LINES_AT_ONCE, len(edges.start))))
        points, offsets = _points(some, chains, nodes)
        owner = np.repeat(np.arange(len(some.start)), np.diff(offsets))
        lines = shapely.linestrings(points * metres, indices=owner)
        simple = shapely.simplify(lines, tolerance, preserve_topology=False)
        simple = np.where(shapely.length(simple) > 0, simple, lines)  # of a circle too small
        points, owner = shapely.get_coordinates(simple, return_index=True)
        bounds = np.searchsorted(owner, np.arange(1, len(some.start)))
        for number, line in enumerate(np.split(points / metres, bounds)):
            line = line.copy()
            line[0], line[-1] = nodes[some.start[number]], nodes[some.end[number]]
            yield line


def _points(edges: Edges, chains: Chains, nodes: Float64) -> tuple[Float64, Int64]:
    """All points of the edges, (p, 2) row and column, and where each edge's begin and end."""
    chain, backward = edges.path % max(1, edges.chains), edges.path >= edges.chains
    inner, inner_offsets = take_rows(chains.offsets, chain, backward)
    edge = np.repeat(np.arange(len(edges.start)), np.diff(edges.offsets))
    # A chain's first node and its inner points, and after an edge's last chain its end.
    begins = inner_offsets[:-1] + np.arange(len(chain)) + edge
    offsets = np.append(begins[edges.offsets[:-1]], len(inner) + len(chain) + len(edges.start))
    points = np.empty((offsets[-1], 2))
    at_node = np.zeros(len(points), np.bool_)
    at_node[begins] = at_node[offsets[1:] - 1] = True
    points[~at_node] = chains.inner[inner]
    points[begins] = nodes[np.where(backward, chains.end[chain], chains.start[chain])]
    points[offsets[1:] - 1] = nodes[edges.end]
    return points, offsets
