"""Whether probabilities are calibrated: of the pixels with probability p, a fraction p is road."""

import numpy as np

from roads.metrics.counts import LEVELS, LevelCounts
from roads.runtime.arrays import Float32

BINS = 16  # of equal width, by predicted probability
COLUMNS = ("probability", "road", "pixels")


def reliability_rows(pooled: LevelCounts) -> list[tuple[float, float, int]]:
    """Rows of COLUMNS for each bin with pixels: mean probability, fraction of road, and pixels.

    Probabilities are known to 1 / LEVELS, and taken from the middle of that range.
    """
    centres = (np.arange(LEVELS) + 0.5) / LEVELS
    pixels = pooled.by_level.sum(axis=0)
    rows = []
    for level in np.split(np.arange(LEVELS), BINS):
        inside = int(pixels[level].sum())
        if inside:
            probability = float(centres[level] @ pixels[level]) / inside
            road = int(pooled.by_level[1, level].sum()) / inside
            rows.append((round(probability, 6), round(road, 6), inside))
    return rows


def calibration_error(pooled: LevelCounts) -> float:
    """The expected calibration error, from 0 to 1, rounded to six digits.

    The mean over pixels of the difference between probability and fraction of road in their bin
    (Guo et al. 2017, *On Calibration of Modern Neural Networks*, equation 3).
    """
    rows = reliability_rows(pooled)
    wrong = sum(pixels * abs(probability - road) for probability, road, pixels in rows)
    return round(wrong / pooled.pixels, 6)


def uncalibrated(probabilities: Float32, temperature: float) -> Float32:
    """The probabilities before their logits were divided by the temperature, of any shape."""
    road, other = (np.power(p, np.float32(temperature)) for p in (probabilities, 1 - probabilities))
    own: Float32 = road / (road + other)
    return own
