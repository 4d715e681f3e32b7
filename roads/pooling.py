"""Max pooling whose gradient XLA computes fast."""

from typing import Any

from roads.backend import backend_name, keras

ops = keras.ops


class MaxPooling2D(keras.layers.MaxPooling2D):
    """Keras' layer for 2×2 pixels, with the same name and results.

    The gradient of Keras' own is a select-and-scatter on JAX, which XLA runs by itself and with
    atomic additions; that of a maximum over an axis is fused with its neighbours. (It shares the
    gradient among equal pixels, where Keras' own gives it to the first.)
    """

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        _, height, width, channels = inputs.shape
        if height is None or width is None or height % 2 or width % 2:
            return super().call(inputs)
        pairs = ops.reshape(inputs, (-1, height // 2, 2, width // 2, 2, channels))
        return ops.max(pairs, axis=(2, 4))
