"""Scores of the test crops: pooled counts, and the article's own two measures."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from roads.metrics.article import article_dice, article_iou, soft_sums
from roads.metrics.calibration import calibration_error, uncalibrated
from roads.metrics.counts import HALF, LEVELS, Counts, LevelCounts, count_each, reported, to_levels
from roads.runtime.arrays import Bool, Float32, Float64

Predictions = Iterable[tuple[Float32, Bool]]  # probabilities and road of a batch, (n, size, size)


@dataclass(frozen=True)
class CropScores:
    """Counts on the test crops.

    Attributes:
        level: the chosen threshold is level / LEVELS.
        pooled: counts at every threshold.
        each: counts at the chosen threshold for each crop, in the pack's order.
        soft: (n, 3), sums for the article's measures, in the same order.
    """

    level: int
    pooled: LevelCounts
    each: list[Counts]
    soft: Float64


def pool_crops(predictions: Predictions) -> LevelCounts:
    """Count crops at every threshold, pooled."""
    pooled = LevelCounts()
    for probabilities, road in predictions:
        pooled.add(to_levels(probabilities), road)
    return pooled


def score_crops(predictions: Predictions, level: int, temperature: float = 1.0) -> CropScores:
    """Count crops: pooled at every threshold, and one by one at level / LEVELS.

    The article's measures are of the net's own probabilities, before the temperature.
    """
    pooled, each, soft = LevelCounts(), [], []
    for probabilities, road in predictions:
        levels = to_levels(probabilities)
        pooled.add(levels, road)
        each += count_each(levels >= level, road)
        soft.append(soft_sums(uncalibrated(probabilities, temperature), road))
    return CropScores(level, pooled, each, np.concatenate(soft))


def crop_metrics(scores: CropScores) -> dict[str, Any]:
    """The scores of crops in `scores.json`; fractions from 0 to 1, rounded to six digits."""
    best, half = scores.pooled.at(scores.level), scores.pooled.at(HALF)
    return {
        **reported(best, "dice", "iou"),
        "crops": {
            "count": len(scores.each),
            "threshold": scores.level / LEVELS,
            "calibration_error": calibration_error(scores.pooled),
            **reported(best, "precision", "recall"),
            "at_half": reported(half, "dice", "iou", "precision", "recall"),
        },
        "article": {
            "soft_dice": round(article_dice(scores.soft), 6),
            "soft_iou": round(article_iou(scores.soft), 6),
        },
    }
