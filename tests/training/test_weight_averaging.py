from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader
from roads.models.backend import keras
from roads.models.unet import build_unet, layers_of
from roads.training.batches import CropBatches
from roads.training.fit import compile_model
from roads.training.losses import soft_dice
from roads.training.optimizer import make_optimizer
from roads.training.weight_averaging import AveragedWeights, Statistics
from tests.packed import train_params, unet_params, write_pack

MOMENTUM = 0.7


@pytest.fixture
def batches(tmp_path: Path) -> Iterator[CropBatches]:
    write_pack(tmp_path, 16, train=12, valid=2)
    with PackReader(tmp_path) as pack:
        yield CropBatches(pack, "train", 4)


class Recall(keras.callbacks.Callback):
    """The trainable weights after every step, and all weights around validation."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[list[np.ndarray]] = []
        self.last: list[np.ndarray] = []
        self.validated: list[np.ndarray] = []
        self.after: list[np.ndarray] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append([variable.numpy() for variable in self.model.trainable_variables])
        self.last = self.model.get_weights()

    def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
        self.validated = [variable.numpy() for variable in self.model.trainable_variables]

    def on_test_end(self, logs: Any = None) -> None:
        self.after = self.model.get_weights()


@pytest.mark.slow
def test_validation_sees_the_moving_average_and_training_does_not(batches: CropBatches) -> None:
    model = build_unet(unet_params(depth=2))
    compile_model(model, soft_dice, make_optimizer(train_params(ema=MOMENTUM), 0.01))
    averaged, recall = AveragedWeights(batches), Recall()
    model.fit(
        batches.feed(), validation_data=batches.feed(), epochs=1, shuffle=False, verbose=0,
        callbacks=[averaged, recall],
    )  # fmt: skip
    expected = recall.steps[0]
    for step in recall.steps[1:]:
        expected = [MOMENTUM * a + (1 - MOMENTUM) * w for a, w in zip(expected, step, strict=True)]
    assert len(recall.steps) == 3
    for one, other in zip(recall.validated, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)
    for one, other in zip(recall.last, recall.after, strict=True):
        np.testing.assert_array_equal(one, other)
    held = build_unet(unet_params(depth=2))
    held.set_weights(averaged.weights)
    for variable, other in zip(held.trainable_variables, recall.validated, strict=True):
        np.testing.assert_array_equal(variable.numpy(), other)


def test_statistics_are_the_mean_over_the_batches(batches: CropBatches) -> None:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, keras.layers.BatchNormalization(momentum=0.99)(image))
    Statistics(model).measure(batches)
    (layer,) = layers_of(model, keras.layers.BatchNormalization)
    crops = [batches[index][0].astype(np.float64) for index in range(3)]
    mean = np.mean([batch.mean(axis=(0, 1, 2)) for batch in crops], axis=0)
    variance = np.mean([batch.var(axis=(0, 1, 2)) for batch in crops], axis=0)
    np.testing.assert_allclose(layer.moving_mean.numpy(), mean, rtol=1e-4)
    np.testing.assert_allclose(layer.moving_variance.numpy(), variance, rtol=1e-3)
    assert layer.momentum == 0.99
