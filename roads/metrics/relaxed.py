"""Relaxed precision and recall: a pixel is correct within ρ = 3 pixels of the other map.

Mnih, Machine Learning for Aerial Image Labeling (2013), as computed by ssai-cnn (Saito et al.
2016): the window is a square of 7×7 pixels, clipped at the border, and the four counts are pooled
over all tiles before they are divided (mitmul/ssai-cnn, utils/src/calc_relax_pr.cpp and
scripts/evaluate.py). The counts at all thresholds come from three histograms; they equal those of
one pass over the tile per threshold.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter

from roads.metrics.counts import LEVELS, at_least, rows_along
from roads.runtime.arrays import Bool, Float64, Int64

RHO = 3  # pixels, which are metres in the Massachusetts Roads Dataset
WINDOW = 2 * RHO + 1

# ssai-cnn predicts 16×16 pixels from 64×64 and averages 8 offsets. It scores the part of a tile
# that remains when the same margin is cut from both ends (scripts/predict.py, get_predict;
# scripts/evaluate.py).
PATCH = 16
PATCH_BORDER = (64 - PATCH) // 2
OFFSETS = 8


class RelaxedCounts:
    """Pooled counts at every threshold t / LEVELS, in constant memory."""

    def __init__(self) -> None:
        self._predicted = np.zeros(LEVELS, np.int64)  # by level of the pixel
        self._near_road = np.zeros(LEVELS, np.int64)  # of these, with road in the window
        self._found = np.zeros(LEVELS, np.int64)  # road, by the highest level in the window

    def add(self, levels: NDArray[np.int16], road: Bool) -> None:
        """Count a tile; `levels` from `counts.to_levels` and `road` are (height, width)."""
        near = maximum_filter(road, WINDOW, mode="constant", cval=False)
        best = maximum_filter(levels, WINDOW, mode="constant", cval=0)
        self._predicted += np.bincount(levels.ravel(), minlength=LEVELS)
        self._near_road += np.bincount(levels[near], minlength=LEVELS)
        self._found += np.bincount(best[road], minlength=LEVELS)

    def precision(self) -> Float64:
        """Fraction of the predicted pixels with road within ρ, at each of the LEVELS thresholds.

        0 where nothing is predicted.
        """
        return _fractions(at_least(self._near_road), at_least(self._predicted))

    def recall(self) -> Float64:
        """Fraction of the road with a predicted pixel within ρ, at each of the LEVELS thresholds.

        0 where there is no road.
        """
        return _fractions(at_least(self._found), np.full(LEVELS, self._found.sum()))

    def break_even(self) -> tuple[float, int] | tuple[None, None]:
        """The recall where recall and precision are nearest, and its level; None without road.

        As in ssai-cnn: of the thresholds with 0 < precision < 1 and 0 < recall < 1, the lowest
        with the smallest difference, without interpolation. ssai-cnn has no result if there is no
        such threshold (for example for a perfect map); then this is the maximum of
        min(precision, recall) over thresholds above 0.
        """
        if not self._found.any():
            return None, None
        precision, recall = self.precision(), self.recall()
        inside = (precision > 0) & (precision < 1) & (recall > 0) & (recall < 1)
        if not inside.any():
            smaller = np.minimum(precision, recall)[1:]
            return float(smaller.max()), 1 + int(smaller.argmax())
        level = int(np.where(inside, np.abs(precision - recall), np.inf).argmin())
        return float(recall[level]), level

    def curve_rows(self) -> list[tuple[float, ...]]:
        """Rows of threshold, recall and precision, none without road; see `counts.rows_along`."""
        if not self._found.any():
            return []
        curve = np.stack([self.recall(), self.precision()], axis=1)
        return rows_along(curve[at_least(self._predicted) > 0].tolist())


def _fractions(parts: Int64, wholes: Int64) -> Float64:
    return np.divide(parts, wholes, out=np.zeros(LEVELS), where=wholes > 0)


def centre_crop(height: int, width: int) -> tuple[slice, slice]:
    """The part of a tile that ssai-cnn scores: 1433×1433 pixels of 1500×1500, from (31, 31) on.

    Empty if a side is shorter than 64 pixels.
    """
    cut = OFFSETS - 1  # pixels at either end of the predicted part
    start = PATCH_BORDER + cut
    rows, columns = (
        slice(start, start + max(0, length // PATCH * PATCH - 2 * PATCH_BORDER - cut))
        for length in (height, width)
    )
    return rows, columns
