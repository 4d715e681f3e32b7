"""Ours beside Keras' own layer: outputs, gradients, moving statistics."""

from typing import Any

import numpy as np
import pytest

from roads.models.backend import backend_name, keras
from roads.models.layers import BatchNormalization

pytestmark = pytest.mark.skipif(backend_name() != "tensorflow", reason="it is Keras' elsewhere")

if backend_name() == "tensorflow":
    import tensorflow


def layers(**options: Any) -> tuple[keras.layers.Layer, keras.layers.Layer]:
    """Ours and Keras', with the same weights, none of them trivial."""
    both = (BatchNormalization(**options), keras.layers.BatchNormalization(**options))
    draw = np.random.default_rng(0)
    weights = [draw.uniform(0.5, 2, 5).astype(np.float32) for _ in range(4)]
    for layer in both:
        layer.build((None, None, None, 5))
        layer.set_weights(weights)
    return both


def inputs(dtype: str = "float32") -> Any:
    values = np.random.default_rng(1).normal(3, 2, (2, 4, 6, 5))
    return tensorflow.cast(tensorflow.constant(values), dtype)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("trainable", [True, False])
def test_normalization_agrees_with_keras(training: bool, trainable: bool) -> None:
    results = []
    for layer in layers(momentum=0.8):
        layer.trainable = trainable
        x = inputs()
        with tensorflow.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=training)
            loss = tensorflow.reduce_sum(y**3)
        gradients = tape.gradient(loss, [x, *layer.trainable_variables])
        results.append([y, *gradients, *layer.get_weights()])
    ours, theirs = results
    assert len(ours) == (8 if trainable else 6)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-3)
    for one, other in zip(ours[-2:], theirs[-2:], strict=True):  # moving mean and variance
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_statistics_stay_float32_in_bfloat16() -> None:
    for training in (True, False):
        ours, theirs = layers(momentum=0.8, dtype="mixed_bfloat16")
        one, other = (layer(inputs("bfloat16"), training=training) for layer in (ours, theirs))
        assert one.dtype == other.dtype == tensorflow.bfloat16
        np.testing.assert_allclose(
            tensorflow.cast(one, "float32"), tensorflow.cast(other, "float32"), rtol=0.02, atol=0.02
        )
        for mine, keras_own in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            assert mine.dtype == np.float32
            np.testing.assert_allclose(mine, keras_own, rtol=1e-4)


def test_weights_files_are_those_of_keras_layer(tmp_path: Any) -> None:
    image = keras.Input((None, None, 5))
    ours, theirs = (keras.Model(image, layer(image)) for layer in layers())
    ours.save_weights(tmp_path / "ours.weights.h5")
    theirs.set_weights([np.zeros(5)] * 4)
    theirs.load_weights(tmp_path / "ours.weights.h5")
    for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
