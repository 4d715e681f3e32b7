"""The two measures of the article that the project starts from."""

import numpy as np

from roads.runtime.arrays import Bool, Float32, Float64

ARTICLE_BATCH = 16  # crops a batch in the article
ARTICLE_SMOOTH = 1.0


def soft_sums(probabilities: Float32, road: Bool) -> Float64:
    """Per crop the sums of p·y, p and y, as (n, 3) float64; both arguments (n, height, width)."""
    axes = (1, 2)
    overlap = np.sum(probabilities, axis=axes, dtype=np.float64, where=road)
    predicted = np.sum(probabilities, axis=axes, dtype=np.float64)
    return np.stack([overlap, predicted, np.count_nonzero(road, axis=axes)], axis=1)


def article_dice(sums: Float64) -> float:
    """The article's soft Dice, one minus its loss: over a whole batch of 16, mean over batches.

    (2·Σpy + 1) / (Σp + Σy + 1), crops in the order of the pack; the last batch may be smaller.

    Args:
        sums: (n, 3) float64 from `soft_sums`, n ≥ 1.
    """
    starts = np.arange(0, len(sums), ARTICLE_BATCH)
    overlap, predicted, road = np.add.reduceat(sums, starts, axis=0).T
    dice = (2 * overlap + ARTICLE_SMOOTH) / (predicted + road + ARTICLE_SMOOTH)
    return float(dice.mean())


def article_iou(sums: Float64) -> float:
    """The article's soft IoU, which its text calls Dice: per crop, then the mean over crops.

    (Σpy + 1) / (Σp + Σy − Σpy + 1).

    Args:
        sums: as for `article_dice`.
    """
    overlap, predicted, road = sums.T
    iou = (overlap + ARTICLE_SMOOTH) / (predicted + road - overlap + ARTICLE_SMOOTH)
    return float(iou.mean())
