"""The 3×3 convolution, in the form that XLA runs fast on a GPU."""

from typing import Any

from roads.backend import backend_name, keras

ops = keras.ops


class Conv2D(keras.layers.Conv2D):
    """Keras' layer, with the same name, weights and results.

    XLA has cuDNN add the bias within the convolution, and for 32 filters that took 15 times as
    long as the convolution alone (H100, bfloat16), so on JAX the two are kept apart.

    Where batch normalization follows, a bias changes nothing: the mean takes it off again. Its
    gradient is 0 but for rounding, and is not computed.
    """

    def __init__(self, *args: Any, normalized: bool, **settings: Any):
        """As Keras' layer; `normalized` says whether batch normalization follows."""
        super().__init__(*args, **settings)
        self.normalized = normalized

    def call(self, inputs: Any) -> Any:
        if backend_name() != "jax":
            return super().call(inputs)
        import jax

        convolved = jax.lax.optimization_barrier(self.convolution_op(inputs, self.kernel))
        bias = ops.cast(self.bias, convolved.dtype)
        return convolved + (ops.stop_gradient(bias) if self.normalized else bias)
