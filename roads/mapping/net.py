"""A net for notebooks and scripts: `roads.load(name).predict(picture)`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roads.mapping.chosen_model import choose_model, resolve_weights, validation_threshold
from roads.params.evaluate import read_evaluate
from roads.prediction.blending import Predict, Windows, predict_tile
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import excerpt


@dataclass(frozen=True)
class Net:
    """A trained net.

    Attributes:
        weights: the file of its weights.
        threshold: pixels with at least this probability are road; chosen on validation, or 0.5.
    """

    weights: Path
    threshold: float
    _predict: Predict
    _windows: Windows

    def predict(self, picture: Image8) -> Float32:
        """The probability of road at each pixel.

        Args:
            picture: (height, width, 3) uint8 RGB, at 1 m per pixel, of any size except 0.

        Returns:
            (height, width) float32, from 0 to 1.

        Raises:
            ValueError: the picture has another shape or dtype.
        """
        picture = np.asarray(picture)
        is_rgb = picture.ndim == 3 and picture.shape[2] == 3 and picture.dtype == np.uint8
        if not is_rgb or picture.size == 0:
            raise ValueError(
                f"the picture is {picture.dtype} of shape {picture.shape}; it should be uint8 of "
                "shape (height, width, 3), with at least one pixel"
            )
        return predict_tile(self._predict, picture, self._windows)


def load_net(name: str | Path | None = None, tta: bool = False) -> Net:
    """As `roads.load`."""
    if not isinstance(name, str | Path | None):
        raise TypeError(f"the net's name is {excerpt(name)}, but should be a str or a Path")
    evaluate = read_evaluate()
    weights = resolve_weights(name)
    model = choose_model(weights, evaluate.window, None, tta)
    threshold = validation_threshold(weights, model.sha256)
    windows = Windows(evaluate.window, evaluate.overlap, model.batch)
    return Net(weights, 0.5 if threshold is None else threshold, model.predict, windows)
