"""How far scores would spread over other tiles: intervals by bootstrap."""

from collections.abc import Sequence

import numpy as np

from roads.scores import Counts

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
    counts = np.array([(tile.hits, tile.false, tile.missed) for tile in tiles], np.int64)
    draw = np.random.default_rng(SEED)
    times = draw.multinomial(len(tiles), np.full(len(tiles), 1 / len(tiles)), DRAWS)
    hits, false, missed = (times @ counts).T
    sizes = 2 * hits + false + missed
    dice = np.divide(2 * hits, sizes, out=np.ones(DRAWS), where=sizes > 0)
    low, high = np.quantile(dice, [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2])
    return float(low), float(high)


def iou_of_dice(dice: float) -> float:
    """IoU = Dice / (2 − Dice), which is monotone, so it carries an interval's bounds too."""
    return dice / (2 - dice)
