"""What happens around the epochs of a training, as Keras callbacks."""

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
WARMUP_MOST = 0.1  # of the time of a training whose length is given in minutes
LOSS_CHECK = 16  # steps; looking at the loss makes the host wait for the device
MEASURED_STEPS = 10  # before it is told how long a training will take
LONG = 3600  # seconds
SHORTER = (
    "fewer train.epochs; train.minutes=60 with train.schedule=cosine; without a GPU "
    "`roads run cpu`, or `roads run released`, which trains nothing"
)
SNAPSHOT_SECONDS = 15  # at least, between two snapshots


def tensorboard(folder: Path) -> list[keras.callbacks.Callback]:
    """Write TensorBoard's logs, and say how to see them; it needs Keras on TensorFlow."""
    if backend_name() != "tensorflow" or importlib.util.find_spec("tensorboard") is None:
        return []
    print(f"TensorBoard: tensorboard --logdir {shlex.quote(str(folder))}")
    return [keras.callbacks.TensorBoard(folder, write_graph=False)]


class Interrupts(keras.callbacks.Callback):
    """Raises a Ctrl-C that was lost after the next step.

    Python prints and forgets one that comes while it runs a finalizer or a callback of the garbage
    collector, as JAX has them.
    """

    pressed = False  # of the process: signals know no training

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
    one. It rises linearly from 0 over the warm-up, or a tenth of the time if that is shorter;
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
    """What a net predicts that predicts the same everywhere; None for any other net."""
    return {0.0: "no road at all", 1.0: "road everywhere"}.get(road_fraction)


def _told_time(seconds: float) -> str:
    """For example 5 s, 12 min or 3.4 h."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < LONG else f"{seconds / 3600:.1f} h"


def _wait_for_device(logs: Logs) -> None:
    float((logs or {}).get("loss", 0.0))


class Console(keras.callbacks.Callback):
    """Prints a line for each epoch, and on a terminal a progress bar within it.

    Before these it says that the net is being compiled, how long the first steps took (most of it
    is compilation), and how long the training will take.
    """

    def __init__(self, train: CropBatches, epochs: int | None):
        """Number the epochs 1/`epochs` and so on, or 1, 2, … where their number is not known."""
        super().__init__()
        self.train, self.epochs, self.of = train, epochs, f"/{epochs}" if epochs else ""
        self.compiled = self.estimated = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        if not self.compiled:
            print("compiling the net; its first steps can take a minute", flush=True)
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
            print(f"the first steps took {seconds:.1f} s, most of it to compile", flush=True)
        elif not self.estimated and batch + 1 - self.first >= MEASURED_STEPS:
            _wait_for_device(logs)
            self._estimate(batch + 1)
        self.bar.update(batch + 1 - self.done)
        self.done = batch + 1

    def _estimate(self, done: int) -> None:
        """Tell how long the rest takes, going by the steps of this epoch after the first."""
        self.estimated = True
        if self.epochs is None:
            return
        step = (time.monotonic() - self.steady) / (done - self.first)
        steps = (self.epochs - self.epoch) * len(self.train) - done
        print(
            f"training takes at most {_told_time(steps * step)} more ({steps:,} steps of "
            f"{step:.2g} s), validation not counted",
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
            + (f"; it predicts {blind}" if blind else ""),
            flush=True,
        )


class Keeper(keras.callbacks.Callback):
    """At the end of an epoch adds its row to the curves, decides how to go on, and saves that.

    The backup holds the weights of the best epoch, too. (Keras' ModelCheckpoint would write them
    to a second file, which a kill can leave older or newer than the backup.) `snapshot` gets the
    weights that the epoch was validated with, after the last epoch and every SNAPSHOT_SECONDS.

    Attributes:
        progress: where the training stands, at first what the backup holds.
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
