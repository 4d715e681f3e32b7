from typing import Any

import numpy as np
import pytest

from roads.models.backend import keras
from roads.training.optimizer import WarmUp, learning_rate, make_optimizer, warmup_steps
from tests.packed import train_params

EPOCH = 10  # steps


def rates(steps: tuple[int, ...], **changes: Any) -> list[float]:
    schedule = learning_rate(train_params(learning_rate=0.01, epochs=10, **changes), EPOCH)
    return [float(keras.ops.convert_to_numpy(schedule(step))) for step in steps]


def test_cosine_decays_to_zero() -> None:
    assert rates((0, 50, 100), schedule="cosine") == pytest.approx([0.01, 0.005, 0], abs=1e-8)


def test_a_warm_up_rises_linearly_from_zero() -> None:
    steps = (0, 10, 20, 60, 100)
    cosine = rates(steps, schedule="cosine", warmup_epochs=2)
    assert cosine == pytest.approx([0, 0.005, 0.01, 0.005, 0], abs=1e-8)
    constant = rates(steps, schedule="constant", warmup_epochs=2)
    assert constant == pytest.approx([0, 0.005, 0.01, 0.01, 0.01], abs=1e-8)


def test_without_warm_up_a_constant_rate_is_a_number() -> None:
    for schedule in ("constant", "plateau"):
        assert learning_rate(train_params(schedule=schedule), EPOCH) == 0.01


def test_a_plateau_warms_up_by_callback() -> None:
    recipe = train_params(schedule="plateau", epochs=5, warmup_epochs=1.5, learning_rate=0.3)
    warm_up = WarmUp(recipe.learning_rate, warmup_steps(recipe, 4), 4)
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(optimizer=make_optimizer(recipe, learning_rate(recipe, 4)), loss="mse")
    seen = []

    class Look(keras.callbacks.Callback):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            seen.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if epoch == 2:
                self.model.optimizer.learning_rate = 0.1  # as a plateau would

    x = np.ones((4, 1), np.float32)
    model.fit(x, x, batch_size=1, epochs=3, verbose=0, callbacks=[warm_up, Look()])
    assert seen == pytest.approx([0, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.3, *[0.1] * 4])


def step(gradient: float, **changes: Any) -> dict[str, np.ndarray]:
    """What a step of a layer with all weights 1 and all gradients alike leaves of them."""
    layer = keras.layers.BatchNormalization(name="normalization")
    dense = keras.layers.Dense(2, kernel_initializer="ones", bias_initializer="ones")
    model = keras.Sequential([keras.Input((2,)), dense, layer])
    optimizer = make_optimizer(train_params(**changes), 0.1)
    variables = model.trainable_variables
    optimizer.build(variables)
    gradients = [keras.ops.full(variable.shape, gradient) for variable in variables]
    optimizer.apply_gradients(zip(gradients, variables, strict=True))
    return {variable.name: variable.numpy() for variable in variables}


def test_weight_decay_spares_biases_and_normalization() -> None:
    after = step(0.0, optimizer="adamw", weight_decay=0.5)
    np.testing.assert_allclose(after["kernel"], 1 - 0.1 * 0.5, rtol=1e-6)
    np.testing.assert_array_equal(after["bias"], 1)
    np.testing.assert_array_equal(after["gamma"], 1)
    np.testing.assert_array_equal(step(0.0, optimizer="adam", weight_decay=0.5)["kernel"], 1)


def test_gradients_are_clipped_by_their_global_norm() -> None:
    recipe = train_params(clip_norm=1.0)
    optimizer = make_optimizer(recipe, 0.1)
    assert optimizer.global_clipnorm == 1.0
    plain = keras.optimizers.Adam(0.1, global_clipnorm=1.0, epsilon=1.0)
    assert type(optimizer) is type(plain)
    clipped = optimizer._clip_gradients([np.array([3.0]), np.array([0.0, 4.0])])
    np.testing.assert_allclose(keras.ops.convert_to_numpy(clipped[0]), [0.6], rtol=1e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(clipped[1]), [0, 0.8], rtol=1e-6)
    assert make_optimizer(train_params(), 0.1).global_clipnorm is None
