"""Centreline scores: hand-made roads, and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import ndimage

from roads.metrics.centreline import REACH, count_lines, count_near
from roads.runtime.arrays import Bool

MAPS = st.tuples(st.integers(1, 20), st.integers(1, 30)).flatmap(
    lambda shape: st.tuples(arrays.arrays(np.bool_, shape), arrays.arrays(np.bool_, shape))
)


def road(top: int, width: int = 7, shape: tuple[int, int] = (80, 120)) -> Bool:
    """A horizontal road across the picture, `width` pixels wide."""
    picture = np.zeros(shape, np.bool_)
    picture[top : top + width] = True
    return picture


def test_the_same_map_is_perfect() -> None:
    counts = count_lines(road(20), road(20))
    assert (counts.cldice, counts.completeness, counts.correctness) == (1, 1, 1)
    assert counts.road == counts.predicted
    assert counts.road == pytest.approx(120, abs=7)  # as long as the road, to its ends


def test_width_does_not_matter() -> None:
    counts = count_lines(road(22, width=3), road(20, width=7))
    assert counts.completeness == counts.correctness == 1
    assert counts.cldice == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize(("moved", "score"), [(REACH, 1), (REACH + 1, 0)])
def test_a_line_may_be_off_by_three_metres_and_no_more(moved: int, score: int) -> None:
    one = road(30, width=1)
    counts = count_lines(np.roll(one, moved, axis=0), one)
    assert (counts.completeness, counts.correctness) == (score, score)


def test_a_missed_road_costs_completeness_and_a_false_one_correctness() -> None:
    both = road(10) | road(50)
    missed, false = count_lines(road(10), both), count_lines(both, road(10))
    assert (missed.correctness, missed.completeness) == (1, pytest.approx(0.5, abs=0.01))
    assert (false.completeness, false.correctness) == (1, pytest.approx(0.5, abs=0.01))
    assert missed.cldice == pytest.approx(2 / 3, abs=0.01)
    assert missed.cldice == pytest.approx(false.cldice, abs=0.01)


def test_a_gap_costs_its_length_less_three_metres_at_either_end() -> None:
    whole = road(30, width=1)
    broken = whole.copy()
    broken[:, 50:70] = False
    counts = count_lines(broken, whole)
    assert counts.correctness == 1
    assert counts.completeness == pytest.approx((120 - 20 + 2 * REACH) / 120)
    assert counts.cldice == pytest.approx(2 * (100 / 120) / (1 + 100 / 120))


def test_without_road_nothing_is_complete_and_without_predicted_road_nothing_correct() -> None:
    nothing = np.zeros((80, 120), np.bool_)
    neither = count_lines(nothing, nothing)
    assert (neither.cldice, neither.completeness, neither.correctness) == (None, None, None)
    false = count_lines(road(20), nothing)
    assert (false.cldice, false.completeness, false.correctness) == (None, None, 0)
    missed = count_lines(nothing, road(20))
    assert (missed.cldice, missed.completeness, missed.correctness) == (0, 0, None)


@given(MAPS)
@settings(deadline=None)
def test_near_is_a_euclidean_distance(maps: tuple[Bool, Bool]) -> None:
    lines, others = maps
    distance = ndimage.distance_transform_edt(~others)
    near = lines & (distance <= REACH) if others.any() else np.zeros_like(lines)
    assert count_near(lines, others) == near.sum()


@given(MAPS)
@settings(deadline=None)
def test_swapping_the_maps_swaps_the_scores(maps: tuple[Bool, Bool]) -> None:
    one, other = count_lines(*maps), count_lines(*maps[::-1])
    assert one.completeness == other.correctness
    if one.road and one.predicted:
        assert one.cldice == pytest.approx(other.cldice)
    for score in (one.cldice, one.completeness, one.correctness):
        assert score is None or 0 <= score <= 1
