"""Initial weights drawn by numpy: the same on every backend, without compilation.

(On JAX, Keras' initializers are compiled one by one before training, about 50 for a U-Net.)
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roads.models.backend import keras

TRUNCATED_DEVIATION = 0.87962566103423978  # of a standard normal cut off at -2 and 2


class HeNormal(keras.Initializer):
    """Truncated normal distribution with variance 2 / fan-in (He et al. 2015, section 2.2).

    The distribution is that of `keras.initializers.HeNormal`, the random numbers are not.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        deviation = math.sqrt(2 / (math.prod(shape[:-2]) * shape[-2])) / TRUNCATED_DEVIATION
        draw = np.random.default_rng(self.seed)
        values = draw.standard_normal(shape)
        while (outside := np.abs(values) > 2).any():
            values[outside] = draw.standard_normal(int(outside.sum()))
        return _tensor(values * deviation, dtype)


class GlorotUniform(keras.Initializer):
    """Uniform distribution with variance 2 / (fan-in + fan-out) (Glorot and Bengio 2010, eq. 16).

    The distribution is that of `keras.initializers.GlorotUniform`, the random numbers are not.
    """

    def __init__(self, seed: int):
        self.seed = seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        limit = math.sqrt(6 / (math.prod(shape[:-2]) * (shape[-2] + shape[-1])))
        return _tensor(np.random.default_rng(self.seed).uniform(-limit, limit, shape), dtype)


def _tensor(values: NDArray[np.float64], dtype: Any) -> Any:
    return keras.ops.convert_to_tensor(values.astype(np.float32), dtype)
