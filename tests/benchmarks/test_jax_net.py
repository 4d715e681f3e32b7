"""The JAX net that ours is measured beside computes what ours computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.jax_net import (
    MOMENTUM,
    RATE,
    State,
    count_parameters,
    forward,
    fresh_state,
    predict,
    train,
)  # fmt: skip
from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.training.fit import compile_model
from roads.training.losses import make_loss
from tests.packed import unet_params

FILTERS, SIZE, CROPS, BATCH = 2, 32, 6, 2
ORDER = np.array([5, 0, 3, 2, 1, 4], np.int32)
KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def crops() -> tuple[np.ndarray, np.ndarray]:
    images = np.random.default_rng(1).integers(0, 256, (CROPS, SIZE, SIZE, 3), np.uint8)
    return images, (images[..., :1] > 150).astype(np.uint8)


def keras_net() -> keras.Model:
    """Ours, with biases and statistics that are neither 0 nor 1."""
    params = unet_params(filters=FILTERS, depth=5, dropout=0, momentum=MOMENTUM)
    model = build_unet(params, seed=4)
    draw = np.random.default_rng(0)
    model.set_weights(
        [w if w.ndim == 4 else w + draw.uniform(0, 0.3, w.shape) for w in model.get_weights()]
    )
    return model


def with_weights_of(model: keras.Model) -> State:
    """The JAX net with a Keras net's weights and statistics."""
    state = fresh_state(FILTERS)
    for name, weights in state.weights.items():
        plain = name == "head" or name.endswith("enlarge")
        layer = model.get_layer(name if plain else f"{name}_convolution")
        weights["kernel"], weights["bias"] = map(jnp.array, layer.get_weights())
        if not plain:
            values = map(jnp.array, model.get_layer(f"{name}_normalization").get_weights())
            weights["gamma"], weights["beta"], mean, variance = values
            state.statistics[name] = {"mean": mean, "variance": variance}
    return state


def test_it_has_the_articles_number_of_parameters() -> None:
    assert count_parameters(fresh_state(16)) == 1_946_993


def test_with_the_same_weights_it_predicts_the_same(crops: tuple[np.ndarray, np.ndarray]) -> None:
    ours = keras_net()
    state = with_weights_of(ours)
    expected = ours.predict_on_batch(crops[0])
    assert expected.std() > 0.01
    predicted = predict(state.weights, state.statistics, jnp.array(crops[0]), jnp.float32)
    np.testing.assert_allclose(predicted, expected, atol=1e-4)


def test_after_some_steps_loss_and_statistics_are_those_of_keras(
    crops: tuple[np.ndarray, np.ndarray],
) -> None:
    images, masks = crops
    ours = keras_net()
    state = with_weights_of(ours)
    compile_model(ours, make_loss("soft_dice"), keras.optimizers.Adam(RATE))
    for rows in (*ORDER.reshape(-1, BATCH), ORDER[:BATCH]):
        ours.reset_metrics()
        expected = float(ours.train_on_batch(images[rows], masks[rows])[0])
    state, loss = four_steps(state, crops)
    assert loss == pytest.approx(expected, abs=1e-4)
    for name, values in with_weights_of(ours).statistics.items():
        for kind, value in values.items():
            np.testing.assert_allclose(state.statistics[name][kind], value, rtol=1e-2, atol=1e-2)


def test_steps_lower_the_loss(crops: tuple[np.ndarray, np.ndarray]) -> None:
    state = fresh_state(FILTERS)
    losses = []
    for _ in range(20):
        state, loss = four_steps(state, crops)
        losses.append(loss)
    assert losses[-1] < losses[10] - 0.01 < losses[0] - 0.02
    assert int(state.step) == 80


def four_steps(state: State, crops: tuple[np.ndarray, np.ndarray]) -> tuple[State, float]:
    state, loss = train(
        state, *map(jnp.array, (*crops, ORDER)), KEY,
        steps=4, batch=BATCH, dtype=jnp.float32, dropout=0.0,
    )  # fmt: skip
    return state, float(loss)


def test_in_bfloat16_dropout_is_drawn_by_the_key(crops: tuple[np.ndarray, np.ndarray]) -> None:
    state, images = fresh_state(FILTERS), jnp.array(crops[0])
    compiled = jax.jit(forward, static_argnames=("dtype", "dropout"))

    def predicted(seed: int) -> np.ndarray:
        key = jax.random.key(seed)
        arguments = (state.weights, state.statistics, images, jnp.bfloat16, 0.1, key)
        return np.asarray(compiled(*arguments)[0])

    assert predicted(1).dtype == np.float32
    np.testing.assert_array_equal(predicted(1), predicted(1))
    assert 0 < np.abs(predicted(1) - predicted(2)).mean() < 0.3
