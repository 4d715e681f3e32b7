"""The bare training step and forward pass of our net, repeated on the same batch."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from roads.models.backend import backend_name, keras
from roads.models.unet import build_unet
from roads.params.unet import UnetParams
from roads.prediction.folding import fold
from roads.training.fit import compile_model
from roads.training.losses import make_loss

SIZE = 256  # pixels


class Bare:
    """A net with random crops of 256×256 pixels in memory.

    On JAX the batches and the net's state stay on the device between steps, as in training.

    Args:
        unet: the net.
        precision: its Keras dtype policy.
        batches: batch sizes for `train` and `predict`.
    """

    def __init__(self, unet: UnetParams, precision: str, batches: dict[str, int]):
        self.net = build_unet(unet, precision)
        compile_model(self.net, make_loss("soft_dice"), keras.optimizers.Adam(1e-3))
        draw = np.random.default_rng(0)
        images, others = (
            draw.integers(0, 256, (batches[name], SIZE, SIZE, 3), np.uint8)
            for name in ("train", "predict")
        )
        masks = (images[..., :1] > 240).astype(np.uint8)
        folded = fold(self.net, unet)
        self.steps: dict[str, Callable[[], Any]] = {
            "train": lambda: self.net.train_on_batch(images, masks),
            "predict": lambda: folded.predict_on_batch(others),
        }
        if backend_name() == "jax":
            self.steps = jax_steps(self.net, folded, images, masks, others)

    def seconds(self, what: str, steps: int) -> float:
        """The duration of `steps` training steps or forward passes."""
        start = time.perf_counter()
        for _ in range(steps):
            answer = self.steps[what]()
        if backend_name() == "jax":
            answer.block_until_ready()
        return time.perf_counter() - start


def jax_steps(
    net: keras.Model, folded: keras.Model, *arrays: np.ndarray
) -> dict[str, Callable[[], Any]]:
    """The same steps, compiled; `net` loses its weights."""
    import jax

    images, masks, others = map(jax.device_put, arrays)
    net.optimizer.build(net.trainable_variables)
    net.compute_metrics(None, masks, np.zeros(masks.shape, np.float32))
    state: Any = [
        [jax.numpy.array(variable.value) for variable in variables]
        for variables in (
            net.trainable_variables, net.non_trainable_variables, net.optimizer.variables,
            net.metrics_variables,
        )
    ]  # fmt: skip
    weights = [
        [variable.value for variable in variables]
        for variables in (folded.trainable_variables, folded.non_trainable_variables)
    ]
    step = jax.jit(net.train_step, donate_argnums=0)
    forward = jax.jit(lambda weights, images: folded.stateless_call(*weights, images)[0])

    def train() -> Any:
        nonlocal state
        logs, state = step(state, (images, masks))
        return logs["loss"]

    return {"train": train, "predict": lambda: forward(weights, others)}
