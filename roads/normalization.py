"""Batch normalization that goes over its input as few times as the backend allows."""

from typing import Any

from roads.backend import backend_name, jit_compile, keras

ops = keras.ops


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer over the last axis, with the same name, weights and results.

    Keras' own takes 16-bit inputs to float32 and goes over them several times. TensorFlow's
    kernels for the CPU have one operation for it. On JAX the mean and the mean square are summed
    in one pass, where Keras needs the mean before it begins with the variance.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if backend_name() == "jax" and training and self.trainable:
            return self._in_one_pass(inputs)
        if jit_compile() or self.synchronized:
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
            variance *= (values - 1) / values  # it divided by one less, and Keras does not
            for moving, measured in ((self.moving_mean, mean), (self.moving_variance, variance)):
                moving.assign(moving * self.momentum + measured * (1 - self.momentum))
        return outputs

    def _in_one_pass(self, inputs: Any) -> Any:
        """Normalize by the batch's own mean and variance, in float32, and note them."""
        exact = ops.cast(inputs, "float32")
        axes = tuple(range(len(inputs.shape) - 1))
        mean, square = ops.mean(exact, axes), ops.mean(exact * exact, axes)
        variance = ops.maximum(square - mean * mean, 0)
        for moving, measured in ((self.moving_mean, mean), (self.moving_variance, variance)):
            moving.assign(moving * self.momentum + measured * (1 - self.momentum))
        scale = self.gamma * ops.rsqrt(variance + self.epsilon)
        return ops.cast(exact * scale + (self.beta - mean * scale), self.compute_dtype)
