"""Augmentation: crops are flipped, rotated, scaled, recoloured and cut at random every epoch.

The random values for a crop are drawn by numpy from (seed, epoch, its row in the pack), so they
depend neither on the backend nor on the batches. They are applied by keras.ops, either in tf.data's
threads or in a compiled loop on a GPU.
"""

from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from roads.models.backend import keras
from roads.params.augment import AugmentParams
from roads.training.losses import IGNORED

ops = keras.ops
STREAM = 2  # separates these draws from those of the crop order and of dropout
DRAWS = 12  # uniform random numbers per crop
RESAMPLED = 0.5  # fraction of crops rotated and scaled, which blurs them; the others stay sharp
MISSING = 255  # white: the value of pixels outside the crop


class Drawn(NamedTuple):
    """Random values for each of n crops, all (n,): the first five int32, the others float32.

    A window at (`top`, `left`) is cut out, and then transposed, flipped vertically and mirrored,
    each if its number is 1. If crops are rotated or scaled, the window is centred on
    (`middle_y`, `middle_x`) instead, in pixels from the centre of the first pixel; `cosine` and
    `sine` are those of the rotation, times the number of crop pixels per window pixel.
    `brightness` is added to values from 0 to 1; `contrast` multiplies their distance from the
    image's mean, `saturation` their distance from grey; `gamma` is an exponent.
    """

    top: Any
    left: Any
    transposed: Any
    upside_down: Any
    mirrored: Any
    middle_y: Any
    middle_x: Any
    cosine: Any
    sine: Any
    brightness: Any
    contrast: Any
    gamma: Any
    saturation: Any

    def of(self, rows: NDArray[np.integer]) -> Self:
        """The values of some of the crops."""
        return type(self)(*(values[rows] for values in self))


def draw(params: AugmentParams, size: int, count: int, seed: int, epoch: int) -> Drawn:
    """Draw the random values for `count` crops, `size` pixels wide, in an epoch.

    If rotation or scaling is on, it applies to the fraction RESAMPLED of the crops. Row i does not
    depend on `count`. Every processor draws the same bits: only sums and products of uniform
    numbers are used, and sines rounded from float64 to float32.
    """
    uniform = np.random.default_rng([seed, epoch, STREAM]).random((count, DRAWS))
    room = size - (params.window or size) + 1
    top, left = (np.floor(uniform[:, place] * room).astype(np.int32) for place in (0, 1))
    turn = np.floor(uniform[:, 2] * 4).astype(np.int32) * params.turns  # in quarter turns
    flips = (uniform[:, (3, 4)] < 0.5) & params.flips
    transposed = turn % 2
    upside_down = np.int32(flips[:, 0]) ^ (turn // 2)
    mirrored = np.int32(flips[:, 1]) ^ (turn // 2) ^ transposed
    either_way = 2 * uniform[:, 5:] - 1  # from -1 to 1
    resampled = uniform[:, 11] < RESAMPLED
    angle = np.deg2rad(either_way[:, 4] * params.rotation)
    larger = 1 + np.abs(either_way[:, 5]) * params.scale
    covered = np.where(either_way[:, 5] > 0, larger, 1 / larger)
    cosine = np.where(resampled, np.cos(angle) * covered, 1)
    sine = np.where(resampled, np.sin(angle) * covered, 0)
    half = ((params.window or size) - 1) / 2
    reach = (np.abs(cosine) + np.abs(sine)) * half
    slack = np.maximum(size - 1 - 2 * reach, 0)  # how far the centre may move within the crop
    middle_y, middle_x = (
        np.float32(
            np.where(resampled, (size - 1) / 2 + (uniform[:, place] - 0.5) * slack, corner + half)
        )
        for place, corner in enumerate((top, left))
    )
    brightness, contrast, gamma, saturation = (
        np.float32(either_way[:, place] * most)
        for place, most in enumerate(
            (params.brightness, params.contrast, params.gamma, params.saturation)
        )
    )
    return Drawn(
        top, left, transposed, upside_down, mirrored, middle_y, middle_x, np.float32(cosine),
        np.float32(sine), brightness, 1 + contrast, 1 + gamma, 1 + saturation,
    )  # fmt: skip


def augment(images: Any, masks: Any, drawn: Drawn, params: AugmentParams) -> tuple[Any, Any]:
    """Augment a batch with its random values.

    Args:
        images: (n, size, size, 3) uint8.
        masks: (n, size, size, 1) uint8.
        drawn: for these n crops.
        params: which augmentations are on; those that are off cost nothing.

    Returns:
        Images and masks, uint8 tensors; (n, window, window, …) if there is a window. Pixels
        from outside the crop are white, and IGNORED in the mask.
    """
    images, masks = ops.convert_to_tensor(images), ops.convert_to_tensor(masks)
    drawn = Drawn(*map(ops.convert_to_tensor, drawn))
    if params.resamples:
        images, masks = _resample(images, masks, drawn, params.window)
    elif params.moves:
        images, masks = _move(images, masks, drawn, params.window)
    if params.tones or params.saturation > 0:
        images = _recolour(images, drawn, params)
    return images, masks


def _move(images: Any, masks: Any, drawn: Drawn, window: int | None) -> tuple[Any, Any]:
    """Apply window, turns and flips in one step: gather every pixel of the result."""
    size = images.shape[1]
    side = window or size
    y, x = _flipped(drawn, side)
    transposed = drawn.transposed[:, None] == 1
    down, across = ops.where(transposed, 1, size), ops.where(transposed, size, 1)
    corner = (_numbers(drawn) * size + drawn.top) * size + drawn.left
    places = corner[:, None, None] + (y * down)[:, :, None] + (x * across)[:, None, :]
    moved = ops.reshape(ops.take(_pixels(images, masks), places, axis=0), (-1, side, side, 4))
    return moved[..., :3], moved[..., 3:]


def _resample(images: Any, masks: Any, drawn: Drawn, window: int | None) -> tuple[Any, Any]:
    """As `_move`, with rotation and scaling: bilinear for images, nearest pixel for masks."""
    size = images.shape[1]
    side = window or size
    y, x = (ops.cast(places, "float32") - (side - 1) / 2 for places in _flipped(drawn, side))
    y, x = y[:, :, None], x[:, None, :]
    transposed = drawn.transposed[:, None, None] == 1
    y, x = ops.where(transposed, x, y), ops.where(transposed, y, x)
    middle_y, middle_x, cosine, sine = (values[:, None, None] for values in drawn[5:9])
    y, x = middle_y + y * cosine - x * sine, middle_x + y * sine + x * cosine
    pixels, crop = _pixels(images, masks), _numbers(drawn)[:, None, None]

    def fetch(rows: Any, columns: Any) -> Any:
        rows, columns = (
            ops.cast(ops.clip(places, 0, size - 1), "int32") for places in (rows, columns)
        )
        places = (crop * size + rows) * size + columns
        return ops.reshape(ops.take(pixels, places, axis=0), (-1, side, side, 4))

    above, before = ops.floor(y), ops.floor(x)
    lower, later = (y - above)[..., None], (x - before)[..., None]

    def between(rows: Any) -> Any:
        left, right = (
            ops.cast(fetch(rows, columns)[..., :3], "float32") for columns in (before, before + 1)
        )
        return left * (1 - later) + right * later

    mixed = between(above) * (1 - lower) + between(above + 1) * lower
    nearest = fetch(ops.floor(y + 0.5), ops.floor(x + 0.5))[..., 3:]
    outside = ((y < -0.5) | (y > size - 0.5) | (x < -0.5) | (x > size - 0.5))[..., None]
    return (
        ops.where(outside, MISSING, ops.cast(ops.round(mixed), "uint8")),
        ops.where(outside, IGNORED, nearest),
    )


def _flipped(drawn: Drawn, side: int) -> tuple[Any, Any]:
    """The rows and columns of the window, (n, side) int32, in reading order."""
    ahead = ops.arange(side, dtype="int32")[None]
    y = ops.where(drawn.upside_down[:, None] == 1, side - 1 - ahead, ahead)
    x = ops.where(drawn.mirrored[:, None] == 1, side - 1 - ahead, ahead)
    return y, x


def _numbers(drawn: Drawn) -> Any:
    """The index of each crop in the batch, (n,) int32."""
    return ops.cumsum(ops.ones_like(drawn.top)) - 1


def _pixels(images: Any, masks: Any) -> Any:
    """All pixels of a batch as rows, (n × size × size, 4): red, green, blue, mask."""
    return ops.reshape(ops.concatenate([images, masks], axis=-1), (-1, 4))


def _recolour(images: Any, drawn: Drawn, params: AugmentParams) -> Any:
    """Apply tones by a table of 256 values per image, then saturation; round to uint8."""
    brightness, contrast, gamma, saturation = (ops.reshape(values, (-1, 1)) for values in drawn[9:])
    values = ops.arange(256, dtype="float32")[None] / 255
    table = values + ops.zeros_like(brightness)
    if params.tones:
        mean = ops.mean(ops.cast(images, "float32"), axis=(1, 2, 3))[:, None] / 255
        table = ops.clip((values - mean) * contrast + mean + brightness, 0, 1) ** gamma
    table = ops.reshape(table * 255, (-1,))
    places = ops.cast(images, "int32") + 256 * _numbers(drawn)[:, None, None, None]
    if params.saturation == 0:
        return ops.take(ops.cast(ops.round(table), "uint8"), places, axis=0)
    colours = ops.take(table, places, axis=0)
    grey = ops.mean(colours, axis=-1, keepdims=True)
    colours = grey + (colours - grey) * saturation[:, :, None, None]
    return ops.cast(ops.round(ops.clip(colours, 0, 255)), "uint8")
