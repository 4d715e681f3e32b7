"""Predicts road probabilities with a trained model."""

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roads.dataset.packs import PackReader
from roads.models.backend import backend_name, keras
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import UserError
from roads.runtime.progress import progress

AHEAD = 2  # batches sent to the device before waiting for the result of the first
SEVERAL = 8  # batches read and predicted together

# TensorFlow gives oneDNN the kernels of a batch of one in a layout for which it has no fast
# convolution with AVX2 (tensorflow#62646): a window of 512 pixels then takes ten times as long.
SMALLEST = 2


class Predictor:
    """Predicts with a model that is compiled for few shapes: a short batch is padded.

    It is padded to a power of two, so that a small picture does not cost a whole batch, and with
    TensorFlow to two pictures at least. With JAX the next batches are sent to the device while one
    is computed.

    Args:
        model: takes (n, height, width, 3) uint8, scales them itself, and gives (n, height,
            width, 1) probabilities of road.
        batch_size: crops in a batch; more need more memory.
    """

    def __init__(self, model: keras.Model, batch_size: int):
        self.batch_size = batch_size
        jax = backend_name() == "jax"
        self._smallest = 1 if jax else SMALLEST
        self._predict = _dispatch(model) if jax else model.predict_on_batch

    def __call__(self, images: Image8) -> Float32:
        """Predict any number of pictures.

        Args:
            images: (n, height, width, 3) uint8; height and width are the same in every call, and
                accepted by the model.

        Returns:
            (n, height, width) float32, from 0 to 1.

        Raises:
            UserError: the model predicts NaN.
        """
        probabilities = np.empty(images.shape[:3], np.float32)
        started: deque[tuple[Float32, Any]] = deque()
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            size = max(self._smallest, 1 << (len(batch) - 1).bit_length())
            size = min(self.batch_size, size)
            missing = size - len(batch)
            padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
            place = probabilities[start : start + len(batch)]
            started.append((place, self._predict(padded)))
            if len(started) > AHEAD:
                _take(*started.popleft())
        for one in started:
            _take(*one)
        if not np.isfinite(probabilities).all():
            raise UserError(
                "the model predicts NaN, not probabilities: its weights are broken. "
                "Train it again: `dvc repro -f train`."
            )
        return probabilities


def _dispatch(model: keras.Model) -> Callable[[Image8], Any]:
    """The model compiled with JAX; a call returns before its result is computed."""
    import jax

    weights = [
        [variable.value for variable in group]
        for group in (model.trainable_variables, model.non_trainable_variables)
    ]
    forward = jax.jit(lambda weights, x: model.stateless_call(*weights, x, training=False)[0])
    return lambda images: forward(weights, images)


def _take(place: Float32, output: Any) -> None:
    """Wait for a batch, and copy its predictions to `place`."""
    place[:] = np.asarray(output)[: len(place), ..., 0]


def predict_split(
    predictor: Predictor, pack: PackReader, split: str
) -> Iterator[tuple[Float32, NDArray[np.bool_]]]:
    """Yield a split's probabilities and road, both (n, size, size), in the pack's order.

    Only a few batches of crops are in memory at a time. A progress bar is shown on a terminal.
    """
    rows, several = range(pack.rows(split)), SEVERAL * predictor.batch_size
    starts = range(0, len(rows), several)
    for start in progress(starts, f"predicting {split} crops", len(starts)):
        images, masks = pack.read(split, rows[start : start + several])
        yield predictor(images), masks[..., 0] > 0
