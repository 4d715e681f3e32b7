"""Bootstrap intervals: how much scores would vary with other test tiles."""

from collections.abc import Sequence

import numpy as np

from roads.metrics.counts import Counts
from roads.runtime.arrays import Float64, Int64

DRAWS = 10_000
SEED = 0
MIDDLE = 0.95  # fraction of the draws in the interval


def dice_interval(tiles: Sequence[Counts]) -> tuple[float, float]:
    """The bounds of the 95 % interval of the pooled Dice over tiles.

    Each draw takes as many tiles as there are, with replacement, and pools their counts. The
    interval leaves out the lowest and the highest 2.5 % of the scores: Efron and Tibshirani, An
    Introduction to the Bootstrap (1993), chapter 13. It shows the effect of the choice of test
    tiles, not that of training. The draws are the same in every run. Draws without road are left
    out, since they have no Dice; at least one tile must have road.
    """
    tp, fp, fn = (_draws(len(tiles)) @ np.array(tiles)).T
    road = tp + fn > 0
    return _middle((2 * tp / np.maximum(1, 2 * tp + fp + fn))[road])


def mean_interval(values: Sequence[float]) -> tuple[float, float]:
    """The bounds of the 95 % interval of a mean over tiles, by the same draws."""
    return _middle(_draws(len(values)) @ np.array(values) / len(values))


def _draws(tiles: int) -> Int64:
    """How often each tile is in each draw, (DRAWS, tiles)."""
    return np.random.default_rng(SEED).multinomial(tiles, np.full(tiles, 1 / tiles), DRAWS)


def _middle(scores: Float64) -> tuple[float, float]:
    low, high = np.quantile(scores, [(1 - MIDDLE) / 2, (1 + MIDDLE) / 2])
    return float(low), float(high)
