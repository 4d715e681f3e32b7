"""Batch normalization that TensorFlow computes in one operation on a CPU."""

from typing import Any

from roads.backend import jit_compile, keras


class BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer over the last axis, with the same name, weights and results.

    Keras' own takes 16-bit inputs to float32 and goes over them several times. XLA makes one pass
    of that; TensorFlow's kernels for the CPU do not, and have an operation for it instead.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
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
