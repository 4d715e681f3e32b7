"""Relaxed precision and recall: a pixel counts as right within ρ = 3 pixels of the other map.

Mnih, Machine Learning for Aerial Image Labeling (2013), as computed by ssai-cnn (Saito et al.
2016): the window is a square of 7×7 pixels, clipped at the border, and the four counts are pooled
over all tiles before they are divided (mitmul/ssai-cnn, utils/src/calc_relax_pr.cpp and
scripts/evaluate.py). Here the counts of all thresholds come from three histograms instead of a
pass over the tile per threshold; they are the same numbers.
"""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roads.metrics.counts import LEVELS, levels_along
from roads.runtime.arrays import Float64, Int64

RHO = 3  # pixels, which are metres in the Massachusetts Roads Dataset
WINDOW = 2 * RHO + 1
RELAXED_COLUMNS = ("threshold", "recall", "precision")

# ssai-cnn predicts 16×16 pixels from 64×64 and averages 8 offsets; what is left of a tile where
# all offsets speak is scored (scripts/predict.py, get_predict; scripts/evaluate.py).
PATCH = 16
PATCH_BORDER = (64 - PATCH) // 2
OFFSETS = 8


class RelaxedCounts:
    """Pooled counts at every threshold t / LEVELS, in constant memory."""

    def __init__(self) -> None:
        self._predicted = np.zeros(LEVELS, np.int64)  # by level of the pixel
        self._near_road = np.zeros(LEVELS, np.int64)  # of these, with road in the window
        self._found = np.zeros(LEVELS, np.int64)  # road, by the highest level in the window
        self._road = 0

    def add(self, levels: NDArray[np.int16], road: NDArray[np.bool_]) -> None:
        """Count a tile; `levels` from `scores.to_levels` and `road` are (height, width)."""
        if levels.shape != road.shape:
            raise ValueError(f"levels are {levels.shape}, road is {road.shape}")
        near = ndimage.maximum_filter(road, WINDOW, mode="constant", cval=False)
        best = ndimage.maximum_filter(levels, WINDOW, mode="constant", cval=0)
        self._predicted += np.bincount(levels.ravel(), minlength=LEVELS)
        self._near_road += np.bincount(levels[near], minlength=LEVELS)
        self._found += np.bincount(best[road], minlength=LEVELS)
        self._road += int(np.count_nonzero(road))

    def precision(self) -> Float64:
        """Fraction of the predicted pixels with road within ρ, at each of the LEVELS thresholds.

        0 where nothing is predicted.
        """
        return _fractions(_at_least(self._near_road), _at_least(self._predicted))

    def recall(self) -> Float64:
        """Fraction of the road with a predicted pixel within ρ, at each of the LEVELS thresholds.

        0 where there is no road.
        """
        return _fractions(_at_least(self._found), np.full(LEVELS, self._road))

    def break_even(self) -> tuple[float, int]:
        """The recall where recall and precision are nearest, and its level.

        As ssai-cnn takes it: of the thresholds with 0 < precision < 1 and 0 < recall < 1 the
        lowest with the smallest difference, and no interpolation. It has no answer where there
        is no such threshold (a perfect map, or a blind one); here the smaller of the two
        is then made as large as it gets at a threshold above 0.
        """
        precision, recall = self.precision(), self.recall()
        inside = (precision > 0) & (precision < 1) & (recall > 0) & (recall < 1)
        if not inside.any():
            smaller = np.minimum(precision, recall)[1:]
            return float(smaller.max()), 1 + int(smaller.argmax())
        difference = np.where(inside, np.abs(precision - recall), np.inf)
        level = int(difference.argmin())
        return float(recall[level]), level

    def curve_rows(self, most: int = 200) -> list[tuple[float, float, float]]:
        """Rows of RELAXED_COLUMNS by rising threshold, at most `most`, rounded to six digits.

        Levels at which nothing is predicted are left out.
        """
        some = _at_least(self._predicted) > 0
        curve = np.stack([self.recall(), self.precision()], axis=1)[some]
        return [
            (level / LEVELS, round(float(curve[level, 0]), 6), round(float(curve[level, 1]), 6))
            for level in levels_along(curve, most)
        ]


def _at_least(histogram: Int64) -> Int64:
    return np.cumsum(histogram[::-1])[::-1]


def _fractions(parts: Int64, wholes: Int64) -> Float64:
    return np.divide(parts, wholes, out=np.zeros(LEVELS), where=wholes > 0)


def centre_crop(height: int, width: int) -> tuple[slice, slice]:
    """The part of a tile that ssai-cnn scores: 1426×1426 pixels from (31, 31) on of 1500×1500.

    Empty where a side is shorter than 64 pixels.
    """
    rows, columns = (_centre(length) for length in (height, width))
    return rows, columns


def _centre(length: int) -> slice:
    start = PATCH_BORDER + OFFSETS - 1
    scored = length // PATCH * PATCH - 2 * start
    return slice(start, start + max(0, scored))
