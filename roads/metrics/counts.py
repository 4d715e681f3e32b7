"""Scores of the road class: pooled counts of pixels.

"Road" is predicted where probability ≥ threshold. 0 / 0 counts as 1: a map without any
predicted road has no false positives (precision 1), and where there is no road there are no false
negatives (recall 1), as in scikit-learn's scores with `zero_division=1`.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from roads.runtime.arrays import Bool, Float32, Float64

LEVELS = 1024  # thresholds are t / LEVELS; a power of two, so that probability × LEVELS is exact
HALF = LEVELS // 2


@dataclass(frozen=True)
class Counts:
    """How many pixels are true positives, false positives and false negatives of road."""

    true_positives: int
    false_positives: int
    false_negatives: int

    def __add__(self, other: Self) -> "Counts":
        return Counts(
            self.true_positives + other.true_positives,
            self.false_positives + other.false_positives,
            self.false_negatives + other.false_negatives,
        )

    @property
    def dice(self) -> float:
        """2·TP / (2·TP + FP + FN), also called F1."""
        return fraction(
            2 * self.true_positives,
            2 * self.true_positives + self.false_positives + self.false_negatives,
        )

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), which is Dice / (2 − Dice)."""
        return fraction(
            self.true_positives, self.true_positives + self.false_positives + self.false_negatives
        )

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


def rounded(counts: object, *names: str) -> dict[str, float]:
    """The named scores of some counts, rounded to six digits."""
    return {name: round(getattr(counts, name), 6) for name in names}


def count_each(predicted: Bool, road: Bool) -> list[Counts]:
    """Count every picture of a batch for itself; both arguments are (n, height, width) bool."""
    true_positives = np.count_nonzero(predicted & road, axis=(1, 2))
    false_positives = np.count_nonzero(predicted & ~road, axis=(1, 2))
    false_negatives = np.count_nonzero(~predicted & road, axis=(1, 2))
    return [
        Counts(int(tp), int(fp), int(fn))
        for tp, fp, fn in zip(true_positives, false_positives, false_negatives, strict=True)
    ]


def to_levels(probabilities: Float32) -> NDArray[np.int16]:
    """Quantise so that `levels >= t` says exactly `probabilities >= t / LEVELS`, t < LEVELS."""
    return np.minimum(probabilities * LEVELS, LEVELS - 1).astype(np.int16)


class LevelCounts:
    """Pooled counts at every threshold t / LEVELS at once, from a histogram: 16 KiB of memory."""

    def __init__(self) -> None:
        self._pixels = np.zeros((2, LEVELS), np.int64)  # other pixels and road, by level

    def add(self, levels: NDArray[np.int16], road: Bool) -> None:
        """Count pixels; `levels` from `to_levels` and `road` have the same shape, any shape."""
        if levels.shape != road.shape:
            raise ValueError(f"levels are {levels.shape}, road is {road.shape}")
        cells = levels.ravel() + road.ravel() * np.int16(LEVELS)
        self._pixels += np.bincount(cells, minlength=2 * LEVELS).reshape(2, LEVELS)

    @property
    def pixels(self) -> int:
        """How many pixels were counted."""
        return int(self._pixels.sum())

    @property
    def road_pixels(self) -> int:
        """How many of them are road."""
        return int(self._pixels[1].sum())

    def at(self, level: int) -> Counts:
        """The counts at the threshold level / LEVELS."""
        false_positives, true_positives = self._pixels[:, level:].sum(axis=1)
        return Counts(
            int(true_positives), int(false_positives), self.road_pixels - int(true_positives)
        )

    def every(self) -> list[Counts]:
        """The counts at each of the LEVELS thresholds, ascending."""
        false_positives, true_positives = np.cumsum(self._pixels[:, ::-1], axis=1)[:, ::-1]
        return [
            Counts(int(tp), int(fp), self.road_pixels - int(tp))
            for tp, fp in zip(true_positives, false_positives, strict=True)
        ]

    def best_level(self) -> int:
        """The level of highest pooled Dice; of equals the one nearest to a half.

        Level 0 calls everything road, so it is no threshold. Where the truth has no road nothing
        tells one level from another, and a half is as good as any.
        """
        if self.road_pixels == 0:
            return HALF
        dice = [counts.dice for counts in self.every()]
        return max(range(1, LEVELS), key=lambda level: (dice[level], -abs(level - HALF)))


CURVE_COLUMNS = ("threshold", "recall", "precision", "dice", "iou")


def curve_rows(counts: LevelCounts, most: int = 200) -> list[tuple[float, ...]]:
    """Rows of CURVE_COLUMNS by rising threshold, at most `most`, rounded to six digits.

    Levels at which nothing is predicted have no precision and are left out.
    """
    every = [entry for entry in counts.every() if entry.true_positives + entry.false_positives]
    curve = np.array([(entry.recall, entry.precision) for entry in every]).reshape(-1, 2)
    return [(level / LEVELS, *_curve_values(every[level])) for level in levels_along(curve, most)]


def _curve_values(counts: Counts) -> list[float]:
    values = (counts.recall, counts.precision, counts.dice, counts.iou)
    return [round(value, 6) for value in values]


def levels_along(curve: Float64, most: int) -> list[int]:
    """At most `most` levels, evenly spread along a curve and not over the thresholds.

    Saturated outputs crowd nearly all change into a few levels. The length of the curve is
    taken through (threshold, recall, precision), each step as the sum of its three changes.

    Args:
        curve: (levels, 2), recall and precision at each level from 0 on.
    """
    if len(curve) == 0:
        return []
    steps = np.abs(np.diff(curve, axis=0)).sum(axis=1) + 1 / LEVELS
    length = np.concatenate([[0.0], steps.cumsum()])
    levels: list[int] = np.unique(
        np.searchsorted(length, np.linspace(0, length[-1], most))
    ).tolist()
    return levels
