"""Validation with the average of the weights over the last steps, instead of the last weights."""

import math
from typing import Any

from roads.backend import keras
from roads.batches import CropBatches
from roads.resume import Arrays
from roads.unet import layers_of

STATISTICS_CROPS = 64  # 4 million pixels at 256×256: their means and variances are settled


class AveragedWeights(keras.callbacks.Callback):
    """Validates with the moving average that the optimizer keeps, then goes on as it was.

    The statistics of batch normalization belong to the weights that they were measured with, so
    they are measured anew for the average, on the epoch's first crops (Izmailov et al. 2018,
    *Averaging Weights Leads to Wider Optima*, section 3.2).

    `weights` holds what the epoch was validated with, statistics included.
    """

    def __init__(self, train: CropBatches):
        super().__init__()
        self.train = train
        self.weights: Arrays = []
        self._own: Arrays = []

    def on_test_begin(self, logs: Any = None) -> None:
        model = self.model
        self._own = model.get_weights()
        model.optimizer.finalize_variable_values(model.trainable_variables)
        model.set_weights(model.get_weights())  # JAX let both share memory, and would give it away
        measure_statistics(model, self.train)

    def on_test_end(self, logs: Any = None) -> None:
        model = self.model
        self.weights = model.get_weights()
        model.set_weights(self._own)


def measure_statistics(model: keras.Model, train: CropBatches) -> None:
    """Set the statistics of batch normalization to their plain mean over some batches."""
    layers = layers_of(model, keras.layers.BatchNormalization)
    if not layers:
        return
    momenta = [layer.momentum for layer in layers]
    for index in range(min(len(train), math.ceil(STATISTICS_CROPS / train.batch_size))):
        for layer in layers:
            layer.momentum = index / (index + 1)
        images, _ = train[index]
        model(images, training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
