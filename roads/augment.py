"""Augmentation: crops flipped, turned, recoloured and cut anew in every epoch.

What happens to a crop is drawn by numpy from (seed, epoch, its row in the pack), so that it
depends neither on the backend nor on the batches; it is done by keras.ops, in the same way in
tf.data's threads, in a compiled loop on a GPU, or by hand.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from roads.backend import keras
from roads.params import Section

ops = keras.ops
STREAM = 2  # tells these draws from those of the order and of dropout, of the same seed and epoch


class AugmentParams(Section):
    """The section `augment:` of params.yaml."""

    flips: bool
    turns: bool
    brightness: float = Field(ge=0, lt=1)
    contrast: float = Field(ge=0, lt=1)
    gamma: float = Field(ge=0, lt=1)
    saturation: float = Field(ge=0, le=1)
    window: int | None = Field(ge=1)

    @property
    def moves(self) -> bool:
        """Whether pixels change places."""
        return self.flips or self.turns or self.window is not None

    @property
    def tones(self) -> bool:
        """Whether every value of an image is mapped to another."""
        return self.brightness > 0 or self.contrast > 0 or self.gamma > 0

    @property
    def active(self) -> bool:
        """Whether anything is augmented at all."""
        return self.moves or self.tones or self.saturation > 0


class Drawn(NamedTuple):
    """What happens to each of n crops, all (n,): int32 the first five, float32 the others.

    A window at `top` and `left` is cut out, transposed, turned upside down and mirrored, each
    where the number is 1. `brightness` is added to values from 0 to 1; `contrast` multiplies
    their distance from the image's mean, `saturation` that from their grey; `gamma` is an
    exponent.
    """

    top: Any
    left: Any
    transposed: Any
    upside_down: Any
    mirrored: Any
    brightness: Any
    contrast: Any
    gamma: Any
    saturation: Any

    def of(self, rows: NDArray[np.integer]) -> Self:
        """Those of some of the crops."""
        return type(self)(*(values[rows] for values in self))


def draw(params: AugmentParams, size: int, count: int, seed: int, epoch: int) -> Drawn:
    """Draw what happens to the `count` crops of a pack, `size` pixels wide, in an epoch.

    Row i is the same however many rows there are. Only sums and products of uniform numbers, so
    every processor draws the same bits.
    """
    uniform = np.random.default_rng([seed, epoch, STREAM]).random((count, len(Drawn._fields)))
    room = size - (params.window or size) + 1
    top, left = (np.floor(uniform[:, place] * room).astype(np.int32) for place in (0, 1))
    turn = np.floor(uniform[:, 2] * 4).astype(np.int32) * params.turns  # quarters
    flips = (uniform[:, (3, 4)] < 0.5) & params.flips
    transposed = turn % 2
    upside_down = np.int32(flips[:, 0]) ^ (turn // 2)
    mirrored = np.int32(flips[:, 1]) ^ (turn // 2) ^ transposed
    either_way = 2 * uniform[:, 5:] - 1  # from -1 to 1
    brightness, contrast, gamma, saturation = (
        np.float32(either_way[:, place] * most)
        for place, most in enumerate(
            (params.brightness, params.contrast, params.gamma, params.saturation)
        )
    )
    return Drawn(
        top, left, transposed, upside_down, mirrored, brightness, 1 + contrast, 1 + gamma,
        1 + saturation,
    )  # fmt: skip


def augment(images: Any, masks: Any, drawn: Drawn, params: AugmentParams) -> tuple[Any, Any]:
    """Do to a batch what was drawn for it.

    Args:
        images: (n, size, size, 3) uint8.
        masks: (n, size, size, 1) uint8.
        drawn: for these n crops.
        params: what is on; what is off costs nothing.

    Returns:
        Images and masks, uint8 tensors; (n, window, window, …) where there is a window.
    """
    images, masks = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
    drawn = Drawn(*map(ops.convert_to_tensor, drawn))
    if params.moves:
        images, masks = _move(images, masks, drawn, params.window)
    if params.tones or params.saturation > 0:
        images = _recolour(images, drawn, params)
    return images, masks


def _move(images: Any, masks: Any, drawn: Drawn, window: int | None) -> tuple[Any, Any]:
    """Window, turns and flips in one: every pixel of the result is fetched from its place."""
    size = images.shape[1]
    side = window or size
    ahead = ops.arange(side, dtype="int32")[None]
    y = ops.where(drawn.upside_down[:, None] == 1, side - 1 - ahead, ahead)
    x = ops.where(drawn.mirrored[:, None] == 1, side - 1 - ahead, ahead)
    transposed = drawn.transposed[:, None] == 1
    down, across = ops.where(transposed, 1, size), ops.where(transposed, size, 1)
    crop = ops.cumsum(ops.ones_like(drawn.top)) - 1
    corner = (crop * size + drawn.top) * size + drawn.left
    places = corner[:, None, None] + (y * down)[:, :, None] + (x * across)[:, None, :]
    pixels = ops.reshape(ops.concatenate([images, masks], axis=-1), (-1, 4))
    moved = ops.reshape(ops.take(pixels, places, axis=0), (-1, side, side, 4))
    return moved[..., :3], moved[..., 3:]


def _recolour(images: Any, drawn: Drawn, params: AugmentParams) -> Any:
    """Tones by a table of 256 values for each image, then saturation; rounded to uint8."""
    brightness, contrast, gamma, saturation = (ops.reshape(values, (-1, 1)) for values in drawn[5:])
    values = ops.arange(256, dtype="float32")[None] / 255
    table = values + ops.zeros_like(brightness)
    if params.tones:
        mean = ops.mean(ops.cast(images, "float32"), axis=(1, 2, 3))[:, None] / 255
        table = ops.clip((values - mean) * contrast + mean + brightness, 0, 1) ** gamma
    table = ops.reshape(table * 255, (-1,))
    crop = ops.cumsum(ops.ones_like(drawn.top)) - 1
    places = ops.cast(images, "int32") + 256 * crop[:, None, None, None]
    if params.saturation == 0:
        return ops.take(ops.cast(ops.round(table), "uint8"), places, axis=0)
    colours = ops.take(table, places, axis=0)
    grey = ops.mean(colours, axis=-1, keepdims=True)
    colours = grey + (colours - grey) * saturation[:, :, None, None]
    return ops.cast(ops.round(ops.clip(colours, 0, 255)), "uint8")
