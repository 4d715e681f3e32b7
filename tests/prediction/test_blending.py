"""Overlapping windows: what they cover, what they weigh, and that they leave no trace."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roads.prediction.blending import (
    Float32,
    Windows,
    all_turns,
    blend_weights,
    predict_rows,
    predict_tile,
    spread_starts,
)
from roads.runtime.arrays import Image8

SHAPES = [(64, 64), (97, 130), (130, 97), (20, 130), (130, 20), (31, 17), (1, 1), (1, 70)]


def brightness(windows: Image8) -> Float32:
    """A net that sees single pixels, so that where a window lies makes no difference to it."""
    return (windows.mean(axis=3) / 255).astype(np.float32)


def picture(height: int, width: int) -> Image8:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("overlap", [0, 8, 24])
@pytest.mark.parametrize("batch", [1, 5, 100])
def test_a_net_that_sees_single_pixels_is_reproduced(
    shape: tuple[int, int], overlap: int, batch: int
) -> None:
    image = picture(*shape)
    probability = predict_tile(brightness, image, Windows(32, overlap, batch))
    assert probability.shape == shape
    assert probability.dtype == np.float32
    np.testing.assert_allclose(probability, brightness(image[None])[0], atol=2e-7)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("value", [0.0, 0.3, 1.0])
def test_a_constant_stays_constant_and_a_probability(shape: tuple[int, int], value: float) -> None:
    def constant(windows: Image8) -> Float32:
        return np.full(windows.shape[:3], value, np.float32)

    probability = predict_tile(constant, picture(*shape), Windows(32, 7, 4))
    np.testing.assert_allclose(probability, value, atol=2e-7)
    assert probability.max() <= 1


@given(st.integers(1, 300), st.integers(2, 64), st.data())
@settings(deadline=None)
def test_windows_cover_a_side_evenly_with_weights_that_sum_to_one(
    length: int, size: int, data: st.DataObject
) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    starts = spread_starts(length, size, overlap)
    assert starts[0] == 0
    assert starts[-1] == max(0, length - size)
    steps = {after - before for before, after in itertools.pairwise(starts)}
    assert all(0 < step <= size - overlap for step in steps)
    assert not steps or max(steps) - min(steps) <= 1
    total = np.zeros(starts[-1] + size)
    for start, weights in zip(starts, blend_weights(starts, size), strict=True):
        assert (weights > 0).all()  # at the borders of the picture too
        total[start : start + size] += weights
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_weights_decrease_towards_the_edge_of_a_window() -> None:
    first, middle, last = blend_weights([0, 12, 24], 16)
    assert (first[:12] == 1).all()
    assert (np.diff(first[12:]) < 0).all()
    assert (np.diff(middle[:4]) > 0).all()
    assert (last == first[::-1]).all()


def test_seams_are_blended_away() -> None:
    """A net that is wrong near its window's edge is outvoted there by the other window."""

    def worse_at_the_edge(windows: Image8) -> Float32:
        probability = np.ones(windows.shape[:3], np.float32)
        probability[:, :2] = probability[:, -2:] = 0
        probability[:, :, :2] = probability[:, :, -2:] = 0
        return probability

    probability = predict_tile(worse_at_the_edge, picture(96, 96), Windows(32, 16, 4))
    assert probability[2:-2, 2:-2].min() > 0.7


def test_rows_are_returned_when_finished_and_read_only_where_needed() -> None:
    image = picture(200, 50)
    asked: list[tuple[int, int]] = []

    def read_rows(top: int, end: int) -> Image8:
        asked.append((top, end))
        return image[top:end]

    rows = predict_rows(brightness, read_rows, 200, 50, Windows(32, 8, 3))
    first = next(rows)
    assert len(first) <= 24
    assert asked[0] == (0, 32)
    assert max(end for _, end in asked) < 200
    whole = np.concatenate([first, *rows])
    np.testing.assert_array_equal(whole, predict_tile(brightness, image, Windows(32, 8, 3)))
    assert all(end - top == 32 for top, end in asked)
    assert asked[-1][1] == 200


def leaning(windows: Image8) -> Float32:
    """A net that prefers one direction: it answers with the pixel to the left and above."""
    return np.roll(brightness(windows), (1, 2), axis=(1, 2))


@pytest.mark.parametrize("turns", [1, 2, 3])
@pytest.mark.parametrize("flip", [False, True])
def test_with_all_turns_prediction_commutes_with_turns(turns: int, flip: bool) -> None:
    image = picture(80, 80)  # windows at 0, 24 and 48: the same from either end
    turned = np.rot90(image[:, ::-1] if flip else image, turns)
    windows = Windows(32, 8, 4)

    def difference(predict: object) -> float:
        whole, other = (predict_tile(predict, each, windows) for each in (image, turned))  # type: ignore[arg-type]
        expected = np.rot90(whole[:, ::-1] if flip else whole, turns)
        return float(np.abs(other - expected).max())

    assert difference(leaning) > 0.1
    assert difference(all_turns(leaning)) < 1e-6


def test_all_turns_are_eight_different_ones() -> None:
    seen = set()

    def remember(windows: Image8) -> Float32:
        seen.add(windows.tobytes())
        return brightness(windows)

    image = picture(8, 8)
    probability = all_turns(remember)(image[None])
    assert len(seen) == 8
    np.testing.assert_allclose(probability[0], brightness(image[None])[0], atol=1e-6)
