"""The skeleton of a picture of any size, thinned strip by strip."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from roads.runtime.arrays import Bool

ReadRows = Callable[[int, int], NDArray]  # rows [top, bottom) at full width

STRIP_PIXELS = 2**24  # thinned at once, besides the margins
MARGIN = 128  # rows above and below a strip that are thinned with it


def skeleton_strips(
    read_mask: ReadRows, height: int, width: int, strip: int | None = None
) -> Iterator[tuple[int, Bool]]:
    """Thin a mask to lines one pixel wide, in memory that does not grow with its height.

    Thinning takes layer after layer off all sides, so what it leaves depends on pixels about as
    far away as the road is wide. Where no road across a border of strips is wider than MARGIN,
    the strips are those of the whole picture's skeleton, whatever their height. Wider areas may
    be thinned differently from both sides; lines that then end at the border are joined along
    it, and an area much wider than two margins may still be left in pieces.

    Args:
        read_mask: gives (rows, width) bool; called once for each row, from top to bottom.
        height, width: of the picture in pixels.
        strip: rows of a strip; None is as many as have STRIP_PIXELS.

    Yields:
        A strip's first row, and its skeleton, (rows, width) bool.
    """
    strip = strip or max(1, STRIP_PIXELS // width)
    first, window = 0, np.zeros((0, width), np.bool_)
    above: Bool | None = None  # the last strip's skeleton: its last row, and what it has below
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        seen = min(bottom + MARGIN, height)
        skip, first = max(0, top - MARGIN) - first, max(0, top - MARGIN)
        new = read_mask(min(top + MARGIN, height) if top else 0, seen)
        window = np.concatenate([window[skip:], new])
        lines = skeletonize(window)
        at = top - first
        if above is not None:
            _join(above, lines[at - 1 : at + 1], window[at])
        yield top, lines[at : at + bottom - top]
        if bottom < height:
            above = lines[bottom - first - 1 : bottom - first + 1].copy()


def _join(above: Bool, below: Bool, road: Bool) -> None:
    """Join lines that only one of two strips leads across their border.

    Args:
        above, below: (2, width) bool, the rows on both sides of the border as either strip
            thinned them. The first row of `above` and the second of `below` are kept; the
            latter is drawn on.
        road: (width,) bool, the mask of the second row.
    """
    upper, lower = above[0], below[1]
    down = upper & _spread(above[1]) & ~_spread(lower)
    up = lower & _spread(below[0]) & ~_spread(upper)
    ends = (np.flatnonzero(lower), np.flatnonzero(upper))
    for columns, others in zip(map(np.flatnonzero, (down, up)), ends, strict=True):
        for column in columns.tolist() if others.size else ():
            nearest = int(others[np.abs(others - column).argmin()])
            between = slice(min(column, nearest), max(column, nearest) + 1)
            if road[between].all():
                lower[between] = True


def _spread(row: Bool) -> Bool:
    """A row with the neighbours of its pixels."""
    wider = row.copy()
    wider[1:] |= row[:-1]
    wider[:-1] |= row[1:]
    return wider
