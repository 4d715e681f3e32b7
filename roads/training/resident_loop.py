"""Training on JAX with the crops on the device, and many steps per call.

Keras' `fit` copies a batch to the device for every step, and with a small net the GPU waits for the
next one. Here the packed crops stay on the device as uint8, and a compiled loop picks and augments
them, for many steps per call. Callbacks are called as by `fit` with `steps_per_execution`. The
order of the crops, their augmentation, the steps and the scores are those of `fit`, up to
floating-point rounding.
"""

import functools
import itertools
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roads.dataset.packs import IMAGE_CHANNELS
from roads.models.backend import backend_name, device_name, keras
from roads.runtime.errors import UserError
from roads.training.augment import Drawn, augment
from roads.training.batches import CropBatches
from roads.training.devices import Devices

STEPS = 64  # at most, per call
ROOM_SHARE = 0.5  # fraction of the device's memory for crops; the rest is for the net
READ_AHEAD = 2  # calls
CHUNK_SHARE = 1 / (READ_AHEAD + 2)  # fraction of that for the crops of one call

Loop = Literal["fit", "resident"]


def resolve_loop(loop: Literal["auto", "fit", "resident"], devices: Devices) -> Loop:
    """Replace `auto` by `resident` for JAX on one GPU, else by `fit`.

    Raises:
        UserError: `resident` is not possible here.
    """
    possible = backend_name() == "jax" and devices.count == 1
    if loop == "auto":
        return "resident" if possible and device_name() != "CPU" else "fit"
    if loop == "resident" and not possible:
        raise UserError(
            f"train.loop is resident, which needs JAX and one device, but this is {backend_name()} "
            f"on {devices.count}. Set KERAS_BACKEND=jax and train.devices=1, or train.loop=auto."
        )
    return loop


def device_room() -> int | None:
    """Bytes of the device's memory that crops may use; None if JAX does not report its size."""
    import jax

    statistics = jax.devices()[0].memory_stats()
    return int(statistics["bytes_limit"] * ROOM_SHARE) if statistics else None


def fit_resident(
    model: keras.Model,
    train: CropBatches,
    valid: CropBatches,
    *,
    epochs: int,
    initial_epoch: int,
    callbacks: Sequence[keras.callbacks.Callback],
    room: int | None = None,
) -> None:
    """Train a compiled net as `keras.Model.fit` does.

    If a callback acts before every batch, a call is a single step. (Callbacks with an attribute
    `between_calls` need to act only before every call.)

    Args:
        model: on the JAX backend.
        train, valid: the batches of training and of validation.
        epochs, initial_epoch, callbacks: as for `fit`.
        room: bytes that crops may use on the device. If they need more, those of each call are
            read while the previous call is computed.
    """
    every = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs)
    nothing = keras.callbacks.Callback.on_train_batch_begin
    one_by_one = any(
        type(callback).on_train_batch_begin is not nothing
        for callback in callbacks
        if not getattr(callback, "between_calls", False)
    )
    blank = np.zeros((1, train.pack.size, train.pack.size, IMAGE_CHANNELS + 1), np.uint8)
    # As at the start of `fit`: creates the variables of the metrics and the optimizer.
    model._symbolic_build(data_batch=(blank[..., :-1], blank[..., -1:]))
    judged = _Feed(valid, STEPS, room)
    if room is not None and judged.whole is not None:
        room -= judged.bytes
    fed = _Feed(train, 1 if one_by_one else STEPS, room)
    of_net = [model.trainable_variables, model.non_trainable_variables]
    of_training = [*of_net, model.optimizer.variables, model.metrics_variables]
    training = _Steps(model.train_step, of_training, fed)
    testing = _Steps(model.test_step, [*of_net, model.metrics_variables], judged)
    model.stop_training = False
    logs: dict[str, Any] = {}
    every.on_train_begin()
    for epoch in range(initial_epoch, epochs):
        model.reset_metrics()
        every.on_epoch_begin(epoch)
        training.run(
            every.on_train_batch_begin, every.on_train_batch_end, lambda: model.stop_training
        )
        logs = _scores(model)
        every.on_test_begin()
        model.reset_metrics()
        testing.run(every.on_test_batch_begin, every.on_test_batch_end)
        found = _scores(model)
        every.on_test_end(found)
        every.on_epoch_end(epoch, logs | {f"val_{name}": value for name, value in found.items()})
        if model.stop_training:
            break
    every.on_train_end(logs)


def _scores(model: keras.Model) -> dict[str, float]:
    """The epoch's loss and metrics; metrics with several values give each by its name."""
    scores: dict[str, float] = {}
    for name, value in model.get_metrics_result().items():
        values = value if isinstance(value, dict) else {name: value}
        scores |= {name: float(value) for name, value in values.items()}
    return scores


class _Call(NamedTuple):
    """Some steps with batches of one size.

    Attributes:
        rows: of the pack, step by step, padded with zeros: calls of equal length compile once.
        steps, batch: the number of steps, and of crops in each.
    """

    rows: NDArray[np.integer]
    steps: int
    batch: int


def _calls(order: NDArray[np.integer], batch: int, most: int) -> Iterator[_Call]:
    """Calls of at most `most` steps for all crops; the last may be one shorter batch."""
    whole = len(order) // batch
    most = min(most, whole)
    for first in range(0, whole, most or 1):
        steps = min(most, whole - first)
        rows = order[first * batch :][: steps * batch]
        yield _Call(np.pad(rows, (0, (most - steps) * batch)), steps, batch)
    if len(order) % batch:
        yield _Call(order[whole * batch :], 1, len(order) % batch)


class _Feed:
    """Provides the crops of every call: all stay on the device, or are read before each call.

    Attributes:
        bytes: size of all crops.
    """

    def __init__(self, batches: CropBatches, most: int, room: int | None):
        import jax

        self.put = jax.device_put
        self.batches, self.most = batches, most
        each = batches.pack.size**2 * (IMAGE_CHANNELS + 1)
        self.bytes = batches.count * each
        self.whole: tuple[Any, Any] | None = None
        if room is None or self.bytes <= room:
            self.whole = self._read(np.arange(batches.count))
        else:
            chunk = int(room * CHUNK_SHARE) // (each * batches.batch_size)
            self.most = max(1, min(most, chunk))

    def __iter__(self) -> Iterator[tuple[_Call, Any]]:
        """The calls of an epoch, each with the arguments of the compiled steps after the state."""
        calls = _calls(self.batches.order, self.batches.batch_size, self.most)
        if self.whole is not None:
            for call in calls:
                rows = call.rows % self.batches.count
                yield call, (*self.whole, rows, self.batches.drawn(call.rows))
            return
        with ThreadPoolExecutor(1) as reader:
            ahead: deque[Any] = deque()
            for some in itertools.chain(calls, [None] * READ_AHEAD):
                ahead.append((some, reader.submit(self._read, some.rows)) if some else None)
                if len(ahead) > READ_AHEAD:
                    call, crops = ahead.popleft()
                    rows = np.arange(len(call.rows))
                    yield call, (*crops.result(), rows, self.batches.drawn(call.rows))

    def _read(self, rows: NDArray[np.integer]) -> tuple[Any, Any]:
        batch = self.batches.read(rows)
        return self.put((batch.images, batch.masks))


class _Steps:
    """Keras' step for one batch, compiled as a loop over the batches of a call."""

    def __init__(
        self, step: Callable[..., Any], variables: Sequence[Sequence[Any]], feed: _Feed
    ) -> None:
        import jax

        self.step, self.variables, self.feed = step, variables, feed
        self.augmentation = feed.batches.augmentation
        self.compiled = jax.jit(self._loop, donate_argnums=0, static_argnums=3)

    def run(
        self,
        begin: Callable[[int], None],
        end: Callable[[int, Any], None],
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        """Compute all batches of an epoch.

        Args:
            begin, end: get the first and the last batch of each call, and `end` also the scores;
                both may read and change the model's variables.
            stopped: tells after each call whether to skip the rest.
        """
        done = 0
        for call, data in self.feed:
            begin(done)
            state, logs = self.compiled(self._values(), data, call.steps, call.batch)
            for group, values in zip(self.variables, state, strict=True):
                for variable, value in zip(group, values, strict=True):
                    variable.assign(value)
            done += call.steps
            end(done - 1, logs)
            if stopped():
                break

    def _values(self) -> list[list[Any]]:
        return [[variable.value for variable in group] for group in self.variables]

    def _loop(self, state: Any, data: Any, steps: Any, batch: int) -> Any:
        import jax
        from jax import lax

        images, masks, places, drawn = data

        def one(place: Any, carried: Any) -> Any:
            of_batch = functools.partial(
                lax.dynamic_slice_in_dim, start_index=place * batch, slice_size=batch
            )
            rows = of_batch(places)
            x, y = (jax.numpy.take(kind, rows, axis=0, mode="clip") for kind in (images, masks))
            if self.augmentation:
                x, y = augment(x, y, Drawn(*map(of_batch, drawn)), self.augmentation)
            before, _ = carried
            logs, after = self.step(before, (x, y))
            return jax.tree.map(lambda new, old: new.astype(old.dtype), list(after), before), logs

        _, logs = jax.eval_shape(one, 0, (state, None))
        nothing = jax.tree.map(lambda value: jax.numpy.zeros(value.shape, value.dtype), logs)
        return lax.fori_loop(0, steps, one, (state, nothing))
