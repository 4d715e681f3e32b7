"""Predicts road probabilities with a trained model."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roads.backend import keras
from roads.errors import UserError
from roads.packs import PackReader
from roads.parallel import progress
from roads.tiles import Image8

Float32 = NDArray[np.float32]


class Predictor:
    """A model that is compiled once: every batch it sees has the same shape, padded if need be.

    Example:
        probabilities = Predictor(model, batch_size=16)(crops)

    Args:
        model: takes (n, height, width, 3) uint8, scales them itself, and gives (n, height,
            width, 1) probabilities of road.
        batch_size: crops the model sees at once; more need more memory.
    """

    def __init__(self, model: keras.Model, batch_size: int):
        self._model = model
        self.batch_size = batch_size

    def __call__(self, images: Image8) -> Float32:
        """Predict any number of pictures.

        Args:
            images: (n, height, width, 3) uint8; height and width the same in every call, and
                ones the model takes.

        Returns:
            (n, height, width) float32, from 0 to 1.

        Raises:
            UserError: the model's weights give something that is no probability.
        """
        probabilities = np.empty(images.shape[:3], np.float32)
        for start in range(0, len(images), self.batch_size):
            batch = images[start : start + self.batch_size]
            missing = self.batch_size - len(batch)
            padded = np.pad(batch, ((0, missing), (0, 0), (0, 0), (0, 0))) if missing else batch
            output = self._model.predict_on_batch(padded)
            probabilities[start : start + len(batch)] = output[: len(batch), ..., 0]
        if not np.isfinite(probabilities).all():
            raise UserError(
                "the model predicts NaN, not probabilities: its weights are broken. "
                "Train it again: `dvc repro -f train`."
            )
        return probabilities


def predict_split(
    predictor: Predictor, pack: PackReader, split: str
) -> Iterator[tuple[Float32, NDArray[np.bool_]]]:
    """Yield a split's probabilities and road, both (n, size, size), in the pack's order.

    A batch of crops at a time is in memory; a progress bar is shown on a terminal.
    """
    rows = range(pack.rows(split))
    starts = range(0, len(rows), predictor.batch_size)
    for start in progress(starts, f"predicting {split} crops", len(starts)):
        images, masks = pack.read(split, rows[start : start + predictor.batch_size])
        yield predictor(images), masks[..., 0] > 0
