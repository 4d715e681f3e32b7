"""Relaxed scores against a brute-force port of the definition, and by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from roads.metrics.counts import LEVELS, to_levels
from roads.metrics.relaxed import RHO, RelaxedCounts, centre_crop

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]

TILES = st.tuples(st.integers(1, 12), st.integers(1, 20)).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)),
        arrays.arrays(np.bool_, shape),
    )
)


def counted(*tiles: tuple[Float32, Bool]) -> RelaxedCounts:
    counts = RelaxedCounts()
    for probabilities, road in tiles:
        counts.add(to_levels(probabilities), road)
    return counts


def near(marked: Bool, y: int, x: int) -> bool:
    """Whether a pixel is marked in the square of side 2ρ + 1 around (y, x)."""
    top, left = max(0, y - RHO), max(0, x - RHO)
    return bool(marked[top : y + RHO + 1, left : x + RHO + 1].any())


def brute_force(predicted: Bool, road: Bool) -> tuple[float, float]:
    """Relaxed precision and recall, pixel by pixel."""
    right = sum(near(road, y, x) for y, x in np.argwhere(predicted))
    found = sum(near(predicted, y, x) for y, x in np.argwhere(road))
    return (
        right / predicted.sum() if predicted.any() else 0,
        found / road.sum() if road.any() else 0,
    )


@given(TILES, st.integers(0, LEVELS - 1))
@settings(deadline=None, max_examples=60)
def test_agrees_with_brute_force(tile: tuple[Float32, Bool], level: int) -> None:
    counts = counted(tile)
    precision, recall = brute_force(tile[0].astype(float) >= level / LEVELS, tile[1])
    assert counts.precision()[level] == pytest.approx(precision, abs=1e-15)
    assert counts.recall()[level] == pytest.approx(recall, abs=1e-15)


def test_sparse_maps_agree_with_brute_force_at_every_kind_of_threshold() -> None:
    """Dense random maps have road near every pixel; these do not."""
    rng = np.random.default_rng(0)
    road = rng.random((40, 70)) < 0.01
    probabilities = (rng.random(road.shape) ** 40).astype(np.float32)
    counts = counted((probabilities, road))
    seen = set()
    for level in (0, 1, 50, 300, 512, 900, 1023):
        precision, recall = brute_force(probabilities >= level / LEVELS, road)
        assert counts.precision()[level] == pytest.approx(precision, abs=1e-15)
        assert counts.recall()[level] == pytest.approx(recall, abs=1e-15)
        seen.add((precision, recall))
    assert len(seen) == 7


def test_counts_are_pooled_over_tiles_not_averaged() -> None:
    rng = np.random.default_rng(1)
    tiles = [
        (rng.random((30, width)).astype(np.float32) ** 20, rng.random((30, width)) < fraction)
        for width, fraction in ((20, 0.002), (60, 0.02))
    ]
    both = counted(*tiles)
    each = [counted(tile) for tile in tiles]
    predicted = [int((probabilities >= 0.5).sum()) for probabilities, _ in tiles]
    roads = [int(road.sum()) for _, road in tiles]
    level = LEVELS // 2
    precisions = [float(counts.precision()[level]) for counts in each]
    recalls = [float(counts.recall()[level]) for counts in each]
    assert both.precision()[level] == pytest.approx(np.average(precisions, weights=predicted))
    assert both.recall()[level] == pytest.approx(np.average(recalls, weights=roads))
    assert both.recall()[level] != pytest.approx(np.mean(recalls), abs=0.01)


def line(height: int, width: int, column: int) -> Bool:
    road = np.zeros((height, width), np.bool_)
    road[:, column] = True
    return road


@pytest.mark.parametrize("shape", [(20, 50), (50, 20)])
@pytest.mark.parametrize(("moved", "score"), [(0, 1), (RHO, 1), (-RHO, 1), (RHO + 1, 0)])
@pytest.mark.parametrize("turned", [False, True])
def test_a_line_may_be_off_by_rho_and_no_more(
    shape: tuple[int, int], moved: int, score: int, turned: bool
) -> None:
    road, predicted = line(*shape, 9), line(*shape, 9 + moved)
    if turned:
        road, predicted = road.T, predicted.T
    counts = counted((predicted.astype(np.float32), road))
    assert counts.precision()[LEVELS // 2] == score
    assert counts.recall()[LEVELS // 2] == score
    assert counts.break_even()[0] == score


def test_the_window_is_a_square_so_the_far_corner_counts() -> None:
    road, predicted = np.zeros((2, 9, 9), np.bool_)
    road[1, 1], predicted[1 + RHO, 1 + RHO] = True, True
    assert counted((predicted.astype(np.float32), road)).break_even()[0] == 1


def test_a_line_of_another_width_scores_one() -> None:
    """A 1-pixel centreline and a 13-pixel band both score 1 against a 7-pixel road."""
    road = np.zeros((20, 40), np.bool_)
    road[:, 17:24] = True
    thin, wide = line(20, 40, 20), np.zeros_like(road)
    wide[:, 14:27] = True
    for predicted in (thin, wide):
        assert counted((predicted.astype(np.float32), road)).break_even()[0] == 1


def test_break_even_is_the_pair_that_ssai_cnn_takes() -> None:
    rng = np.random.default_rng(2)
    road = rng.random((60, 80)) < 0.01
    probabilities = (
        0.5 * rng.random(road.shape) ** 8 + 0.5 * road * rng.random(road.shape)
    ).astype(np.float32)
    counts = counted((probabilities, road))
    pairs = []
    for level, pair in enumerate(zip(counts.precision(), counts.recall(), strict=True)):
        if all(0 < score < 1 for score in pair):
            pairs.append((*pair, level))
    nearest = min(pairs, key=lambda pair: abs(pair[0] - pair[1]))
    assert counts.break_even() == (nearest[1], nearest[2])


def test_break_even_of_extremes() -> None:
    road = line(20, 20, 5)
    blind = counted((np.zeros(road.shape, np.float32), road))
    assert blind.break_even()[0] == 0


@pytest.mark.parametrize("predicted", [0, 1])
def test_without_road_break_even_and_curve_are_undefined(predicted: int) -> None:
    road = np.zeros((20, 20), np.bool_)
    for counts in (counted((np.full(road.shape, predicted, np.float32), road)), RelaxedCounts()):
        assert counts.break_even() == (None, None)
        assert counts.curve_rows() == []


@given(TILES)
@settings(deadline=None, max_examples=30)
def test_recall_only_falls_and_relaxed_is_never_below_strict(tile: tuple[Float32, Bool]) -> None:
    probabilities, road = tile
    counts = counted(tile)
    assert (np.diff(counts.recall()) <= 0).all()
    predicted = probabilities >= 0.5
    if predicted.any() and road.any():
        both = (predicted & road).sum()
        assert counts.precision()[LEVELS // 2] >= both / predicted.sum() - 1e-12
        assert counts.recall()[LEVELS // 2] >= both / road.sum() - 1e-12


@given(st.tuples(st.integers(1, 12), st.integers(1, 20)), st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=30)
def test_precision_and_recall_swap_with_the_maps(shape: tuple[int, int], seed: int) -> None:
    first, second = np.random.default_rng(seed).random((2, *shape)) < 0.1
    one = counted((first.astype(np.float32), second))
    other = counted((second.astype(np.float32), first))
    assert one.precision()[LEVELS // 2] == other.recall()[LEVELS // 2]
    assert one.recall()[LEVELS // 2] == other.precision()[LEVELS // 2]


def test_curve_is_short_ascending_and_true() -> None:
    rng = np.random.default_rng(3)
    road = rng.random((80, 50)) < 0.02
    counts = counted(((rng.random(road.shape) ** 9).astype(np.float32), road))
    rows = counts.curve_rows()
    assert [row[0] for row in rows] == sorted({row[0] for row in rows})
    assert 50 < len(rows) <= 200
    for threshold, recall, precision in rows:
        level = round(threshold * LEVELS)
        assert recall == pytest.approx(counts.recall()[level], abs=1e-6)
        assert precision == pytest.approx(counts.precision()[level], abs=1e-6)


def test_centre_crop_is_what_ssai_cnn_scores() -> None:
    """1500 → a canvas of 93·16 − 48 + 7 = 1447, less 7 pixels a side; the label from 24 + 7 on."""
    assert centre_crop(1500, 1500) == (slice(31, 31 + 1433), slice(31, 31 + 1433))
    rows, columns = centre_crop(200, 1000)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (192 - 55, 992 - 55)
    assert np.zeros((40, 63))[centre_crop(40, 63)].shape == (0, 0)
