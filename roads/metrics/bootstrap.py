"""How far scores would spread over other tiles: intervals by bootstrap."""

from collections.abc import Sequence

import numpy as np

from roads.metrics.counts import Counts
from roads.runtime.arrays import Float64, Int64

DRAWS = 10_000
SEED = 0
MIDDLE = 0.95  # the part of the draws that the interval holds


def dice_interval(tiles: Sequence[Counts]) -> tuple[float, float]:
    """Bounds of the pooled Dice's 95 % interval over tiles.

    As many tiles are drawn with replacement as there are, their counts are pooled, and the
    interval leaves out 2.5 % of the draws' scores at either end: Efron and Tibshirani, An
    Introduction to the Bootstrap (1993), chapter 13. It says how much depends on which tiles
    are tested, and nothing of other trainings; the same tiles give the same interval.

    Args:
        tiles: the counts of each tile; of a single tile the interval is its score.
    """
    counts = np.array(
        [(tile.true_positives, tile.false_positives, tile.false_negatives) for tile in tiles],
        np.int64,
    )
    tp, fp, fn = (_draws(len(tiles)) @ counts).T
    sizes = 2 * tp + fp + fn
    dice = np.divide(2 * tp, sizes, out=np.ones(DRAWS), where=sizes > 0)
    return _middle(dice)


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """Bounds of the 95 % interval of a mean over tiles, by the same draws."""
    return _middle(_draws(len(values)) @ np.array(values) / len(values))


def _draws(tiles: int) -> Int64:
    """How often each tile is in each draw, (DRAWS, tiles)."""
    draw = np.random.default_rng(SEED)
    return draw.multinomial(tiles, np.full(tiles, 1 / tiles), DRAWS)


def _middle(scores: Float64) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2])
    return float(low), float(high)


def iou_of_dice(dice: float) -> float:
    """IoU = Dice / (2 − Dice), which is monotone, so it carries an interval's bounds too."""
    return dice / (2 - dice)
