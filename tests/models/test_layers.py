"""Our layers beside Keras' own, on JAX: results, gradients and names of weights.

`tests/test_on_jax.py` runs these.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from roads.models.backend import backend_name, keras
from roads.models.initial_weights import GlorotUniform, HeNormal
from roads.models.layers import BatchNormalization, Conv2DTranspose, MaxPooling2D
from roads.models.layers import Conv2D as PointwiseConv2D

on_jax = pytest.mark.skipif(backend_name() != "jax", reason="tests/test_on_jax.py runs these")
layers = keras.layers

PAIRS: dict[str, tuple[Callable[[], Any], Callable[[], Any], int]] = {
    "enlarge": (
        lambda: Conv2DTranspose(5, 2, strides=2, bias_initializer="normal"),
        lambda: layers.Conv2DTranspose(5, 2, strides=2, bias_initializer="normal"),
        7,
    ),
    "head": (
        lambda: PointwiseConv2D(1, 1, activation="sigmoid", bias_initializer="normal"),
        lambda: layers.Conv2D(1, 1, activation="sigmoid", bias_initializer="normal"),
        7,
    ),
    "few channels": (lambda: PointwiseConv2D(6, 1), lambda: layers.Conv2D(6, 1), 3),
    "shortcut": (lambda: PointwiseConv2D(6, 1), lambda: layers.Conv2D(6, 1), 7),
    "pool": (MaxPooling2D, layers.MaxPooling2D, 7),
    "normalization": (
        lambda: BatchNormalization(momentum=0.8),
        lambda: layers.BatchNormalization(momentum=0.8),
        7,
    ),
}


@on_jax
@pytest.mark.parametrize("name", PAIRS)
def test_results_and_gradients_are_those_of_keras(name: str) -> None:
    import jax

    ours, theirs, channels = PAIRS[name]
    assert type(ours()).__name__ == type(theirs()).__name__  # files of weights have these names
    draw = np.random.default_rng(0)
    x = draw.normal(size=(2, 6, 8, channels)).astype(np.float32)
    found: list[Any] = []
    weights: list[Any] = []
    for make in (ours, theirs):
        model = keras.Sequential([keras.Input((None, None, channels)), make()])
        weights = weights or [draw.normal(size=v.shape) ** 2 + 0.1 for v in model.weights]
        model.set_weights(weights)
        outputs = np.asarray(model(x))
        pull = np.random.default_rng(1).normal(size=outputs.shape)

        def loss(
            trainable: Any, others: Any, images: Any, model: Any = model, pull: Any = pull
        ) -> Any:
            y, others = model.stateless_call(trainable, others, images, training=True)
            return (y * pull).sum(), (y, others)

        state = [[v.value for v in group] for group in
                 (model.trainable_variables, model.non_trainable_variables)]  # fmt: skip
        gradients, (trained, others) = jax.grad(loss, argnums=(0, 2), has_aux=True)(*state, x)
        found.append((outputs, trained, others, gradients))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [(3, 3, 40, 60), (2, 2, 30, 50), (1, 1, 400, 70)])
def test_first_weights_are_distributed_as_those_of_keras(shape: tuple[int, ...]) -> None:
    for ours, theirs in (
        (HeNormal(3), keras.initializers.HeNormal(seed=3)),
        (GlorotUniform(3), keras.initializers.GlorotUniform(seed=3)),
    ):
        one, other = (keras.ops.convert_to_numpy(make(shape)) for make in (ours, theirs))
        assert one.dtype == np.float32
        assert one.std() == pytest.approx(other.std(), rel=0.03)
        assert np.abs(one).max() == pytest.approx(np.abs(other).max(), rel=0.03)
        assert abs(one.mean()) < 3 * one.std() / np.sqrt(one.size)
        np.testing.assert_array_equal(one, keras.ops.convert_to_numpy(ours(shape)))
