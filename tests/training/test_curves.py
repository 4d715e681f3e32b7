from typing import Any

import numpy as np
import pytest

from roads.models.backend import keras
from roads.training.curves import kept_epoch, make_row, on_plateau, stops_early
from tests.packed import train_params


def test_a_row_has_the_scores_by_split() -> None:
    row = make_row(0, 0.5, {"loss": np.float32(0.25), "val_loss": 2, "val_dice": 3})
    assert row == {
        "epoch": 1, "learning_rate": 0.5, "train/loss": 0.25, "valid/loss": 2, "valid/dice": 3,
    }  # fmt: skip


def rows(monitor: str, values: list[float]) -> list[dict[str, float]]:
    return [{f"valid/{monitor}": value} for value in values]


def test_the_kept_epoch_is_the_first_of_the_best_or_the_last() -> None:
    assert kept_epoch(rows("loss", [3, 1, 1, 2]), train_params()) == 1
    assert kept_epoch(rows("iou", [1, 3, 3, 2]), train_params(monitor="iou")) == 1
    assert kept_epoch(rows("loss", [3, 1, 1, 2]), train_params(keep="last")) == 3


def test_other_schedules_have_no_plateau_and_minutes_no_early_stop() -> None:
    still = rows("loss", [1, 1, 1, 1, 1])
    assert on_plateau(still, train_params())
    assert not on_plateau(still, train_params(schedule="constant"))
    assert stops_early(still, train_params())
    assert not stops_early(still, train_params(early_stopping_patience=0))
    assert not stops_early(still, train_params(minutes=1, schedule="cosine"))


@pytest.mark.parametrize("monitor", ["loss", "dice"])
@pytest.mark.parametrize("patience", [1, 2, 3])
def test_the_decisions_are_those_of_keras_callbacks(monitor: str, patience: int) -> None:
    patiences = {"early_stopping_patience": patience, "plateau_patience": patience}
    recipe = train_params(monitor=monitor, plateau_min_delta=0.15, **patiences)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    mode: Any = {"mode": "min" if monitor == "loss" else "max", "patience": patience}
    for seed in range(5):
        values = [float(value) for value in np.random.default_rng(seed).random(12, np.float32)]
        model.compile(optimizer=keras.optimizers.SGD(1.0))
        model.stop_training = stopped = False
        stop = keras.callbacks.EarlyStopping(f"val_{monitor}", **mode)
        lower = keras.callbacks.ReduceLROnPlateau(f"val_{monitor}", min_delta=0.15, **mode)
        for callback in (stop, lower):
            callback.set_model(model)
            callback.on_train_begin()
        for epoch, value in enumerate(values):
            so_far = rows(monitor, values[: epoch + 1])
            before = float(model.optimizer.learning_rate)
            for callback in (stop, lower):
                callback.on_epoch_end(epoch, {f"val_{monitor}": value})
            assert on_plateau(so_far, recipe) == (float(model.optimizer.learning_rate) < before)
            stopped = stopped or stops_early(so_far, recipe)
            assert model.stop_training == stopped
