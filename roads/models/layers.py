"""Keras layers written so that the backend computes them fast, with the same weights and results.

Each keeps the name of its parent class, because weights files name layers by their class.
"""

from typing import Any

from roads.models.backend import backend_name, jit_compile, keras

ops = keras.ops
FEW = 4  # channels that are added up one by one, so that XLA can fuse their sum


class Conv2D(keras.layers.Conv2D):
    """For kernels of 1×1, computed without cuDNN on JAX.

    As sums and products they are fused with what is around them.
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
    """For kernels of 2×2 and stride 2, a matrix product on JAX.

    The kernels do not overlap, so each pixel becomes four by a product of its own. XLA does not
    see that the gradient of the weights is one of cuDNN's, and runs a convolution with a kernel as
    large as the picture instead (docs/recipes.md, "Speed").
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
    """For 2×2 pixels, with a gradient that XLA computes fast.

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


class BatchNormalization(keras.layers.BatchNormalization):
    """Over the last axis, going over the input as few times as the backend allows.

    Keras' own takes 16-bit inputs to float32 and goes over them several times. TensorFlow's
    kernels for the CPU have one operation for it. On JAX the mean and the mean square are summed
    in one pass, where Keras needs the mean before it begins with the variance.
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
            # It divided by one less, and Keras does not.
            self._update_moving(mean, variance * ((values - 1) / values))
        return outputs

    def _update_moving(self, mean: Any, variance: Any) -> None:
        for moving, measured in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + measured * (1 - self.momentum))

    def _in_one_pass(self, inputs: Any) -> Any:
        """Normalize by the batch's own mean and variance, in float32, and note them."""
        exact = ops.cast(inputs, "float32")
        axes = tuple(range(len(inputs.shape) - 1))
        mean, square = ops.mean(exact, axes), ops.mean(exact * exact, axes)
        variance = ops.maximum(square - mean * mean, 0)
        self._update_moving(mean, variance)
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast(exact * scale + (self.beta - mean * scale), self.compute_dtype)
