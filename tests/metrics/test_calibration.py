import numpy as np
import pytest

from roads.metrics.calibration import BINS, calibration_error, reliability_rows
from roads.metrics.counts import LevelCounts, to_levels


def counted(exponent: float) -> tuple[LevelCounts, float]:
    """Labels drawn with probability p^exponent, and the error by its definition, pixel by pixel."""
    draw = np.random.default_rng(0)
    probability = draw.random(200_000, np.float32)
    road = draw.random(len(probability)) < probability**exponent
    counts = LevelCounts()
    counts.add(to_levels(probability), road)
    inside = (probability * BINS).astype(int)
    each = [road[inside == b].mean() - probability[inside == b].mean() for b in range(BINS)]
    return counts, float(np.abs(each) @ np.bincount(inside) / len(inside))


@pytest.mark.parametrize("exponent", [0.5, 1, 3])
def test_the_error_is_that_of_its_definition(exponent: float) -> None:
    counts, expected = counted(exponent)
    assert calibration_error(counts) == pytest.approx(expected, abs=1e-5)
    assert (calibration_error(counts) < 0.01) == (exponent == 1)


def test_rows_are_of_bins_that_have_pixels() -> None:
    counts = LevelCounts()
    counts.add(
        to_levels(np.array([0.01, 0.01, 0.99, 1.0], np.float32)),
        np.array([False, True, True, True]),
    )
    assert reliability_rows(counts) == [
        (pytest.approx(0.01, abs=1e-3), 0.5, 2),
        (pytest.approx(0.995, abs=1e-3), 1.0, 2),
    ]
