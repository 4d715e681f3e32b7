"""Convolutions of one pixel that JAX computes without cuDNN."""

from typing import Any

from roads.backend import backend_name, keras

ops = keras.ops
FEW = 4  # channels that are added up one by one; a matrix product of them leaves a GPU idle


class PointwiseConv2D(keras.layers.Conv2D):
    """Keras' layer for kernels of 1x1, with the same name, weights and results.

    cuDNN has no fast kernels for one output channel or three input channels, and takes float32
    through another memory layout. As sums and products they are fused with what is around them.
    """

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        x = ops.cast(inputs, self.compute_dtype)
        kernel = ops.cast(self.kernel, self.compute_dtype)[0, 0]
        channels, filters = kernel.shape
        if filters == 1:
            y = ops.sum(x * kernel[:, 0], axis=-1, keepdims=True)
        elif channels <= FEW:
            y = sum(x[..., place : place + 1] * kernel[place] for place in range(channels))
        else:
            y = ops.matmul(x, kernel)
        return self.activation(y + ops.cast(self.bias, self.compute_dtype))
