"""A net for notebooks and scripts: `roads.load(name).predict(picture)`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roads.mapping.chosen_model import choose_model, resolve_weights, validation_threshold
from roads.prediction.blending import Predict, Windows, predict_tile
from roads.runtime.arrays import Float32, Image8

WINDOW, OVERLAP = 512, 128  # pixels; the overlap is at least that


@dataclass(frozen=True)
class Net:
    """A trained net.

    Attributes:
        weights: the file of its weights.
        threshold: the probability from which a pixel is road, as chosen on validation; 0.5 where
            none was.
    """

    weights: Path
    threshold: float
    _predict: Predict
    _batch: int

    def predict(self, picture: Image8) -> Float32:
        """The probability of road at each pixel.

        Args:
            picture: (height, width, 3) uint8 RGB, of any size, at 1 m per pixel.

        Returns:
            (height, width) float32, from 0 to 1.

        Raises:
            ValueError: the picture has another shape or dtype.
        """
        picture = np.asarray(picture)
        if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
            raise ValueError(
                f"the picture is {picture.dtype} of shape {picture.shape}; it should be uint8 of "
                "shape (height, width, 3)"
            )
        return predict_tile(self._predict, picture, Windows(WINDOW, OVERLAP, self._batch))


def load_net(name: str | None = None, tta: bool = False) -> Net:
    """As `roads.load`."""
    weights = resolve_weights(name)
    model = choose_model(weights, WINDOW, None, tta)
    threshold = validation_threshold(weights, model.sha256)
    return Net(weights, 0.5 if threshold is None else threshold, model.predict, model.batch)
