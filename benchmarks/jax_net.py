"""The article's U-Net in plain JAX, run by `gpu_speed` in a process of its own.

Reads lines `train N` and `predict N` from standard input, runs so many steps on random crops that
lie on the device, and answers each with the seconds they took; the first time it compiles, too.
It imports nothing of the project.
"""

import argparse
import functools
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

LEVELS = 5
SHARES = (1, 1, 2, 2, 3)  # of the dropout, level by level
MOMENTUM, EPSILON = 0.9, 1e-3  # of batch normalization
RATE, FIRST, SECOND, TINY = 1e-3, 0.9, 0.999, 1e-7  # Adam, as Keras has it

Arrays = dict[str, dict[str, jax.Array]]  # by layer


class State(NamedTuple):
    """Weights, running statistics, Adam's two moments of each weight, and the steps done."""

    weights: Arrays
    statistics: Arrays
    first: Arrays
    second: Arrays
    step: jax.Array


def kernels(filters: int) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    """Name and shape of each kernel: (height, width, in, out); for `enlarge` out comes first."""
    widths = [filters * 2**level for level in range(LEVELS)]
    names = [*(f"down{level + 1}" for level in range(LEVELS - 1)), "bottom"]
    for name, before, width in zip(names, [3, *widths], widths, strict=False):
        yield f"{name}_1", (3, 3, before, width)
        yield f"{name}_2", (3, 3, width, width)
    for level in reversed(range(LEVELS - 1)):
        width = widths[level]
        yield f"up{level + 1}_enlarge", (2, 2, width, 2 * width)
        yield f"up{level + 1}_1", (3, 3, 2 * width, width)
        yield f"up{level + 1}_2", (3, 3, width, width)
    yield "head", (1, 1, filters, 1)


def fresh_state(filters: int, seed: int = 0) -> State:
    """A net that has learned nothing yet, all float32; its kernels normal after He et al. 2015."""
    draw = np.random.default_rng(seed)
    weights: dict[str, Any] = {}
    statistics: dict[str, Any] = {}
    for name, shape in kernels(filters):
        width, before = shape[2:] if name.endswith("enlarge") else shape[:1:-1]
        kernel = draw.normal(0, np.sqrt(2 / (shape[0] * shape[1] * before)), shape)
        zeros, ones = np.zeros(width, np.float32), np.ones(width, np.float32)
        weights[name] = {"kernel": kernel.astype(np.float32), "bias": zeros}
        if shape[0] == 3:
            weights[name] |= {"gamma": ones, "beta": zeros}
            statistics[name] = {"mean": zeros, "variance": ones}
    moments = jax.tree.map(np.zeros_like, weights)
    return jax.tree.map(jnp.array, State(weights, statistics, moments, moments, jnp.int32(0)))


def count_parameters(state: State) -> int:
    """As Keras counts: with the running statistics of batch normalization."""
    return sum(array.size for array in jax.tree.leaves((state.weights, state.statistics)))


def forward(
    weights: Arrays,
    statistics: Arrays,
    images: jax.Array,
    dtype: Any,
    dropout: float = 0.0,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Arrays]:
    """Predict; with a `key`, which draws the dropout, as in training.

    Args:
        images: (n, height, width, 3) of 0..255.
        dtype: of the convolutions.

    Returns:
        Probabilities (n, height, width, 1), float32, and what the statistics become.
    """
    seen: Arrays = {}

    def convolve(x: jax.Array, name: str) -> jax.Array:
        layer = weights[name]
        kernel, bias = layer["kernel"].astype(dtype), layer["bias"].astype(dtype)
        layout = ("NHWC", "HWIO", "NHWC")
        x = lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=layout) + bias
        exact = x.astype(jnp.float32)
        running = statistics[name]
        if key is None:
            mean, variance = running["mean"], running["variance"]
        else:
            mean = exact.mean((0, 1, 2))
            variance = (exact**2).mean((0, 1, 2)) - mean**2
            found = {"mean": mean, "variance": variance}
            seen[name] = jax.tree.map(
                lambda old, new: MOMENTUM * old + (1 - MOMENTUM) * new, running, found
            )
        scale = layer["gamma"] * lax.rsqrt(variance + EPSILON)
        return jax.nn.elu((exact * scale + (layer["beta"] - mean * scale)).astype(dtype))

    def double(x: jax.Array, name: str, level: int) -> jax.Array:
        x = convolve(x, f"{name}_1")
        rate = dropout * SHARES[level]
        if key is not None and rate > 0:
            kept = jax.random.bernoulli(jax.random.fold_in(key, len(seen)), 1 - rate, x.shape)
            x = jnp.where(kept, x / (1 - rate), 0).astype(dtype)
        return convolve(x, f"{name}_2")

    x = (images.astype(jnp.float32) / 255).astype(dtype)
    skips = []
    for level in range(LEVELS - 1):
        skips.append(double(x, f"down{level + 1}", level))
        x = pool(skips[-1])
    x = double(x, "bottom", LEVELS - 1)
    for level in reversed(range(LEVELS - 1)):
        larger = weights[f"up{level + 1}_enlarge"]
        x = lax.conv_transpose(
            x,
            larger["kernel"].astype(dtype),
            (2, 2),
            "VALID",
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            transpose_kernel=True,
        )
        x = jnp.concatenate([x + larger["bias"].astype(dtype), skips[level]], axis=-1)
        x = double(x, f"up{level + 1}", level)
    head = weights["head"]
    logits = x.astype(jnp.float32) @ head["kernel"][0, 0] + head["bias"]
    return jax.nn.sigmoid(logits), seen or statistics


def pool(x: jax.Array) -> jax.Array:
    """The largest of each 2×2 pixels, in a way whose gradient XLA fuses."""
    n, height, width, channels = x.shape
    return x.reshape(n, height // 2, 2, width // 2, 2, channels).max((2, 4))


def soft_dice(masks: jax.Array, predicted: jax.Array) -> jax.Array:
    """As `roads.training.losses.soft_dice`."""
    return 1 - (2 * (masks * predicted).sum() + 1) / (masks.sum() + predicted.sum() + 1)


@functools.partial(
    jax.jit, static_argnames=("steps", "batch", "dtype", "dropout"), donate_argnames="state"
)
def train(
    state: State,
    images: jax.Array,
    masks: jax.Array,
    order: jax.Array,
    key: jax.Array,
    *,
    steps: int,
    batch: int,
    dtype: Any,
    dropout: float,
) -> tuple[State, jax.Array]:
    """So many steps of Adam in one call.

    Args:
        state: is used up.
        images, masks: all crops, (n, size, size, 3) and (n, size, size, 1) uint8.
        order: in which they come in batches, over and over; (n,) int32.
        key: draws the dropout.

    Returns:
        The state after them, and the loss of the last step.
    """

    def one(_: Any, before: tuple[State, jax.Array]) -> tuple[State, jax.Array]:
        state, _ = before
        rows = order[(state.step * batch + jnp.arange(batch)) % len(order)]
        pictures, wanted = images[rows], masks[rows].astype(jnp.float32)

        def loss(weights: Arrays) -> tuple[jax.Array, Arrays]:
            drawn = jax.random.fold_in(key, state.step)
            predicted, seen = forward(weights, state.statistics, pictures, dtype, dropout, drawn)
            return soft_dice(wanted, predicted), seen

        (value, seen), gradients = jax.value_and_grad(loss, has_aux=True)(state.weights)
        return adam(state, gradients)._replace(statistics=seen), value

    before = (state, jnp.float32(0))
    if steps == 1:
        return one(0, before)
    # With a number of steps that is known to XLA, the host need not ask the device each time.
    return lax.fori_loop(0, steps, one, before)


def adam(state: State, gradients: Arrays) -> State:
    """Kingma & Ba 2015, *Adam*, algorithm 1, in the order of section 2's last paragraph."""
    step = state.step + 1
    first = jax.tree.map(lambda m, g: FIRST * m + (1 - FIRST) * g, state.first, gradients)
    second = jax.tree.map(lambda v, g: SECOND * v + (1 - SECOND) * g**2, state.second, gradients)
    rate = RATE * jnp.sqrt(1 - SECOND**step) / (1 - FIRST**step)
    weights = jax.tree.map(
        lambda w, m, v: w - rate * m / (jnp.sqrt(v) + TINY), state.weights, first, second
    )
    return State(weights, state.statistics, first, second, step)


@functools.partial(jax.jit, static_argnames="dtype")
def predict(weights: Arrays, statistics: Arrays, images: jax.Array, dtype: Any) -> jax.Array:
    """Probabilities (n, height, width, 1), float32."""
    return forward(weights, statistics, images, dtype)[0]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--device", choices=("cpu", "cuda"), required=True)
    options.add_argument("--train-batch", type=int, required=True)
    options.add_argument("--predict-batch", type=int, required=True)
    options.add_argument("--crops", type=int, required=True, help="on the device, to train on")
    options.add_argument("--size", type=int, required=True, help="of a crop, in pixels")
    options.add_argument("--filters", type=int, required=True)
    options.add_argument("--dropout", type=float, required=True, help="at the first level")
    options.add_argument("--bfloat16", action="store_true")
    arguments = options.parse_args()
    jax.config.update("jax_platforms", arguments.device)
    state = fresh_state(arguments.filters)
    key = jax.random.key(0, impl="rbg")  # draws faster than JAX's usual one
    dtype = jnp.bfloat16 if arguments.bfloat16 else jnp.float32

    def crops(count: int) -> jax.Array:
        shape = (count, arguments.size, arguments.size, 3)
        return jax.random.randint(jax.random.key(1), shape, 0, 256, jnp.uint8)

    images, others = crops(arguments.crops), crops(arguments.predict_batch)
    masks = (images[..., :1] > 240).astype(jnp.uint8)
    order = jax.random.permutation(jax.random.key(2), jnp.arange(len(images)))
    device = jax.devices()[0]
    name = "CPU" if device.platform == "cpu" else device.device_kind
    answer({"parameters": count_parameters(state), "version": jax.__version__, "device": name})
    for line in sys.stdin:
        what, steps = line.split()
        start = time.perf_counter()
        if what == "train":
            # On a CPU XLA's convolutions are several times slower in a loop: jax-ml/jax#12868.
            calls, each = (int(steps), 1) if arguments.device == "cpu" else (1, int(steps))
            for _ in range(calls):
                state, loss = train(
                    state, images, masks, order, key, steps=each, batch=arguments.train_batch,
                    dtype=dtype, dropout=arguments.dropout,
                )  # fmt: skip
            loss.block_until_ready()
        else:
            for _ in range(int(steps)):
                found = predict(state.weights, state.statistics, others, dtype)
            found.block_until_ready()
        answer({"seconds": time.perf_counter() - start})


def answer(values: dict[str, Any]) -> None:
    print(json.dumps(values), flush=True)


if __name__ == "__main__":
    main()
