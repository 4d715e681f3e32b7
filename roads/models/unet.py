"""The U-Net (Ronneberger et al. 2015), as in the article that the project is based on."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.models.encoders import build_encoder, preprocess
from roads.models.initial_weights import GlorotUniform, HeNormal
from roads.models.layers import BatchNormalization, Conv2DTranspose, MaxPooling2D
from roads.models.layers import Conv2D as PointwiseConv2D
from roads.params.unet import PRETRAINED, UnetParams

CONVOLUTION, NORMALIZATION = "_convolution", "_normalization"  # suffixes of layer names

# Weights trained with one value of these cannot be used with another.
ARCHITECTURE = ("filters", "depth", "activation", "normalization", "encoder")


def build_unet(params: UnetParams, precision: str = "float32", seed: int = 0) -> keras.Model:
    """Build a U-Net with random weights.

    Each level has two 3×3 convolutions with dropout between them, each followed by batch
    normalization and the activation. Levels are connected by 2×2 max pooling in the encoder, by
    2×2 transposed convolutions of stride 2 in the decoder, and by skip connections. The encoder
    `residual` adds a 1×1 convolution of its input to each level's output (He et al. 2016). The
    pretrained one replaces the encoder from stride 2 on; the two convolutions at full resolution
    are kept, or thin roads would lose their edges.

    Args:
        params: the net's architecture; `filters` double from level to level.
        precision: Keras dtype policy of the convolutions. Scaling of the input, the head and
            its sigmoid stay float32.
        seed: of the weights; the same seed gives the same weights on every backend, except for
            the pretrained encoder.

    Returns:
        A model from images (n, height, width, 3) of 0..255, uint8 or float, to the
        probability of road (n, height, width, 1), float32. Height and width are multiples of
        `size_step(params)`.
    """
    blocks = _Blocks(params, keras.dtype_policies.DTypePolicy(precision), seed)
    image = keras.Input((None, None, 3), name="image")
    x = keras.layers.Rescaling(1 / 255, dtype="float32", name="scale")(image)
    if params.encoder == PRETRAINED:
        skips = [blocks.double_convolution(x, 0, "down1")]
        encoder = build_encoder(params.depth, blocks.policy, params.momentum, next(blocks.seeds))
        features = encoder(preprocess(image))
        features = features if isinstance(features, list) else [features]
        skips, x = [*skips, *features[:-1]], features[-1]
    else:
        skips = []
        for level in range(params.depth - 1):
            skips.append(blocks.down(x, level, f"down{level + 1}"))
            x = MaxPooling2D(dtype=blocks.policy, name=f"down{level + 1}_pool")(skips[-1])
        x = blocks.down(x, params.depth - 1, "bottom")
    for level in reversed(range(params.depth - 1)):
        x = blocks.up(x, skips[level], level, f"up{level + 1}")
        x = blocks.double_convolution(x, level, f"up{level + 1}")
    head = PointwiseConv2D(
        1, 1, activation="sigmoid", kernel_initializer=blocks.glorot(), dtype="float32", name="head"
    )
    return keras.Model(image, head(x), name="unet")


def layers_of(model: keras.Model, kind: type[keras.layers.Layer]) -> list[Any]:
    """The layers of a class in order, including those of nested models."""
    found: list[Any] = []
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            found += layers_of(layer, kind)
        elif isinstance(layer, kind):
            found.append(layer)
    return found


class _Blocks:
    """The repeated parts of the net, which share a sequence of seeds."""

    def __init__(self, params: UnetParams, policy: keras.dtype_policies.DTypePolicy, seed: int):
        self.params, self.policy = params, policy
        self.seeds = _seeds(seed)

    def glorot(self) -> keras.Initializer:
        return GlorotUniform(next(self.seeds))

    def double_convolution(self, x: Any, level: int, name: str) -> Any:
        x = self._convolution(x, level, f"{name}_1")
        rate = self.params.dropout * (1 + level // 2)  # the article's: 0.1, 0.1, 0.2, 0.2, 0.3
        if rate > 0:
            x = keras.layers.Dropout(
                rate, seed=next(self.seeds), dtype=self.policy, name=f"{name}_dropout"
            )(x)
        return self._convolution(x, level, f"{name}_2")

    def down(self, x: Any, level: int, name: str) -> Any:
        y = self.double_convolution(x, level, name)
        if self.params.encoder != "residual":
            return y
        past = PointwiseConv2D(
            self.params.filters * 2**level,
            1,
            kernel_initializer=self.glorot(),
            dtype=self.policy,
            name=f"{name}_shortcut",
        )
        return keras.layers.Add(dtype=self.policy, name=f"{name}_add")([y, past(x)])

    def _convolution(self, x: Any, level: int, name: str) -> Any:
        x = keras.layers.Conv2D(
            self.params.filters * 2**level,
            3,
            padding="same",
            kernel_initializer=HeNormal(next(self.seeds)),
            dtype=self.policy,
            name=name + CONVOLUTION,
        )(x)
        if self.params.normalization == "batch":
            x = BatchNormalization(
                momentum=self.params.momentum, dtype=self.policy, name=name + NORMALIZATION
            )(x)
        return keras.layers.Activation(
            self.params.activation, dtype=self.policy, name=f"{name}_{self.params.activation}"
        )(x)

    def up(self, x: Any, skip: Any, level: int, name: str) -> Any:
        larger = Conv2DTranspose(
            self.params.filters * 2**level,
            2,
            strides=2,
            kernel_initializer=self.glorot(),
            dtype=self.policy,
            name=f"{name}_enlarge",
        )
        return keras.layers.Concatenate(dtype=self.policy, name=f"{name}_skip")([larger(x), skip])


def _seeds(seed: int) -> Iterator[int]:
    draw = np.random.default_rng(seed)
    while True:
        yield int(draw.integers(2**31))
