"""The optimizer, how its learning rate moves, and which epochs count as progress."""

import math
from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.params.train import TrainParams
from roads.training.curves import Row

SPARED = ["bias", "gamma", "beta"]  # weight decay would only pull these off centre
WARMUP_MOST = 0.1  # of the time of a training whose length is given in minutes
MONITORS = {"loss": ("val_loss", "min"), "dice": ("val_dice", "max"), "iou": ("val_iou", "max")}


def make_optimizer(recipe: TrainParams, rate: Any) -> keras.optimizers.Optimizer:
    """Keras' Adam or AdamW, with clipped gradients and averaged weights where asked for.

    Args:
        recipe: optimizer, weight_decay, clip_norm, ema.
        rate: from `learning_rate`.
    """
    settings: dict[str, Any] = {}
    if recipe.clip_norm > 0:
        settings["global_clipnorm"] = recipe.clip_norm
    if recipe.ema > 0:
        settings |= {"use_ema": True, "ema_momentum": recipe.ema}
    if recipe.optimizer == "adam":
        return keras.optimizers.Adam(rate, **settings)
    adamw = keras.optimizers.AdamW(rate, weight_decay=recipe.weight_decay, **settings)
    adamw.exclude_from_weight_decay(var_names=SPARED)
    return adamw


def warmup_steps(recipe: TrainParams, epoch_steps: int) -> int:
    """How many steps the learning rate takes to rise from 0."""
    return round(recipe.warmup_epochs * epoch_steps)


class Later(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule from a later step on."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int):
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: Any) -> Any:
        return self.schedule(step + self.steps)


def learning_rate(recipe: TrainParams, epoch_steps: int, first_epoch: int = 0) -> Any:
    """What the optimizer takes for a rate: a number, or a schedule over all the steps.

    `cosine` falls to 0 at the last step. It is a number where callbacks set it: for `plateau`
    (whose warm-up is `WarmUp`), and in a training for so many minutes (`timed_rate`). A schedule
    goes on from `first_epoch` (counted from 0), as an optimizer that begins there counts its steps
    from 0.
    """
    rate, warmup = recipe.learning_rate, warmup_steps(recipe, epoch_steps)
    steps = recipe.epochs * epoch_steps
    schedules = keras.optimizers.schedules
    if recipe.minutes is not None or recipe.schedule == "plateau":
        return rate
    if recipe.schedule == "constant":
        if warmup == 0:
            return rate
        schedule = schedules.PolynomialDecay(0.0, decay_steps=warmup, end_learning_rate=rate)
    elif warmup == 0:
        schedule = schedules.CosineDecay(rate, steps)
    else:
        schedule = schedules.CosineDecay(
            0.0, steps - warmup, warmup_target=rate, warmup_steps=warmup
        )
    return Later(schedule, first_epoch * epoch_steps) if first_epoch > 0 else schedule


def timed_rate(recipe: TrainParams, passed: float, step: int, warmup: int) -> float:
    """The learning rate when a fraction `passed` of `train.minutes` is over.

    `cosine` is that of Loshchilov and Hutter 2017, *SGDR*, equation 5, down to 0.

    Args:
        recipe: learning_rate, schedule.
        passed: 0 to 1 and more.
        step: how many were made.
        warmup: over so many steps, or a tenth of the time if that is shorter, the rate rises
            linearly from 0.
    """
    rate = recipe.learning_rate * min(1, max((step + 1) / (warmup + 1), passed / WARMUP_MOST))
    if recipe.schedule == "cosine":
        rate *= (1 + math.cos(math.pi * min(passed, 1))) / 2
    return rate


class WarmUp(keras.callbacks.Callback):
    """Raises the learning rate linearly, from 0 at the first step to `rate` at step `steps`."""

    def __init__(self, rate: float, steps: int, epoch_steps: int):
        super().__init__()
        self.rate, self.steps, self.epoch_steps = rate, steps, epoch_steps
        self.done = 0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.done = epoch * self.epoch_steps

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        step = self.done + batch
        if step <= self.steps:
            self.model.optimizer.learning_rate = np.float32(self.rate * step / self.steps)


def best_epoch(rows: list[Row], recipe: TrainParams) -> int:
    """Which row is the best by `train.monitor`, the first of equal ones; the last by `train.keep`.

    Args:
        rows: the curves, at least one row.
        recipe: monitor, keep.
    """
    if recipe.keep == "last":
        return len(rows) - 1
    values = [row[f"valid/{recipe.monitor}"] for row in rows]
    return values.index(min(values) if recipe.monitor == "loss" else max(values))


def progress_callbacks(recipe: TrainParams, epoch_steps: int) -> list[keras.callbacks.Callback]:
    """Early stopping and the schedule `plateau`, both by `train.monitor`.

    Training stops after `early_stopping_patience` epochs in a row without a better value, unless
    that is 0 or `train.minutes` ends it. After `plateau_patience` epochs without progress by more
    than `plateau_min_delta` the learning rate is multiplied by `plateau_factor`.
    """
    monitor, mode = MONITORS[recipe.monitor]
    callbacks: list[keras.callbacks.Callback] = []
    patience, warmup = recipe.early_stopping_patience, warmup_steps(recipe, epoch_steps)
    if patience > 0 and recipe.minutes is None:
        callbacks.append(keras.callbacks.EarlyStopping(monitor, patience=patience, mode=mode))
    if recipe.schedule == "plateau":
        lower = keras.callbacks.ReduceLROnPlateau(
            monitor,
            mode=mode,
            factor=recipe.plateau_factor,
            patience=recipe.plateau_patience,
            min_delta=recipe.plateau_min_delta,
        )
        callbacks.append(lower)
        if warmup > 0:
            callbacks.append(WarmUp(recipe.learning_rate, warmup, epoch_steps))
    return callbacks
