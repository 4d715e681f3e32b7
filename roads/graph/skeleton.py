"""Thins a mask of any size to its skeleton, strip by strip."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, binary_dilation, binary_opening
from skimage.morphology import skeletonize

from roads.runtime.arrays import Bool

ReadRows = Callable[[int, int], NDArray]  # rows [top, bottom) at full width

STRIP_PIXELS = 2**24  # of a strip, without the margins
MARGIN = 128  # pixels around a strip or block that are thinned with it
BLOCK = 2048  # columns of a strip that are thinned at once, without the margins
BORDER = 64  # pixels by which roads that leave the picture are extended, and their largest width


def skeleton_strips(
    read_mask: ReadRows, height: int, width: int, strip: int | None = None, closing: int = 0
) -> Iterator[tuple[int, Bool]]:
    """Thin a mask to lines one pixel wide, with memory independent of its height.

    Thinning removes layer after layer from all sides, so a pixel of the skeleton depends on pixels
    about one road width away. If no road across the border of two strips or blocks is wider than
    MARGIN, the result is the skeleton of the whole picture. Wider areas may be thinned differently
    on the two sides. Lines that end at the border are then joined along it, but an area much wider
    than two margins may still be cut.

    Args:
        read_mask: returns (rows, width) bool; called once for each row, from top to bottom.
        height, width: of the picture in pixels.
        strip: rows of a strip; by default about STRIP_PIXELS at once.
        closing: gaps and holes narrower than twice this number of pixels are filled, by a
            morphological closing with a diamond; at most BORDER.

    Yields:
        A strip's first row and its skeleton, (rows, width) bool.
    """
    strip = strip or max(1, STRIP_PIXELS // width)
    first, window = 0, np.zeros((0, width), np.bool_)
    above: Bool | None = None  # the two rows at the border, from the previous strip's skeleton
    for top in range(0, height, strip):
        bottom = min(top + strip, height)
        seen = min(bottom + MARGIN, height)
        skip, first = max(0, top - MARGIN) - first, max(0, top - MARGIN)
        new = read_mask(min(top + MARGIN, height) if top else 0, seen)
        window = np.concatenate([window[skip:], new])
        wide = _extended(window, not first, seen == height)
        if closing:
            wide = binary_closing(wide, iterations=min(closing, BORDER))
        lines = _thinned(wide)[BORDER * (not first) :, BORDER:-BORDER]
        at = top - first
        if above is not None:
            _join(above, lines[at - 1 : at + 1], window[at])
        yield top, lines[at : at + bottom - top]
        if bottom < height:
            above = lines[bottom - first - 1 : bottom - first + 1].copy()


def _thinned(mask: Bool) -> Bool:
    """The skeleton of a strip, thinned in blocks with MARGIN columns on both sides.

    Each removed layer is a pass over the whole block, so a wide area slows down only its block.
    """
    lines = np.empty_like(mask)
    before: Bool | None = None  # the two columns at the border, from the previous block's skeleton
    for left in range(0, mask.shape[1], BLOCK):
        first, right = max(0, left - MARGIN), left + BLOCK
        block = skeletonize(mask[:, first : right + MARGIN])
        if before is not None:
            _join(before.T, block[:, left - first - 1 : left - first + 1].T, mask[:, left])
        lines[:, left:right] = block[:, left - first : right - first]
        before = block[:, right - first - 1 : right - first + 1]
    return lines


def _extended(window: Bool, top: bool, bottom: bool) -> Bool:
    """A mask with BORDER more columns on both sides, and rows at the top and bottom edges."""
    wide = np.pad(window, ((BORDER * top, BORDER * bottom), (BORDER, BORDER)))
    within = slice(BORDER * top, BORDER * top + len(window))
    wide[within, :BORDER] = _leaving(window[:, 0])[:, None]
    wide[within, -BORDER:] = _leaving(window[:, -1])[:, None]
    if top:
        wide[:BORDER, BORDER:-BORDER] = _leaving(window[0])
    if bottom:
        wide[-BORDER:, BORDER:-BORDER] = _leaving(window[-1])
    return wide


def _leaving(border: Bool) -> Bool:
    """Which pixels along the picture's edge belong to roads that leave it there."""
    return np.asarray(border & ~binary_opening(border, np.ones(BORDER + 1)))


def _join(above: Bool, below: Bool, road: Bool) -> None:
    """Join lines that cross the border of two strips (or blocks) in only one of their skeletons.

    Args:
        above, below: (2, width) bool, the two rows at the border in the upper and in the lower
            strip's skeleton. The result uses the first row of `above` and the second of `below`,
            which is modified.
        road: (width,) bool, the mask of the second row.
    """
    upper, lower = above[0], below[1]
    down = upper & binary_dilation(above[1]) & ~binary_dilation(lower)
    up = lower & binary_dilation(below[0]) & ~binary_dilation(upper)
    for ends, other_side in ((down, lower), (up, upper)):
        others = np.flatnonzero(other_side)
        for column in np.flatnonzero(ends).tolist() if others.size else ():
            nearest = int(others[np.abs(others - column).argmin()])
            between = slice(min(column, nearest), max(column, nearest) + 1)
            if road[between].all():
                lower[between] = True
