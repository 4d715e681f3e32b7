"""Predicts pictures of any size by windows that are blended where they overlap.

Near a window's edge the net sees less of a pixel's surroundings, so its prediction has less
weight: weights fall linearly from the centre of a window to its edges, and are scaled to add up to
1 at every pixel. Only one row of windows is in memory at a time.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from roads.runtime.arrays import Float32, Image8

Predict = Callable[[Image8], Float32]  # (n, size, size, 3) uint8 → (n, size, size) float32
ReadRows = Callable[[int, int], Image8]  # first row, row after the last → (rows, width, 3)

SEVERAL = 4  # batches of windows per call, so that a GPU does not wait for each


@dataclass(frozen=True)
class Windows:
    """Square windows over a picture.

    Attributes:
        size: side of a window in pixels; the net must accept it.
        overlap: least overlap of neighbours in pixels, less than `size`.
        batch: windows predicted at once; more need more memory.
    """

    size: int
    overlap: int
    batch: int


def predict_tile(predict: Predict, image: Image8, windows: Windows) -> Float32:
    """Predict a picture that is in memory.

    Args:
        predict: gives the probabilities of a batch of windows.
        image: (height, width, 3) uint8, of any size; sides shorter than a window are padded by
            reflection.
        windows: their size, overlap and batch.

    Returns:
        (height, width) float32, from 0 to 1.
    """
    height, width = image.shape[:2]
    rows = predict_rows(predict, lambda top, end: image[top:end], height, width, windows)
    return np.concatenate(list(rows))


def predict_rows(
    predict: Predict, read_rows: ReadRows, height: int, width: int, windows: Windows
) -> Iterator[Float32]:
    """Predict a picture from top to bottom, reading a row of windows at a time.

    Args:
        predict: as for `predict_tile`.
        read_rows: reads some of the picture's rows; successive reads overlap.
        height, width: of the picture in pixels.
        windows: as for `predict_tile`.

    Yields:
        Finished rows, (n, width) float32 from 0 to 1; `height` rows in total.
    """
    size = windows.size
    tops, lefts = (spread_starts(length, size, windows.overlap) for length in (height, width))
    down, across = (blend_weights(starts, size) for starts in (tops, lefts))
    canvas = np.zeros((size, lefts[-1] + size), np.float32)
    predicted = _predicted(predict, _cut(read_rows, height, tops, lefts, size), windows.batch)
    for top, end, weights_down in zip(tops, [*tops[1:], height], down, strict=True):
        for left, weights in zip(lefts, across, strict=True):
            canvas[:, left : left + size] += next(predicted) * (weights_down[:, None] * weights)
        finished = end - top
        yield np.minimum(canvas[:finished, :width], 1)  # rounded weights may add up to above 1
        canvas[: size - finished] = canvas[finished:]
        canvas[size - finished :] = 0


def _cut(
    read_rows: ReadRows, height: int, tops: list[int], lefts: list[int], size: int
) -> Iterator[Image8]:
    for top in tops:
        rows = read_rows(top, min(top + size, height))
        below, right = (max(0, size - length) for length in rows.shape[:2])
        if below or right:
            rows = np.pad(rows, ((0, below), (0, right), (0, 0)), mode="reflect")
        for left in lefts:
            yield rows[:, left : left + size]


def _predicted(predict: Predict, cuts: Iterator[Image8], batch: int) -> Iterator[Float32]:
    while some := list(itertools.islice(cuts, SEVERAL * batch)):
        yield from predict(np.stack(some))


def spread_starts(length: int, size: int, overlap: int) -> list[int]:
    """First pixels of the fewest windows that cover a side, evenly spaced.

    Args:
        length: pixels of the side; a side shorter than a window gets one window.
        size, overlap: of the windows.

    >>> spread_starts(1500, 512, 128)
    [0, 329, 658, 988]
    """
    span = max(0, length - size)
    steps = -(-span // (size - overlap))
    return [span * step // steps for step in range(steps + 1)] if steps else [0]


def blend_weights(starts: list[int], size: int) -> Float32:
    """The weight of every pixel of every window along one side.

    Returns:
        (windows, size) float32, above 0; they add up to 1 at each pixel of the side.
    """
    ramp = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float64)
    total = np.zeros(starts[-1] + size)
    for start in starts:
        total[start : start + size] += ramp
    return np.stack([ramp / total[start : start + size] for start in starts]).astype(np.float32)


def all_turns(predict: Predict) -> Predict:
    """Predict the mean over the eight flips and quarter turns of every square window."""

    def predict_turned(images: Image8) -> Float32:
        total = np.zeros(images.shape[:3], np.float32)
        for turns in range(4):
            turned = np.rot90(images, turns, axes=(1, 2))
            for flip in (np.s_[:, :], np.s_[:, ::-1]):
                probabilities = predict(np.ascontiguousarray(turned[flip]))
                total += np.rot90(probabilities[flip], -turns, axes=(1, 2))
        return total / np.float32(8)

    return predict_turned
