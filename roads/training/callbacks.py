"""What happens around the epochs of a training, as Keras callbacks."""

import importlib.util
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from roads.models.backend import backend_name, keras
from roads.models.unet import layers_of
from roads.params.train import TrainParams
from roads.runtime.errors import UserError
from roads.training.backup import Arrays, Backup, Progress
from roads.training.batches import CropBatches
from roads.training.curves import Row
from roads.training.optimizer import best_epoch, timed_rate
from roads.training.results import Fitted
from roads.training.weight_averaging import AveragedWeights

Logs = dict[str, Any] | None
LOSS_CHECK = 16  # steps; looking at the loss makes the host wait for the device
SNAPSHOT_SECONDS = 15  # at least, between two snapshots


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
            layer.seed_generator.state.assign(np.array([draw.integers(2**31), 0], np.uint32))


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


class Clock(keras.callbacks.Callback):
    """Counts steps and seconds, those of runs that were killed too.

    Attributes:
        steps: made so far.
        elapsed: seconds so far, up to the last finished epoch.
    """

    def __init__(self) -> None:
        super().__init__()
        self.steps, self.elapsed = 0, 0.0
        self.epoch_start = 0

    def on_train_begin(self, logs: Logs = None) -> None:
        self.start = time.monotonic() - self.elapsed

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.epoch_start = self.steps

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        self.steps = self.epoch_start + batch + 1

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.elapsed = time.monotonic() - self.start


class TimedRate(Clock):
    """Has the learning rate follow the time, and ends the training when `train.minutes` are over.

    The rate is set before each step, or before each call where `fit_resident` takes many steps in
    one.
    """

    between_calls = True

    def __init__(self, recipe: TrainParams, warmup: int):
        super().__init__()
        assert recipe.minutes is not None
        self.recipe, self.warmup, self.seconds = recipe, warmup, 60 * recipe.minutes

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        rate = timed_rate(self.recipe, self._passed(), self.epoch_start + batch, self.warmup)
        self.model.optimizer.learning_rate = np.float32(rate)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        super().on_train_batch_end(batch)
        if self._passed() >= 1:
            self.model.stop_training = True

    def _passed(self) -> float:
        return (time.monotonic() - self.start) / self.seconds


class Curves(keras.callbacks.Callback):
    """Adds a row to `rows` for each epoch: its number from 1, learning rate, and all scores.

    Keras' `loss` and `val_loss` become `train/loss` and `valid/loss`, and so on; the learning rate
    is that of the epoch's last step. `on_epoch` gets the row.
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
    """What a net predicts that predicts the same everywhere; None for any other net."""
    return {0.0: "no road at all", 1.0: "road everywhere"}.get(road_share)


class Console(keras.callbacks.Callback):
    """Prints a line for each epoch, and on a terminal a progress bar within it.

    The first line tells how long the first steps took. That is mostly compilation, which the speed
    in the lines after it leaves out.
    """

    def __init__(self, train: CropBatches, epochs: int | None):
        """Number the epochs 1/`epochs` and so on, or 1, 2, … where their number is not known."""
        super().__init__()
        self.train, self.of = train, f"/{epochs}" if epochs else ""
        self.compiled = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        self.start = self.steady = time.monotonic()
        self.done = self.first = 0
        self.bar = tqdm(
            desc=f"epoch {epoch + 1}{self.of}", total=len(self.train), leave=False, disable=None,
            dynamic_ncols=True,
        )  # fmt: skip

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self.compiled:
            self.compiled = True
            float((logs or {}).get("loss", 0.0))  # waits for the device
            self.first, self.steady = batch + 1, time.monotonic()
            seconds = self.steady - self.start
            print(f"the first steps took {seconds:.1f} s, most of it to compile", flush=True)
        self.bar.update(batch + 1 - self.done)
        self.done = batch + 1

    def on_test_begin(self, logs: Logs = None) -> None:
        crops = (self.done - self.first) * self.train.batch_size
        speed = crops / max(time.monotonic() - self.steady, 1e-9)
        self.speed = f", {speed:.0f} crops/s" if crops else ""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.bar.close()
        seconds = time.monotonic() - self.start
        values = logs or {}
        blind = blindness(float(values["val_road_share"]))
        print(
            f"epoch {epoch + 1}{self.of}: loss {values['loss']:.4f}, Dice {values['dice']:.3f}, "
            f"valid loss {values['val_loss']:.4f}, Dice {values['val_dice']:.3f}, "
            f"IoU {values['val_iou']:.3f}, {seconds:.1f} s{self.speed}"
            + (f"; it predicts {blind}" if blind else ""),
            flush=True,
        )


class Keeper(keras.callbacks.Callback):
    """Keeps what a killed training resumes from, and the weights of the best epoch.

    (Keras' ModelCheckpoint would write the best weights to a second file, which a kill can leave
    older or newer than the backup.) It also hands the weights that an epoch was validated with to
    `snapshot`, after the last epoch and every SNAPSHOT_SECONDS.

    It comes last among the callbacks: what it saves must be what they have decided.

    Attributes:
        progress: where the training stands, at first what the backup holds.
    """

    # What callbacks remember from epoch to epoch; Keras' own forget it when training begins.
    MEMORY = {  # noqa: RUF012
        "EarlyStopping": ("wait", "best", "best_epoch", "stopped_epoch"),
        "ReduceLROnPlateau": ("wait", "best", "cooldown_counter"),
        "Clock": ("steps", "elapsed"),
        "TimedRate": ("steps", "elapsed"),
    }

    def __init__(
        self,
        backup: Backup,
        recipe: TrainParams,
        epochs: int,
        clock: Clock,
        others: list[keras.callbacks.Callback],
        averaged: AveragedWeights | None,
        snapshot: Callable[[Arrays, Fitted], None] | None,
    ):
        super().__init__()
        self.backup, self.recipe, self.epochs, self.clock = backup, recipe, epochs, clock
        self.averaged, self.snapshot = averaged, snapshot
        self.last_snapshot = -math.inf
        self.remembering = [c for c in (clock, *others) if type(c).__name__ in self.MEMORY]
        self.progress = backup.load() or Progress()
        self._recall()

    def restore(self, model: keras.Model, *, new_optimizer: bool) -> None:
        """Take a compiled net back to its last finished epoch, if there is one.

        A new optimizer begins there, and takes over no more than the learning rate that a
        plateau has lowered.
        """
        if not self.progress.rows:
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
        for callback in self.remembering:
            for name, value in self.progress.counters.get(type(callback).__name__, {}).items():
                setattr(callback, name, value)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        rows, weights = self.progress.rows, self.model.get_weights()
        validated = self.averaged.weights if self.averaged else weights
        finished = self.model.stop_training or epoch + 1 == self.epochs
        due = finished or time.monotonic() - self.last_snapshot >= SNAPSHOT_SECONDS
        if self.snapshot and due:
            self.snapshot(validated, Fitted(rows, rows[-1], self.clock.steps))
            self.last_snapshot = time.monotonic()
        self.progress = Progress(
            rows=rows,
            finished=finished,
            counters={
                type(callback).__name__: {
                    name: getattr(callback, name) for name in self.MEMORY[type(callback).__name__]
                }
                for callback in self.remembering
            },
            weights=weights,
            optimizer=[variable.numpy() for variable in self.model.optimizer.variables],
            best=validated if best_epoch(rows, self.recipe) == epoch else self.progress.best,
        )
        self.backup.save(self.progress)
