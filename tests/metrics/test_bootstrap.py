"""Intervals over tiles, against a loop that draws them one by one."""

import numpy as np
import pytest

from roads.metrics.bootstrap import dice_interval, mean_interval
from roads.metrics.counts import Counts


def some_tiles(count: int, seed: int = 0) -> list[Counts]:
    draw = np.random.default_rng(seed)
    return [Counts(*(int(n) for n in draw.integers(100, 9000, 3))) for _ in range(count)]


def pooled(tiles: list[Counts]) -> Counts:
    return Counts(*np.sum(tiles, axis=0))


def test_agrees_with_a_loop_over_draws() -> None:
    tiles = some_tiles(12)
    draw = np.random.default_rng(99)
    dice = []
    for _ in range(5000):
        drawn = [tiles[index] for index in draw.integers(0, len(tiles), len(tiles))]
        dice.append(pooled(drawn).dice)
    low, high = dice_interval(tiles)
    assert low == pytest.approx(np.quantile(dice, 0.025), abs=0.01)
    assert high == pytest.approx(np.quantile(dice, 0.975), abs=0.01)
    assert low < pooled(tiles).dice < high


def test_intervals_repeat_and_narrow_with_more_tiles() -> None:
    assert dice_interval(some_tiles(5)) == dice_interval(some_tiles(5))
    few, many = (dice_interval(some_tiles(count)) for count in (5, 200))
    assert many[1] - many[0] < few[1] - few[0]


def test_one_tile_and_tiles_without_road() -> None:
    tile = Counts(30, 10, 20)
    assert dice_interval([tile]) == (tile.dice, tile.dice)
    half, nothing = (
        Counts(500, 300, 300),
        Counts(0, 0, 0),
    )  # draws of nothing but the second have no Dice
    assert dice_interval([half, nothing]) == (0.625, 0.625)


def test_a_mean_agrees_with_the_normal_distribution_of_means() -> None:
    values = np.random.default_rng(0).random(200)
    low, high = mean_interval(values.tolist())
    error = 1.96 * values.std() / np.sqrt(len(values))
    assert (low, high) == pytest.approx((values.mean() - error, values.mean() + error), abs=2e-3)
    assert mean_interval([0.25]) == (0.25, 0.25)
