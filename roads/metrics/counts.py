"""Scores of the road class from pooled counts of pixels.

Road is predicted where probability ≥ threshold. When ranking pictures, 0 / 0 counts as 1, as in
scikit-learn with `zero_division=1`; it is reported as None.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from roads.runtime.arrays import Bool, Float32, Int64

LEVELS = 1024  # thresholds are t / LEVELS; a power of two, so that probability × LEVELS is exact
HALF = LEVELS // 2


class Counts(NamedTuple):
    """Numbers of true positive, false positive and false negative pixels of road."""

    true_positives: int
    false_positives: int
    false_negatives: int

    @property
    def dice(self) -> float:
        """2·TP / (2·TP + FP + FN), also called F1."""
        return fraction(2 * self.true_positives, self.true_positives + sum(self))

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), which is Dice / (2 − Dice)."""
        return fraction(self.true_positives, sum(self))

    @property
    def precision(self) -> float:
        """The fraction of the predicted road that is road."""
        return fraction(self.true_positives, self.true_positives + self.false_positives)

    @property
    def recall(self) -> float:
        """The fraction of the road that is predicted."""
        return fraction(self.true_positives, self.true_positives + self.false_negatives)


def fraction(part: int, whole: int) -> float:
    """part / whole; 0 / 0 is 1."""
    return part / whole if whole else 1.0


def reported(counts: Counts, *names: str) -> dict[str, float | None]:
    """The named scores, rounded to six digits; None where they are not defined.

    Without road there is no Dice, IoU or recall, and without predicted road no precision.
    """
    road = counts.true_positives + counts.false_negatives
    predicted = counts.true_positives + counts.false_positives
    return {
        name: round(getattr(counts, name), 6)
        if (predicted if name == "precision" else road)
        else None
        for name in names
    }


def rank(counts: Counts, name: str) -> float:
    """The named score, or -1 if it is not defined, so that it ranks last."""
    return -1.0 if reported(counts, name)[name] is None else float(getattr(counts, name))


def rounded(score: float | None) -> float | None:
    """A score rounded to six digits; None stays None."""
    return None if score is None else round(score, 6)


def mean(values: Sequence[float]) -> float | None:
    """The mean; None without values."""
    return sum(values) / len(values) if values else None


def count_each(predicted: Bool, road: Bool) -> list[Counts]:
    """Count each picture of a batch; both arguments are (n, height, width) bool."""
    masks = (predicted & road, predicted & ~road, ~predicted & road)
    each = np.stack([np.count_nonzero(mask, axis=(1, 2)) for mask in masks], axis=1)
    return [Counts(*counts) for counts in each.tolist()]


def to_levels(probabilities: Float32) -> NDArray[np.int16]:
    """Quantise so that `levels >= t` exactly if `probabilities >= t / LEVELS`, for t < LEVELS."""
    return np.minimum(probabilities * LEVELS, LEVELS - 1).astype(np.int16)


def at_least(histogram: Int64) -> Int64:
    """The counts at each level or above, from counts by level along the last axis."""
    return np.cumsum(histogram[..., ::-1], axis=-1)[..., ::-1]


class LevelCounts:
    """Counts at every threshold t / LEVELS, pooled over pictures, in 16 KiB of memory."""

    def __init__(self) -> None:
        self.by_level = np.zeros((2, LEVELS), np.int64)  # other pixels and road

    def add(self, levels: NDArray[np.int16], road: Bool) -> None:
        """Count pixels; `levels` from `to_levels` and `road` have the same, arbitrary shape."""
        cells = (levels + road * np.int16(LEVELS)).ravel()
        self.by_level += np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS)

    @property
    def pixels(self) -> int:
        """The number of counted pixels."""
        return int(self.by_level.sum())

    @property
    def road_pixels(self) -> int:
        """The number of counted road pixels."""
        return int(self.by_level[1].sum())

    def every(self) -> list[Counts]:
        """The counts at each of the LEVELS thresholds, ascending."""
        false_positives, true_positives = at_least(self.by_level)
        columns = (true_positives, false_positives, self.road_pixels - true_positives)
        return [Counts(*counts) for counts in np.stack(columns, axis=1).tolist()]

    def at(self, level: int) -> Counts:
        """The counts at the threshold level / LEVELS."""
        return self.every()[level]

    def best_level(self) -> int:
        """The level with the highest pooled Dice; among equals, the one nearest to 0.5.

        Level 0 is not considered, since everything is road there. If there is no road, all levels
        are equally good, and the result is that of 0.5.
        """
        if self.road_pixels == 0:
            return HALF
        dice = [counts.dice for counts in self.every()]
        return max(range(1, LEVELS), key=lambda level: (dice[level], -abs(level - HALF)))

    def curve_rows(self) -> list[tuple[float, ...]]:
        """Rows of threshold, recall, precision, Dice and IoU (`rows_along`); none without road."""
        if self.road_pixels == 0:
            return []
        return rows_along([
            (counts.recall, counts.precision, counts.dice, counts.iou)
            for counts in self.every()
            if counts.true_positives + counts.false_positives
        ])  # fmt: skip


def rows_along(curve: Sequence[Sequence[float]], most: int = 200) -> list[tuple[float, ...]]:
    """Threshold and scores at no more than `most` levels, evenly spaced along a curve.

    Saturated outputs concentrate nearly all change in a few levels. The length of the curve is
    measured in (threshold, recall, precision), each step as the sum of its three changes.

    Args:
        curve: recall, precision and any other scores, for each level from 0 up to the last at
            which anything is predicted.

    Returns:
        Rows by rising threshold, scores rounded to six digits.
    """
    if not curve:
        return []
    steps = np.abs(np.diff(np.array(curve)[:, :2], axis=0)).sum(axis=1) + 1 / LEVELS
    length = np.concatenate([[0.0], steps.cumsum()])
    levels = np.unique(np.searchsorted(length, np.linspace(0, length[-1], most))).tolist()
    return [(level / LEVELS, *(round(score, 6) for score in curve[level])) for level in levels]
