"""Missing imagery: where a picture is blank, and how much of it."""

import numpy as np
from numpy.typing import NDArray

from roads.runtime.arrays import Image8

WHITE = 250  # of 255: missing imagery is pure white, JPEG rings around it by a few levels
BLANK_WINDOW = 15  # pixels; bright roofs and road markings are smaller than such a window


def blank_mask(image: Image8) -> NDArray[np.bool_]:
    """Where imagery is missing: areas of white, JPEG ringing in and around them tolerated.

    A pixel is white where every channel is at least WHITE. It is blank where a window of
    BLANK_WINDOW pixels around it is mostly white, and where it is white beside such a window.

    Args:
        image: (height, width, 3) uint8.

    Returns:
        (height, width) bool.
    """
    # Channel by channel, since to reduce over an axis of three takes numpy 20 times as long.
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
    """How many pixels of the window around each are set; edges go on beyond the picture.

    Sums of uint8, which a window of 15² pixels cannot overflow, take a third of the time of
    ndimage's filter.
    """
    counts = np.pad(mask.astype(np.uint8), BLANK_WINDOW // 2, mode="edge")
    for axis in (0, 1):
        lines = counts.swapaxes(0, axis)
        length = len(lines) - BLANK_WINDOW + 1
        sums = lines[:length].copy(order="K")  # the picture's own, or the sums are slow
        for offset in range(1, BLANK_WINDOW):
            sums += lines[offset : offset + length]
        counts = sums.swapaxes(0, axis)
    return counts


def blank_fraction(image: Image8) -> float:
    """The fraction of the image that is missing, from 0 to 1."""
    return float(blank_mask(image).mean())
