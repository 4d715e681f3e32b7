"""Finds missing imagery in a file: nodata, transparent or masked pixels, or a black collar.

The stages and `roads predict` agree on which pixels are missing, and make them white, as in the
Massachusetts tiles. `blank_mask` then finds areas at least as wide as its window.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roads.runtime.arrays import Bool, Image8

OPAQUE = 128  # of 255: palette colours with less alpha are missing
MASK_LIKE = 0.99  # in a mask, at least this fraction of alpha values is 0 or the maximum
COLLAR = 16  # pixels; a shorter run of black at an edge may be a shadow
NODATA = 42113  # GDAL's TIFF tag, the value as text
BITS, PHOTOMETRIC, WHITE_IS_ZERO = 258, 262, 0  # TIFF 6.0, pages 29 and 37


def black_collar(image: NDArray[Any]) -> Bool:
    """Where rows or columns begin or end with at least COLLAR pixels of 0 in every channel.

    This finds the triangles around a rotated orthophoto, and strips along any edge.

    Args:
        image: (height, width, channels), unsigned.

    Returns:
        (height, width) bool.
    """
    return black_ends(image) | black_ends(image.swapaxes(0, 1)).T


def black_ends(image: NDArray[Any]) -> Bool:
    """`black_collar` of rows only, for a picture that is read in parts."""
    height, width, _ = image.shape
    collar = np.zeros((height, width), np.bool_)
    ends: Bool = np.any(image[:, [0, -1]], axis=2)  # not black
    rows = np.flatnonzero(~ends.all(axis=1))
    lit: Bool = np.any(image[rows], axis=2)
    dark = ~lit.any(axis=1)
    shortest, column = min(COLLAR, width), np.arange(width)
    for seen, place in ((lit, column), (lit[:, ::-1], column[::-1])):
        run = np.where(dark, width, seen.argmax(axis=1))
        run[run < shortest] = 0
        collar[rows] |= place < run[:, None]
    return collar


def missing_pixels(picture: Image.Image, image: Image8, mask: Bool | None) -> Bool:
    """Where a decoded picture has no imagery.

    Args:
        picture: as Pillow decoded it.
        image: the same as RGB, (height, width, 3).
        mask: (height, width), true where the file's own mask has imagery; or None.

    Returns:
        (height, width) bool.
    """
    missing = black_collar(image) | without_value(picture, image, mask)
    if picture.has_transparency_data:
        alpha = alpha_of(picture)
        level = opaque_level(alpha) if "A" in picture.getbands() else OPAQUE
        if level is not None:
            missing |= alpha < level
    return missing


def opaque_level(alpha: NDArray[Any]) -> float | None:
    """The least value of an alpha band that means imagery; None if the band is not a mask.

    A band of more than two values may be infrared that the file calls alpha.
    """
    highest = alpha.max()
    two = (alpha == 0) | (alpha == highest)
    return max(highest, 1) / 2 if two.mean() >= MASK_LIKE else None


def without_value(picture: Image.Image, image: Image8, mask: Bool | None) -> Bool:
    """Where a decoded picture is nodata or masked out; arguments and result as `missing_pixels`."""
    missing = np.zeros(image.shape[:2], np.bool_) if mask is None else ~mask
    nodata = _nodata(picture)
    if nodata is not None:
        values = np.asarray(picture)[..., None] if picture.mode == "P" else image
        missing |= (values == nodata).all(axis=2)
    return missing


def alpha_of(picture: Image.Image) -> Image8:
    """The alpha of a picture that has transparency data, (height, width), 255 where opaque."""
    return np.asarray(picture.convert("RGBA").getchannel("A"))


def _nodata(picture: Image.Image) -> float | None:
    """GDAL's nodata value in a TIFF: a palette index or a grey level."""
    tags = getattr(picture, "tag_v2", {})
    try:
        value = float(tags[NODATA].split()[0])  # "0 0 0" is 0 to GDAL
    except (KeyError, AttributeError, IndexError, ValueError):
        return None
    if picture.mode == "P":
        return value
    # Pillow scales any number of bits to 8, and inverts if the file says that 0 is white.
    level = value * 255 / (2 ** tags.get(BITS, (1,))[0] - 1)
    return 255 - level if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else level
