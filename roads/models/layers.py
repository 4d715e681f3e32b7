"""Faster versions of Keras layers, with the same weights and results.

Each has the name of its parent class, because weights files name layers by their class.
"""

from typing import Any

from roads.models.backend import backend_name, jit_compile, keras

ops = keras.ops
FEW = 4  # up to this many channels are added one by one, so that XLA can fuse the sum


class Conv2D(keras.layers.Conv2D):
    """A convolution that computes 1×1 kernels without cuDNN on JAX.

    As sums and products they are fused with neighbouring operations.
    """

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        assert self.kernel_size == self.strides == (1, 1)
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


class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """A transposed convolution that is a matrix product for 2×2 kernels of stride 2 on JAX.

    The kernels do not overlap, so each pixel becomes four by its own product. XLA does not
    recognize the gradient of the weights as one that cuDNN has, and runs a convolution with a
    kernel as large as the picture instead (docs/recipes.md, "Speed").
    """

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        assert self.kernel_size == self.strides == (2, 2)
        x = ops.cast(inputs, self.compute_dtype)
        kernel = ops.cast(self.kernel, self.compute_dtype)  # (2, 2, out, in)
        _, height, width, _ = x.shape
        parts = ops.einsum("nhwi,abci->nhawbc", x, kernel)
        larger = ops.reshape(parts, (-1, 2 * height, 2 * width, self.filters))
        return larger + ops.cast(self.bias, self.compute_dtype)


class MaxPooling2D(keras.layers.MaxPooling2D):
    """2×2 max pooling with a gradient that XLA computes fast.

    On JAX, the gradient of Keras' layer is a select-and-scatter, which XLA does not fuse and runs
    with atomic additions. The gradient of a maximum over an axis is fused with its neighbours. (It
    is split among equal pixels; in Keras' layer the first one gets it all.)
    """

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        _, height, width, channels = inputs.shape
        if height is None or width is None or height % 2 or width % 2:
            return super().call(inputs)
        pairs = ops.reshape(inputs, (-1, height // 2, 2, width // 2, 2, channels))
        return ops.max(pairs, axis=(2, 4))


class BatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over the last axis, with as few passes over the input as possible.

    Keras' layer casts 16-bit inputs to float32 and reads them several times. On a CPU, TensorFlow
    has a single operation for it. On JAX the mean and the mean square are summed in one pass;
    Keras computes the variance after the mean.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if backend_name() == "jax" and training and self.trainable:
            return self._in_one_pass(inputs)
        if jit_compile():
            return super().call(inputs, training, mask)
        import tensorflow

        measuring = bool(training and self.trainable)
        outputs, mean, variance, *_ = tensorflow.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=[] if measuring else self.moving_mean,
            variance=[] if measuring else self.moving_variance,
            epsilon=self.epsilon,
            is_training=measuring,
        )
        if measuring:
            values = tensorflow.cast(tensorflow.size(inputs) // inputs.shape[-1], "float32")
            # It divided by n - 1; Keras divides by n.
            self._update_moving(mean, variance * ((values - 1) / values))
        return outputs

    def _update_moving(self, mean: Any, variance: Any) -> None:
        for moving, measured in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + measured * (1 - self.momentum))

    def _in_one_pass(self, inputs: Any) -> Any:
        """Normalize by the batch's mean and variance, in float32, and update the moving ones."""
        exact = ops.cast(inputs, "float32")
        axes = tuple(range(len(inputs.shape) - 1))
        mean, square = ops.mean(exact, axes), ops.mean(exact * exact, axes)
        variance = ops.maximum(square - mean * mean, 0)
        self._update_moving(mean, variance)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast(exact * scale + (self.beta - mean * scale), self.compute_dtype)
