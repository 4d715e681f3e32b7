"""Resizes pictures strip by strip, with the same result as resizing them whole."""

from collections.abc import Iterator
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixel = TypeVar("Pixel", bound=np.generic)

STRIP_PIXELS = 2_000_000  # a strip has at most this many, or a single row
Shape = tuple[int, int]  # height, width in pixels


def strip_rows(width: int) -> int:
    """The number of rows of that width in a strip."""
    return max(1, STRIP_PIXELS // width)


class RowResizer:
    """Resizes a picture; rows go in and come out from top to bottom.

    The result is Pillow's resize of the whole picture with `Resampling.BILINEAR`, which averages
    over all source pixels when it shrinks, or with `NEAREST`.

    Args:
        source: height and width of the input.
        target: height and width of the output.
        nearest: use `NEAREST`; the output comes in the same strips.
    """

    def __init__(self, source: Shape, target: Shape, *, nearest: bool = False):
        self.source, self.target = source, target
        self._filter = Image.Resampling.NEAREST if nearest else Image.Resampling.BILINEAR
        self._scale = source[0] / target[0]  # source rows per target row
        self._support = max(1.0, self._scale)  # source rows on both sides that a target row needs
        self._held: NDArray[Any] | None = None
        self._first = 0  # the first source row in `_held`
        self._done = 0  # target rows that were returned

    def push(self, rows: NDArray[Pixel]) -> Iterator[NDArray[Pixel]]:
        """Append source rows, and yield the target rows that they complete, in strips.

        Args:
            rows: (n, width) uint8 or float32, or (n, width, 3) uint8.
        """
        if self.source == self.target:
            yield rows
            return
        held = rows if self._held is None else np.concatenate([self._held, rows])
        read = self._first + len(held)
        ready = self.target[0]
        if read < self.source[0]:
            ready = min(ready, int((read - self._support - 0.5) / self._scale + 0.5))
        step = strip_rows(self.target[1])
        while self._done < ready:
            end = min(self._done + step, ready)
            yield self._resize(held, end)
            self._done = end
        keep = max(self._first, int((self._done + 0.5) * self._scale - self._support - 1))
        self._held, self._first = held[keep - self._first :].copy(), keep

    def _resize(self, held: NDArray[Pixel], end: int) -> NDArray[Pixel]:
        top, bottom = (row * self._scale - self._first for row in (self._done, end))
        size = (self.target[1], end - self._done)
        box = (0, max(0, top), self.source[1], min(bottom, len(held)))
        return np.asarray(Image.fromarray(held).resize(size, self._filter, box))


def reduced_shape(shape: Shape, side: int) -> Shape:
    """Height and width of a picture of that shape, reduced to at most `side` pixels."""
    shrink = min(1.0, side / max(shape))
    return max(1, round(shape[0] * shrink)), max(1, round(shape[1] * shrink))
