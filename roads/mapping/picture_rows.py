"""A picture as the net sees it: resampled, missing parts white, read once from top to bottom."""

import math
from collections.abc import Iterator

import numpy as np

from roads.imagery.blank import BLANK_WINDOW, blank_mask
from roads.mapping.rasters import Raster
from roads.mapping.resampling import RowResizer, Shape, strip_rows
from roads.runtime.arrays import Bool, Image8

BLANK_CONTEXT = 2 * (BLANK_WINDOW // 2)  # rows around a pixel that decide whether it is blank


class BitRows:
    """A queue of rows of bool, packed at 8 pixels per byte: with fine pixels it gets long."""

    def __init__(self, width: int):
        self._width, self._bits = width, np.empty((0, -(-width // 8)), np.uint8)

    def __len__(self) -> int:
        return len(self._bits)

    def push(self, rows: Bool) -> None:
        """Append (n, width) bool."""
        self._bits = np.concatenate([self._bits, np.packbits(rows, axis=1)])

    def pop(self, count: int) -> Bool:
        """Remove and return the first `count` rows: (count, width) bool."""
        taken, self._bits = self._bits[:count], self._bits[count:]
        return np.unpackbits(taken, axis=1, count=self._width).view(np.bool_)


class BlankRows:
    """Computes `blank_mask` of a picture that arrives in strips, with a delay of a few rows."""

    def __init__(self) -> None:
        self._held: Image8 | None = None
        self._done = 0  # rows at the top of `_held` whose mask was returned

    def push(self, rows: Image8, last: bool) -> Bool:
        """Append rows, and return the mask of the rows that are now decided: (n, width) bool."""
        held = rows if self._held is None else np.concatenate([self._held, rows])
        end = len(held) if last else max(self._done, len(held) - BLANK_CONTEXT)
        mask = blank_mask(held)[self._done : end]
        keep = max(0, end - BLANK_CONTEXT)
        self._held, self._done = held[keep:].copy(), end - keep
        return mask


class PictureRows:
    """Reads a picture once, in strips from top to bottom, resampled to `shape` for the net.

    Reading may take longer than predicting (JPEG 2000), so it also collects a `thumbnail`.
    """

    def __init__(self, raster: Raster, shape: Shape, thumbnail: Shape):
        self._raster, self._shape = raster, shape
        self._resizer = RowResizer(raster.shape, shape)
        self._thumbnail_resizer = RowResizer(raster.shape, thumbnail)
        self._thumbnail: list[Image8] = []
        self._strips = self._read_strips()
        # The rows that `read` last returned, which it may return again, and the strips after them.
        self._held: list[Image8] = [np.empty((0, shape[1], 3), np.uint8)]
        self._top = 0  # the first of these rows
        self._blank, self._missing = BitRows(shape[1]), BitRows(raster.width)

    def read(self, top: int, end: int) -> Image8:
        """Rows for the net: (end - top, width, 3) uint8. Neither `top` nor `end` may decrease."""
        self._held[0], self._top = self._held[0][top - self._top :], top
        while sum(map(len, self._held)) < end - top:
            self._held += next(self._strips)
        self._held = [np.concatenate(self._held)]
        return self._held[0][: end - top]

    def take_blank(self, count: int) -> Bool:
        """Where the next rows for the net are blank (white): (count, width for the net) bool."""
        return self._take(self._blank, count)

    def take_missing(self, count: int) -> Bool:
        """Where imagery is missing in the picture's next rows: (count, width) bool."""
        return self._take(self._missing, count)

    def thumbnail(self) -> Image8:
        """The small copy, once all rows were read."""
        return np.concatenate(self._thumbnail)

    def _take(self, queue: BitRows, count: int) -> Bool:
        while len(queue) < count:
            self._held += next(self._strips)
        return queue.pop(count)

    def _read_strips(self) -> Iterator[list[Image8]]:
        """Read the file strip by strip; yield the rows for the net that each strip completes."""
        blank, done = BlankRows(), 0
        growth = self._shape[0] * self._shape[1] / (self._raster.height * self._raster.width)
        step = strip_rows(math.ceil(self._raster.width * max(1, growth)))
        for top in range(0, self._raster.height, step):
            image, missing = self._raster.read_rows(top, min(top + step, self._raster.height))
            self._missing.push(missing)
            self._thumbnail.extend(self._thumbnail_resizer.push(image))
            strips = list(self._resizer.push(image))
            for strip in strips:
                done += len(strip)
                self._blank.push(blank.push(strip, last=done == self._shape[0]))
            yield strips
