"""The optimizer and its learning rate schedule."""

from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.params.train import TrainParams

SPARED = ["bias", "gamma", "beta"]  # not subject to weight decay, which would only bias them


def make_optimizer(recipe: TrainParams, rate: Any) -> keras.optimizers.Optimizer:
    """Keras' Adam or AdamW, with gradient clipping and weight averaging if configured.

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
    """The number of warm-up steps, in which the learning rate rises from 0."""
    return round(recipe.warmup_epochs * epoch_steps)


class Later(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that starts at a later step."""

    def __init__(self, schedule: keras.optimizers.schedules.LearningRateSchedule, steps: int):
        self.schedule, self.steps = schedule, steps

    def __call__(self, step: Any) -> Any:
        return self.schedule(step + self.steps)


def learning_rate(recipe: TrainParams, epoch_steps: int, first_epoch: int = 0) -> Any:
    """The learning rate for the optimizer: a number, or a schedule over all steps.

    `cosine` falls to 0 at the last step. The rate is a number if callbacks change it: for `plateau`
    (`WarmUp`, `Keeper`), and with `train.minutes` (`TimedRate`). A schedule starts at `first_epoch`
    (counted from 0), since a new optimizer counts its steps from 0.
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
