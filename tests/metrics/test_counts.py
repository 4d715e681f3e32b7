"""Scores against scikit-learn, brute force and the article's own code."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn import metrics

from roads.metrics.article import article_dice, article_iou, soft_sums
from roads.metrics.counts import (
    HALF,
    LEVELS,
    Counts,
    LevelCounts,
    count_each,
    reported,
    to_levels,
)

Bool = NDArray[np.bool_]
Float32 = NDArray[np.float32]
Numbers = NDArray[np.floating]

PICTURES = st.tuples(*3 * [st.integers(1, 6)]).flatmap(
    lambda shape: st.tuples(
        arrays.arrays(np.float32, shape, elements=st.floats(0, 1, width=32)),
        arrays.arrays(np.bool_, shape),
    )
)
COUNTS = st.builds(Counts, *3 * [st.integers(0, 10**12)])


def random_pictures(seed: int, *shape: int) -> tuple[Float32, Bool]:
    rng = np.random.default_rng(seed)
    road = rng.random(shape) < 0.2
    noise = rng.normal(size=shape)
    return (1 / (1 + np.exp(-(noise + 2 * road - 1)))).astype(np.float32), road


def counted(probabilities: Float32, road: Bool) -> LevelCounts:
    counts = LevelCounts()
    counts.add(to_levels(probabilities), road)
    return counts


@pytest.mark.parametrize("threshold", [0.25, 0.5, 0.75])
def test_agrees_with_scikit_learn(threshold: float) -> None:
    probabilities, road = random_pictures(0, 3, 32, 32)
    counts = counted(probabilities, road).at(int(threshold * LEVELS))
    truth, predicted = road.ravel(), (probabilities >= threshold).ravel()
    assert counts.dice == pytest.approx(metrics.f1_score(truth, predicted), abs=1e-12)
    assert counts.iou == pytest.approx(metrics.jaccard_score(truth, predicted), abs=1e-12)
    assert counts.precision == pytest.approx(metrics.precision_score(truth, predicted), abs=1e-12)
    assert counts.recall == pytest.approx(metrics.recall_score(truth, predicted), abs=1e-12)


@pytest.mark.parametrize("road", [0, 1], ids=["no road", "all road"])
@pytest.mark.parametrize("predicted", [0, 1], ids=["none predicted", "all predicted"])
def test_edge_cases_are_those_of_scikit_learn(road: int, predicted: int) -> None:
    truth, claim = np.full(9, road), np.full(9, predicted)
    counts = counted(claim.astype(np.float32), truth > 0).at(HALF)
    assert counts.precision == metrics.precision_score(truth, claim, zero_division=1)
    assert counts.recall == metrics.recall_score(truth, claim, zero_division=1)
    assert counts.dice == metrics.f1_score(truth, claim, zero_division=1)
    assert counts.iou == metrics.jaccard_score(truth, claim, zero_division=1)


def test_no_road_and_none_predicted_is_perfect_and_any_error_is_not() -> None:
    assert (Counts(0, 0, 0).dice, Counts(0, 0, 0).iou) == (1, 1)
    assert (Counts(0, 5, 0).dice, Counts(0, 5, 0).precision, Counts(0, 5, 0).recall) == (0, 0, 1)
    assert (Counts(0, 0, 5).dice, Counts(0, 0, 5).precision, Counts(0, 0, 5).recall) == (0, 1, 0)


@given(COUNTS)
def test_iou_follows_from_dice_and_symmetry_swaps_precision_and_recall(counts: Counts) -> None:
    swapped = Counts(counts.true_positives, counts.false_negatives, counts.false_positives)
    assert counts.iou == pytest.approx(counts.dice / (2 - counts.dice), rel=1e-12)
    assert (swapped.dice, swapped.iou) == (counts.dice, counts.iou)
    assert (swapped.precision, swapped.recall) == (counts.recall, counts.precision)
    for score in (counts.dice, counts.iou, counts.precision, counts.recall):
        assert 0 <= score <= 1


def test_undefined_scores_are_none() -> None:
    names = ("dice", "iou", "precision", "recall")
    assert reported(Counts(3, 1, 2), *names) == {
        "dice": 0.666667, "iou": 0.5, "precision": 0.75, "recall": 0.6,
    }  # fmt: skip
    assert list(reported(Counts(0, 0, 0), *names).values()) == [None] * 4
    assert list(reported(Counts(0, 5, 0), *names).values()) == [None, None, 0, None]
    assert list(reported(Counts(0, 0, 5), *names).values()) == [0, 0, None, 0]


@given(PICTURES, st.integers(0, LEVELS - 1))
def test_a_level_is_exactly_a_threshold(pictures: tuple[Float32, Bool], level: int) -> None:
    probabilities, road = pictures
    predicted = probabilities.astype(np.float64) >= level / LEVELS
    brute = Counts(
        int((predicted & road).sum()),
        int((predicted & ~road).sum()),
        int((~predicted & road).sum()),
    )
    counts = counted(probabilities, road)
    assert counts.at(level) == brute == counts.every()[level]
    assert tuple(np.sum(count_each(predicted, road), axis=0)) == brute


@given(PICTURES)
@settings(max_examples=30)
def test_a_higher_threshold_never_finds_more(pictures: tuple[Float32, Bool]) -> None:
    every = counted(*pictures).every()
    assert len(every) == LEVELS
    for lower, higher in itertools.pairwise(every):
        assert higher.true_positives <= lower.true_positives
        assert higher.false_positives <= lower.false_positives
        assert higher.false_negatives >= lower.false_negatives


def test_batches_of_any_size_add_up() -> None:
    probabilities, road = random_pictures(1, 7, 16, 16)
    whole, parts = counted(probabilities, road), LevelCounts()
    for start in (0, 3, 5):
        stop = {0: 3, 3: 5, 5: 7}[start]
        parts.add(to_levels(probabilities[start:stop]), road[start:stop])
    assert parts.every() == whole.every()
    assert (parts.pixels, parts.road_pixels) == (road.size, road.sum())


def test_counts_do_not_overflow() -> None:
    counts = LevelCounts()
    levels, road = np.full(1, LEVELS - 1, np.int16), np.ones(1, np.bool_)
    counts.add(levels, road)
    counts.by_level *= 3 * 10**9
    assert counts.at(HALF) == Counts(3 * 10**9, 0, 0)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="shapes"):
        LevelCounts().add(np.zeros((2, 4), np.int16), np.zeros((4, 2), np.bool_))


def test_best_threshold_beats_every_other() -> None:
    probabilities, road = random_pictures(2, 4, 32, 32)
    best = counted(probabilities, road).best_level()
    scores = [
        metrics.f1_score(road.ravel(), (probabilities >= level / LEVELS).ravel())
        for level in range(8, LEVELS, 8)
    ]
    chosen = metrics.f1_score(road.ravel(), (probabilities >= best / LEVELS).ravel())
    assert chosen >= max(scores)


def test_best_threshold_of_equals_is_nearest_to_a_half() -> None:
    road = np.array([True, True, False, False])
    saturated = np.array([1, 1, 0, 0], np.float32)
    assert counted(saturated, road).best_level() == HALF
    low = np.array([0.25, 0.25, 0, 0], np.float32)
    assert counted(low, road).best_level() == LEVELS // 4


@pytest.mark.parametrize("road", [False, True])
def test_best_threshold_without_anything_to_choose_is_a_half(road: bool) -> None:
    blind = np.zeros(4, np.float32)
    assert counted(blind, np.full(4, road)).best_level() == HALF


def test_no_road_in_the_truth_leaves_the_threshold_at_a_half() -> None:
    probabilities, _ = random_pictures(3, 8, 8)
    assert counted(probabilities, np.zeros((8, 8), np.bool_)).best_level() == HALF


def test_curve_is_short_ascending_and_true() -> None:
    probabilities, road = random_pictures(4, 4, 64, 64)
    counts = counted(probabilities, road)
    rows = counts.curve_rows()
    thresholds = [row[0] for row in rows]
    assert thresholds == sorted(set(thresholds))
    assert 100 < len(rows) <= 200
    assert thresholds[0] == 0
    for threshold, recall, precision, dice, iou in rows:
        true = counts.at(round(threshold * LEVELS))
        expected = (true.recall, true.precision, true.dice, true.iou)
        assert (recall, precision, dice, iou) == pytest.approx(expected, abs=1e-6)


def test_curve_of_saturated_outputs_keeps_the_levels_where_it_moves() -> None:
    """Between two neighbouring rows recall and precision move little, unless one level does it."""
    probabilities, road = random_pictures(5, 4, 64, 64)
    saturated = (probabilities.astype(np.float64) ** 30).astype(np.float32)
    rows = counted(saturated, road).curve_rows()
    assert len(rows) <= 200
    steps = [
        abs(b[1] - a[1]) + abs(b[2] - a[2])
        for a, b in itertools.pairwise(rows)
        if round((b[0] - a[0]) * LEVELS) > 1
    ]
    assert max(steps) < 0.04


def test_curve_ends_where_nothing_is_predicted() -> None:
    road = np.array([True, False])
    rows = counted(np.array([0.25, 0.125], np.float32), road).curve_rows()
    assert rows[-1][0] == 0.25
    assert rows[-1][1:] == (1, 1, 1, 1)
    assert LevelCounts().curve_rows() == []


def the_articles_dice(y_true: Numbers, y_pred: Numbers, smooth: float = 1) -> float:
    y_true_f, y_pred_f = y_true.flatten(), y_pred.flatten()
    intersection = np.sum(y_true_f * y_pred_f)
    return float((2.0 * intersection + smooth) / (np.sum(y_true_f) + np.sum(y_pred_f) + smooth))


def the_articles_iou(y_pred: Numbers, y_true: Numbers, smooth: float = 1) -> NDArray[np.float64]:
    i = np.sum(y_pred * y_true, axis=(1, 2))
    u = np.sum(y_pred + y_true, axis=(1, 2)) - i
    return np.asarray((i + smooth) / (u + smooth))


@pytest.mark.parametrize("crops", [1, 16, 37])
def test_article_scores_are_those_of_its_code(crops: int) -> None:
    probabilities, road = random_pictures(6, crops, 16, 16)
    road[crops // 2] = False
    truth = road.astype(np.float64)
    sums = np.concatenate(
        [soft_sums(probabilities[i : i + 5], road[i : i + 5]) for i in range(0, crops, 5)]
    )
    batches = [
        the_articles_dice(truth[i : i + 16], probabilities[i : i + 16]) for i in range(0, crops, 16)
    ]
    sizes = [min(16, crops - i) for i in range(0, crops, 16)]  # as Keras weights its batches
    assert article_dice(sums) == pytest.approx(np.average(batches, weights=sizes), rel=1e-6)
    assert article_iou(sums) == pytest.approx(
        np.mean(the_articles_iou(probabilities, truth)), rel=1e-6
    )


def test_article_scores_of_an_empty_crop() -> None:
    empty = np.zeros((1, 8, 8), np.bool_)
    nothing = soft_sums(np.zeros((1, 8, 8), np.float32), empty)
    assert (article_dice(nothing), article_iou(nothing)) == (1, 1)
    everything = soft_sums(np.ones((1, 8, 8), np.float32), empty)
    assert (article_dice(everything), article_iou(everything)) == (1 / 65, 1 / 65)


def test_soft_sums_are_exact_where_float32_is_not() -> None:
    """16 million probabilities of a tenth: float32 would be off in the third digit."""
    tenth = np.full((1, 4096, 4096), 0.1, np.float32)
    predicted = soft_sums(tenth, np.zeros(tenth.shape, np.bool_))[0, 1]
    assert predicted == pytest.approx(float(np.float32(0.1)) * 4096**2, rel=1e-12)
