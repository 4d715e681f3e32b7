"""What happens around the epochs of a training, as Keras callbacks."""

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roads.averaging import AveragedWeights
from roads.backend import backend_name, keras
from roads.batches import CropBatches
from roads.devices import seed_replicas
from roads.errors import UserError
from roads.resume import Arrays, Backup, Progress
from roads.unet import layers_of

Row = dict[str, float]
Logs = dict[str, Any] | None
LOSS_CHECK = 16  # steps; looking at the loss makes the host wait for the device


def tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """Write TensorBoard's logs; nothing where Keras does not run on TensorFlow, which it needs."""
    if backend_name() != "tensorflow" or importlib.util.find_spec("tensorboard") is None:
        return []
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]


class EpochSeeds(keras.callbacks.Callback):
    """Sets the order of the crops and every dropout's seed from (seed, epoch) alone.

    Keras saves neither, so neither may depend on what ran before.
    """

    def __init__(self, train: CropBatches, seed: int):
        super().__init__()
        self.train, self.seed = train, seed

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.train.set_epoch(epoch)
        draw = np.random.default_rng([self.seed, epoch, 1])
        for layer in layers_of(self.model, keras.layers.Dropout):
            seed_replicas(layer.seed_generator.state, int(draw.integers(2**31)))


class FiniteLoss(keras.callbacks.Callback):
    """Raises a UserError where the loss is no longer a number."""

    def __init__(self) -> None:
        super().__init__()
        self.epoch = self.next_check = 0

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch, self.next_check = epoch, 0

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if batch >= self.next_check:
            self.next_check = batch + LOSS_CHECK
            self._check(logs)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self._check(logs)

    def _check(self, logs: Logs) -> None:
        for name, value in (logs or {}).items():
            if name in ("loss", "val_loss") and not math.isfinite(value):
                raise UserError(
                    f"epoch {self.epoch + 1}: the loss is {float(value)}, so training cannot go "
                    "on. Lower train.learning_rate, or try train.precision=float32."
                )


class Curves(keras.callbacks.Callback):
    """Adds a row to `rows` for each epoch: its number from 1, learning rate, and all scores.

    Keras' `loss` and `val_loss` become `train/loss` and `valid/loss`, and so on; the learning
    rate is that of the epoch's last step.
    """

    def __init__(self, rows: list[Row], on_epoch: Callable[[Row], None]):
        super().__init__()
        self.rows, self.on_epoch = rows, on_epoch

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        rate = keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)
        row = {"epoch": epoch + 1, "learning_rate": float(rate)}
        for name, value in (logs or {}).items():
            valid = name.startswith("val_")
            row[f"valid/{name[4:]}" if valid else f"train/{name}"] = float(value)
        self.rows.append(row)
        self.on_epoch(row)


def blindness(road_share: float) -> str | None:
    """What a model predicts that predicts the same everywhere; None for one that does not."""
    return {0.0: "no road at all", 1.0: "road everywhere"}.get(road_share)


class Console(keras.callbacks.Callback):
    """A line for each epoch, and a progress bar within it on a terminal."""

    def __init__(self, train: CropBatches, epochs: int):
        super().__init__()
        self.train, self.epochs = train, epochs

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.start = time.monotonic()
        title = f"epoch {epoch + 1}/{self.epochs}"
        self.bar = tqdm(
            desc=title, total=len(self.train), leave=False, disable=None, dynamic_ncols=True
        )

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.bar.update(batch + 1 - self.bar.n)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.bar.close()
        seconds = time.monotonic() - self.start
        values = logs or {}
        blind = blindness(float(values["val_road_share"]))
        print(
            f"epoch {epoch + 1}/{self.epochs}: loss {values['loss']:.4f}, "
            f"valid loss {values['val_loss']:.4f}, Dice {values['val_dice']:.3f}, "
            f"IoU {values['val_iou']:.3f}, {seconds:.1f} s"
            + (f"; it predicts {blind}" if blind else ""),
            flush=True,
        )


class BestEpoch(keras.callbacks.Callback):
    """Holds the weights of the best epoch by a monitored value, the first of equal ones.

    Keras' ModelCheckpoint would write them to a second file, which a kill can leave older or
    newer than the backup; here they are part of it.
    """

    def __init__(self, monitor: str, mode: str, averaged: AveragedWeights | None = None):
        """Watch `monitor`, best at its "min" or "max"; hold the averaged weights, if any."""
        super().__init__()
        self.monitor, self.sign = monitor, 1 if mode == "min" else -1
        self.averaged = averaged
        self.epoch = -1
        self.value = self.sign * math.inf
        self.weights: Arrays = []

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        assert logs is not None
        value = float(logs[self.monitor])
        if self.sign * value < self.sign * self.value:
            self.epoch, self.value = epoch, value
            self.weights = self.averaged.weights if self.averaged else self.model.get_weights()


class Keeper(keras.callbacks.Callback):
    """Writes the backup when an epoch ends, and takes a training back to where it stood.

    It comes last among the callbacks: what it saves must be what they have decided.
    """

    # What callbacks remember from epoch to epoch; Keras' own forget it when training begins.
    MEMORY = {  # noqa: RUF012
        "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
        "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
        "BestEpoch": ("epoch", "value"),
    }

    def __init__(
        self,
        backup: Backup,
        rows: list[Row],
        best: BestEpoch,
        others: list[keras.callbacks.Callback],
        epochs: int,
    ):
        super().__init__()
        self.backup, self.rows, self.best, self.epochs = backup, rows, best, epochs
        self.remembering = [c for c in (best, *others) if type(c).__name__ in self.MEMORY]
        self.progress: Progress | None = None

    @property
    def finished(self) -> bool:
        """Whether the last epoch is done, or early stopping has ended the training."""
        return self.progress is not None and self.progress.finished

    def load(self) -> None:
        """Take rows, counters and the best weights from the backup, if there is one."""
        self.progress = self.backup.load()
        if self.progress is not None:
            self.rows[:] = self.progress.rows
            self.best.weights = self.progress.best
            self._recall()

    def restore(self, model: keras.Model, *, new_optimizer: bool) -> None:
        """Take a compiled net back to its last finished epoch, if there is one.

        A new optimizer begins there, and takes over no more than the learning rate that a
        plateau has lowered.
        """
        if self.progress is None:
            return
        model.set_weights(self.progress.weights)
        values = self.progress.optimizer
        if new_optimizer:  # not built yet: a count of steps, then the rate, if that is a number
            variables = model.optimizer.variables[1:]
            values = values[1 : 1 + len(variables)]
        else:
            model.optimizer.build(model.trainable_variables)
            variables = model.optimizer.variables
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)

    def on_train_begin(self, logs: Logs = None) -> None:
        self._recall()

    def _recall(self) -> None:
        counters = self.progress.counters if self.progress else {}
        for callback in self.remembering:
            for name, value in counters.get(type(callback).__name__, {}).items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        counters = {
            type(callback).__name__: {
                name: getattr(callback, name) for name in self.MEMORY[type(callback).__name__]
            }
            for callback in self.remembering
        }
        variables = self.model.optimizer.variables
        self.progress = Progress(
            rows=self.rows,
            finished=self.model.stop_training or epoch + 1 == self.epochs,
            counters=counters,
            weights=self.model.get_weights(),
            optimizer=[variable.numpy() for variable in variables],
            best=self.best.weights,
        )
        self.backup.save(self.progress)
