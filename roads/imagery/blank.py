"""Finds missing imagery: which pixels of a picture are blank, and what fraction."""

import numpy as np
from numpy.typing import NDArray

from roads.runtime.arrays import Image8

WHITE = 250  # of 255: missing imagery is pure white, give or take a few levels of JPEG ringing
BLANK_WINDOW = 15  # pixels; larger than bright roofs and road markings


def blank_mask(image: Image8) -> NDArray[np.bool_]:
    """Where imagery is missing: white areas, with some tolerance for JPEG ringing.

    A pixel is white if every channel is at least WHITE. It is blank if a window of BLANK_WINDOW
    pixels around it is mostly white, or if it is white and next to such a window.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (height, width) bool.
    """
    # Channel by channel: numpy takes 20 times as long to reduce over an axis of length three.
    red, green, blue = (image[..., channel] for channel in range(3))
    white = np.minimum(np.minimum(red, green), blue) >= WHITE
    if not white.any():
        return white
    core = _count_around(white) > 0.9 * BLANK_WINDOW**2
    if not core.any():
        return core
    near = _count_around(core) > 0
    return core | (white & near)


def _count_around(mask: NDArray[np.bool_]) -> Image8:
    """The number of set pixels in the window around each pixel; edge pixels are repeated outside.

    Sums of uint8, which a window of 15² pixels cannot overflow, take a third of the time of
    ndimage's filter.
    """
    counts = np.pad(mask.astype(np.uint8), BLANK_WINDOW // 2, mode="edge")
    for axis in (0, 1):
        lines = counts.swapaxes(0, axis)
        length = len(lines) - BLANK_WINDOW + 1
        sums = lines[:length].copy(order="K")  # in the picture's memory order, or the sums are slow
        for offset in range(1, BLANK_WINDOW):
            sums += lines[offset : offset + length]
        counts = sums.swapaxes(0, axis)
    return counts


def blank_fraction(image: Image8) -> float:
    """The fraction of the image that is missing, from 0 to 1."""
    return float(blank_mask(image).mean())
