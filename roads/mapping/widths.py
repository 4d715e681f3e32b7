"""The widths of roads, measured on the mask around their centrelines."""

from collections.abc import Sequence

import numpy as np
import shapely
from scipy.ndimage import binary_dilation, median
from scipy.spatial import KDTree

from roads.graph.skeleton import ReadRows
from roads.graph.tracing import Edge
from roads.runtime.arrays import Float64

STEP = 2.0  # metres between the points of a line at which its width is measured
REACH = 50.0  # metres; the border of the mask is searched for within this distance
STRIP_PIXELS = 2**22  # processed at once
ASIDE = np.array([(0, 0), (0, 0.5), (0, -0.5), (0.5, 0), (-0.5, 0)])


def road_widths(
    edges: Sequence[Edge],
    read_mask: ReadRows,
    shape: tuple[int, int],
    metres: tuple[float, float],
    tolerance: float,
) -> Float64:
    """The width of each road: the median of twice the distance from its line to the mask's border.

    Only points of the line on the mask count. A simplified line may be off the middle of the road,
    so points up to half the tolerance to the side are tried, and the largest distance counts. The
    picture's edge is not a border.

    Args:
        edges: the roads.
        read_mask: returns rows [top, bottom) of the mask, (rows, width) bool; rows repeat.
        shape: height and width of the mask.
        metres: height and width of a pixel.
        tolerance: the largest error of the lines, in metres.

    Returns:
        (edges,) metres, at most 2 · REACH; NaN if most of a line is off the mask, as in a joined
        gap.
    """
    if not edges:
        return np.zeros(0)
    owner = np.repeat(np.arange(len(edges)), [len(edge.line) for edge in edges])
    places = np.concatenate([edge.line for edge in edges]) * metres
    lines = shapely.segmentize(shapely.linestrings(places, indices=owner), STEP)
    points, owner = shapely.get_coordinates(lines, return_index=True)
    distances = np.zeros(len(points))
    rows = points[:, 0] / metres[0]
    height, width = shape
    strip, margin = max(1, STRIP_PIXELS // width), int(np.ceil(REACH / metres[0]))
    for top in range(0, height, strip):
        mine = np.flatnonzero((rows >= top) & (rows < top + strip))
        first = max(0, top - margin)
        mask = read_mask(first, min(top + strip + margin, height))
        corner = np.array([first * metres[0], 0])
        border = KDTree(np.argwhere(binary_dilation(mask) & ~mask) * metres + corner)
        for aside in ASIDE * tolerance:
            places = points[mine] + aside - corner
            pixels = np.rint(places / metres).astype(np.int64).clip(0, np.array(mask.shape) - 1)
            on_road = mask[tuple(pixels.T)]
            found, _ = border.query(places[on_road] + corner, distance_upper_bound=REACH)
            hit = mine[on_road]
            distances[hit] = np.maximum(distances[hit], np.minimum(found, REACH))
    on_mask = distances > 0
    counted = owner[on_mask]
    middle = median(distances[on_mask], counted, np.arange(len(edges)))
    mostly = np.bincount(counted, minlength=len(edges)) > np.bincount(owner) / 2
    # The centre of the nearest pixel off the road is on average a quarter pixel beyond the border.
    return np.where(mostly, 2 * middle - np.mean(metres) / 2, np.nan)
