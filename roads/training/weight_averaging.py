"""Validates with a moving average of the weights instead of the last weights."""

import math
from typing import Any

import numpy as np

from roads.models.backend import backend_name, keras
from roads.models.unet import layers_of
from roads.training.backup import Arrays
from roads.training.batches import CropBatches

STATISTICS_CROPS = 64  # 4 million pixels at 256×256: enough for stable means and variances


class AveragedWeights(keras.callbacks.Callback):
    """Validates with the moving average that the optimizer keeps, then restores the weights.

    The statistics of batch normalization depend on the weights, so they are measured again for the
    average, on the epoch's first crops (Izmailov et al. 2018, *Averaging Weights Leads to Wider
    Optima*, section 3.2).

    `weights` holds the weights and statistics that the epoch was validated with.
    """

    def __init__(self, train: CropBatches):
        super().__init__()
        self.train = train
        self.weights: Arrays = []
        self._own: Arrays = []

    def on_train_begin(self, logs: Any = None) -> None:
        self.statistics = Statistics(self.model)

    def on_test_begin(self, logs: Any = None) -> None:
        model = self.model
        self._own = model.get_weights()
        model.optimizer.finalize_variable_values(model.trainable_variables)
        model.set_weights(model.get_weights())  # JAX lets both share memory, and would donate it
        self.statistics.measure(self.train)

    def on_test_end(self, logs: Any = None) -> None:
        model = self.model
        self.weights = model.get_weights()
        model.set_weights(self._own)


class Statistics:
    """The statistics of a model's batch normalization; frozen layers keep theirs.

    On JAX a pass over a batch is compiled once, since single operations are slow.
    """

    def __init__(self, model: keras.Model):
        self.model = model
        layers = layers_of(model, keras.layers.BatchNormalization)
        self.layers = [layer for layer in layers if layer.trainable]
        self._pass = self._one_batch
        if backend_name() == "jax":
            import jax

            self._pass = jax.jit(self._one_batch)

    def measure(self, train: CropBatches) -> None:
        """Set the statistics to their mean over some batches."""
        if not self.layers:
            return
        model = self.model
        measured = [v for layer in self.layers for v in (layer.moving_mean, layer.moving_variance)]
        places = {id(v): place for place, v in enumerate(model.non_trainable_variables)}
        trainable = [keras.ops.convert_to_tensor(v) for v in model.trainable_variables]
        others = [keras.ops.convert_to_tensor(v) for v in model.non_trainable_variables]
        sums = [np.zeros(v.shape) for v in measured]
        count = min(len(train), math.ceil(STATISTICS_CROPS / train.batch_size))
        for index in range(count):
            images, _ = train.augmented(train.rows(index))
            others = self._pass(trainable, others, images)
            for total, variable in zip(sums, measured, strict=True):
                total += np.asarray(others[places[id(variable)]])
        for total, variable in zip(sums, measured, strict=True):
            variable.assign(total / count)

    def _one_batch(self, trainable: Any, others: Any, images: Any) -> Any:
        """The non-trainable variables after this batch, with its statistics."""
        momenta = [layer.momentum for layer in self.layers]
        for layer in self.layers:
            layer.momentum = 0.0
        _, others = self.model.stateless_call(trainable, others, images, training=True)
        for layer, momentum in zip(self.layers, momenta, strict=True):
            layer.momentum = momentum
        return others
