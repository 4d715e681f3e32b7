"""Keras callbacks: seeds, interrupts, checks, timing, console output and backups."""

import importlib.util
import math
import shlex
import signal
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
from roads.training.curves import Row, kept_epoch, make_row, on_plateau, stops_early
from roads.training.results import Fitted
from roads.training.weight_averaging import AveragedWeights

Logs = dict[str, Any] | None
WARMUP_MOST = 0.1  # fraction of the time of a training limited by train.minutes
LOSS_CHECK = 16  # steps between checks; reading the loss makes the host wait for the device
MEASURED_STEPS = 10  # before the estimate of the training time
LONG = 3600  # seconds
SHORTER = (
    "fewer train.epochs; train.minutes=60 with train.schedule=cosine; without a GPU "
    "`roads run cpu`, or `roads run released`, which trains nothing"
)
SNAPSHOT_SECONDS = 15  # least time between two snapshots


def tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """A callback that writes TensorBoard logs, and the command to view them; TensorFlow only."""
    if backend_name() != "tensorflow" or importlib.util.find_spec("tensorboard") is None:
        return []
    print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(folder))}")
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]


class Interrupts(keras.callbacks.Callback):
    """Raises a lost Ctrl-C again after the next step.

    Python only prints a KeyboardInterrupt during a finalizer or a garbage collector callback, both
    of which JAX has.
    """

    pressed = False  # of the class, since signals belong to the process

    def on_train_begin(self, logs: Logs = None) -> None:
        Interrupts.pressed = False
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, _interrupt)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if Interrupts.pressed:
            raise KeyboardInterrupt


def _interrupt(*_: object) -> None:
    Interrupts.pressed = True
    raise KeyboardInterrupt


class EpochSeeds(keras.callbacks.Callback):
    """Sets the order of the crops and every dropout seed from (seed, epoch) only.

    Keras saves neither, so neither may depend on earlier epochs.
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
    """Raises a UserError if the loss is not finite."""

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
                    f"epoch {self.epoch + 1}: the loss is {float(value)}, so training cannot "
                    "continue. Lower train.learning_rate, or try train.precision=float32."
                )


class Clock(keras.callbacks.Callback):
    """Counts steps and seconds, including those of killed runs.

    Attributes:
        steps: so far.
        elapsed: seconds up to the last finished epoch.
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
    """Makes the learning rate follow the time, and ends training after `train.minutes`.

    The rate is set before each step, or before each call of `fit_resident`, which takes many
    steps. It rises linearly from 0 over the warm-up, or a tenth of the time if that is shorter;
    `cosine` is that of Loshchilov and Hutter 2017, *SGDR*, equation 5, down to 0.
    """

    between_calls = True

    def __init__(self, recipe: TrainParams, warmup: int):
        super().__init__()
        assert recipe.minutes is not None
        self.recipe, self.warmup, self.seconds = recipe, warmup, 60 * recipe.minutes

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        step, passed = self.epoch_start + batch, self._passed()
        rate = self.recipe.learning_rate
        rate *= min(1, max((step + 1) / (self.warmup + 1), passed / WARMUP_MOST))
        if self.recipe.schedule == "cosine":
            rate *= (1 + math.cos(math.pi * min(passed, 1))) / 2
        self.model.optimizer.learning_rate = np.float32(rate)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        super().on_train_batch_end(batch)
        if self._passed() >= 1:
            self.model.stop_training = True

    def _passed(self) -> float:
        return (time.monotonic() - self.start) / self.seconds


def blindness(road_fraction: float) -> str | None:
    """The prediction of a net that predicts the same everywhere; None for any other net."""
    return {0.0: "no road at all", 1.0: "road everywhere"}.get(road_fraction)


def _told_time(seconds: float) -> str:
    """Format seconds, for example 5 s, 12 min or 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < LONG else f"{seconds / 3600:.1f} h"


def _wait_for_device(logs: Logs) -> None:
    float((logs or {}).get("loss", 0.0))


class Console(keras.callbacks.Callback):
    """Prints a line per epoch, and on a terminal a progress bar within it.

    At the start it reports that the net is being compiled, how long the first steps took (mostly
    compilation), and how long training will take.
    """

    def __init__(self, train: CropBatches, epochs: int | None):
        """Number the epochs 1/`epochs` and so on, or 1, 2, … if their number is unknown."""
        super().__init__()
        self.train, self.epochs, self.of = train, epochs, f"/{epochs}" if epochs else ""
        self.compiled = self.estimated = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self.compiled:
            print("compiling the net; the first steps can take a minute", flush=True)
        self.epoch = epoch
        self.start = self.steady = time.monotonic()
        self.done = self.first = 0
        self.bar = tqdm(
            desc=f"epoch {epoch + 1}{self.of}", total=len(self.train), leave=False, disable=None,
            dynamic_ncols=True,
        )  # fmt: skip

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        if not self.compiled:
            self.compiled = True
            _wait_for_device(logs)
            self.first, self.steady = batch + 1, time.monotonic()
            seconds = self.steady - self.start
            print(f"the first steps took {seconds:.1f} s, most of it compilation", flush=True)
        elif not self.estimated and batch + 1 - self.first >= MEASURED_STEPS:
            _wait_for_device(logs)
            self._estimate(batch + 1)
        self.bar.update(batch + 1 - self.done)
        self.done = batch + 1

    def _estimate(self, done: int) -> None:
        """Estimate the remaining time from this epoch's steps after the first."""
        self.estimated = True
        if self.epochs is None:
            return
        step = (time.monotonic() - self.steady) / (done - self.first)
        steps = (self.epochs - self.epoch) * len(self.train) - done
        print(
            f"training takes at most {_told_time(steps * step)} more ({steps:,} steps of "
            f"{step:.2g} s), plus validation",
            flush=True,
        )
        if steps * step > LONG:
            print(f"shorter: {SHORTER}", flush=True)

    def on_test_begin(self, logs: Logs = None) -> None:
        if not self.estimated and self.done > self.first:
            self._estimate(self.done)
        crops = (self.done - self.first) * self.train.batch_size
        speed = crops / max(time.monotonic() - self.steady, 1e-9)
        self.speed = f", {speed:.0f} crops/s" if crops else ""

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        self.bar.close()
        seconds = time.monotonic() - self.start
        values = logs or {}
        blind = blindness(float(values["val_road_fraction"]))
        print(
            f"epoch {epoch + 1}{self.of}: loss {values['loss']:.4f}, Dice {values['dice']:.3f}, "
            f"valid loss {values['val_loss']:.4f}, Dice {values['val_dice']:.3f}, "
            f"IoU {values['val_iou']:.3f}, {seconds:.1f} s{self.speed}"
            + (f"; predicts {blind}" if blind else ""),
            flush=True,
        )


class Keeper(keras.callbacks.Callback):
    """After each epoch, adds its row to the curves, decides how to continue, and saves a backup.

    The backup includes the weights of the best epoch. (Keras' ModelCheckpoint would write them to
    a second file, which a kill can leave older or newer than the backup.) `snapshot` gets the
    weights that the epoch was validated with, after the last epoch and every SNAPSHOT_SECONDS.

    Attributes:
        progress: the state of the training, at first that of the backup.
    """

    def __init__(
        self,
        backup: Backup,
        recipe: TrainParams,
        epochs: int,
        clock: Clock,
        averaged: AveragedWeights | None,
        on_epoch: Callable[[Row], None],
        snapshot: Callable[[Arrays, Fitted], None] | None,
    ):
        super().__init__()
        self.backup, self.recipe, self.epochs, self.clock = backup, recipe, epochs, clock
        self.averaged, self.on_epoch, self.snapshot = averaged, on_epoch, snapshot
        self.last_snapshot = -math.inf
        self.progress = backup.load() or Progress()
        clock.steps, clock.elapsed = self.progress.steps, self.progress.seconds

    def restore(self, model: keras.Model, *, new_optimizer: bool) -> None:
        """Restore a compiled net to its last finished epoch, if there is one.

        A new optimizer starts from there; it keeps only the learning rate that a plateau lowered.
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

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        rows, optimizer = self.progress.rows, self.model.optimizer
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        rows.append(make_row(epoch, rate, logs or {}))
        self.on_epoch(rows[-1])
        if stops_early(rows, self.recipe):
            self.model.stop_training = True
        if on_plateau(rows, self.recipe):
            optimizer.learning_rate = rate * self.recipe.plateau_factor
        finished = self.model.stop_training or epoch + 1 == self.epochs
        weights = self.model.get_weights()
        validated = self.averaged.weights if self.averaged else weights
        due = finished or time.monotonic() - self.last_snapshot >= SNAPSHOT_SECONDS
        if self.snapshot and due:
            self.snapshot(validated, Fitted(rows, rows[-1], self.clock.steps))
            self.last_snapshot = time.monotonic()
        self.progress = Progress(
            rows=rows,
            finished=finished,
            steps=self.clock.steps,
            seconds=self.clock.elapsed,
            weights=weights,
            optimizer=[variable.numpy() for variable in optimizer.variables],
            best=validated if kept_epoch(rows, self.recipe) == epoch else self.progress.best,
        )
        self.backup.save(self.progress)
