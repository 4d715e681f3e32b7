"""The two measures of the article that the project is based on."""

import numpy as np

from roads.runtime.arrays import Bool, Float32, Float64

ARTICLE_BATCH = 16  # crops in a batch in the article
ARTICLE_SMOOTH = 1.0


def soft_sums(probabilities: Float32, road: Bool) -> Float64:
    """The sums of p·y, p and y of each crop, (n, 3); both arguments are (n, height, width)."""
    axes = (1, 2)
    overlap = np.sum(probabilities, axis=axes, dtype=np.float64, where=road)
    predicted = np.sum(probabilities, axis=axes, dtype=np.float64)
    return np.stack([overlap, predicted, np.count_nonzero(road, axis=axes)], axis=1)


def article_dice(sums: Float64) -> float:
    """The article's soft Dice, (2·Σpy + 1) / (Σp + Σy + 1): the mean over batches of 16.

    The mean is weighted by the number of crops in a batch, as in Keras' loss, which the article
    reports.

    Args:
        sums: (n, 3) from `soft_sums`, n ≥ 1, in the order of the pack; the last batch may be
            smaller.
    """
    starts = np.arange(0, len(sums), ARTICLE_BATCH)
    overlap, predicted, road = np.add.reduceat(sums, starts, axis=0).T
    dice = (2 * overlap + ARTICLE_SMOOTH) / (predicted + road + ARTICLE_SMOOTH)
    return float(np.average(dice, weights=np.diff(starts, append=len(sums))))


def article_iou(sums: Float64) -> float:
    """The article's soft IoU, (Σpy + 1) / (Σp + Σy − Σpy + 1): the mean over crops.

    The article's text calls it Dice.
    """
    overlap, predicted, road = sums.T
    iou = (overlap + ARTICLE_SMOOTH) / (predicted + road - overlap + ARTICLE_SMOOTH)
    return float(iou.mean())
