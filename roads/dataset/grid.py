"""The grid of square windows over a tile, both for cutting crops and for predicting."""

from typing import Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

Edge = Literal["drop", "shift", "pad"]
Pixel = TypeVar("Pixel", bound=np.generic)


def window_starts(length: int, size: int, stride: int, edge: Edge) -> list[int]:
    """First pixels of the windows along one side.

    Args:
        length: of the side in pixels.
        size: of a window in pixels.
        stride: pixels from one window to the next.
        edge: for the rest at the end: `drop` leaves it out, `shift` adds a window that ends with
            the side, `pad` adds a window that extends beyond it.

    Returns:
        Ascending starts; empty if a window is larger than the side, unless `edge` is `pad`.

    >>> window_starts(1500, 256, 256, "drop")
    [0, 256, 512, 768, 1024]
    >>> window_starts(1500, 256, 256, "shift")[-1], window_starts(1500, 256, 256, "pad")[-1]
    (1244, 1280)
    """
    starts = list(range(0, length - size + 1, stride))
    covered = starts[-1] + size if starts else 0
    if covered < length:
        if edge == "pad":
            starts.append(starts[-1] + stride if starts else 0)
        elif edge == "shift" and starts:
            starts.append(length - size)
    return starts


def window_corners(
    height: int, width: int, size: int, stride: int, edge: Edge
) -> list[tuple[int, int]]:
    """The (top, left) pixels of all windows, row by row."""
    lefts = window_starts(width, size, stride, edge)
    return [(top, left) for top in window_starts(height, size, stride, edge) for left in lefts]


def cut(picture: NDArray[Pixel], top: int, left: int, size: int) -> NDArray[Pixel]:
    """The window (size, size, …) at a corner; pixels outside the picture are zero."""
    window = picture[top : top + size, left : left + size]
    if window.shape[:2] == (size, size):
        return window
    padded = np.zeros((size, size, *picture.shape[2:]), picture.dtype)
    padded[: window.shape[0], : window.shape[1]] = window
    return padded
