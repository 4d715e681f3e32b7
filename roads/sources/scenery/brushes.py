"""Drawing with simple arithmetic, for the same bytes on every processor.

It uses only integers, square roots, products, sums, and Pillow's polygons, ellipses and resizing:
no function whose last bits depend on the processor or the C library (exp, log, sin, float sums).
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from roads.sources.scenery.curves import Point, left_of, move, towards

Colour = tuple[int, int, int]
Ink = int | Colour
Levels = NDArray[np.int16]


class Canvas:
    """Draws in tile coordinates on a picture that is `scale` times finer.

    Reducing the picture by `scale` afterwards gives antialiased edges.
    """

    def __init__(self, picture: Image.Image, scale: int):
        self.picture, self.scale = picture, scale
        self._draw = ImageDraw.Draw(picture)

    def polygon(self, corners: Sequence[Point], ink: Ink) -> None:
        """Fill a polygon."""
        scale = self.scale
        self._draw.polygon([(round(x * scale), round(y * scale)) for x, y in corners], fill=ink)

    def disc(self, centre: Point, radius: float, ink: Ink) -> None:
        """Fill a circle."""
        x, y, r = (round(value * self.scale) for value in (*centre, radius))
        self._draw.ellipse((x - r, y - r, x + r, y + r), fill=ink)

    def line(self, points: Sequence[Point], width: float, ink: Ink) -> None:
        """Draw a polyline with round joints and ends."""
        # Pillow also fills a polygon's border, which would widen the line by one fine pixel.
        half = width / 2 - 0.5 / self.scale
        for start, end in pairwise(points):
            side = left_of(towards(start, end))
            corners = ((start, half), (end, half), (end, -half), (start, -half))
            self.polygon([move(point, side, distance) for point, distance in corners], ink)
        if width * self.scale >= 4:
            for point in points:
                self.disc(point, half, ink)


def value_noise(rng: np.random.Generator, size: int, cell: int) -> Levels:
    """Smooth noise with features of about `cell` pixels: (size, size) int16, -128 to 127."""
    cells = size // cell + 4
    coarse = rng.integers(0, 256, (cells, cells), dtype=np.uint8)
    if cell > 1:
        picture = Image.fromarray(coarse).resize((cells * cell,) * 2, Image.Resampling.BICUBIC)
        coarse = np.asarray(picture)
    return coarse[cell : cell + size, cell : cell + size].astype(np.int16) - 128


def fine_noise(rng: np.random.Generator, shape: tuple[int, ...], amplitude: int) -> Levels:
    """Noise of single pixels, int16, with a triangular distribution up to ± `amplitude`."""
    pair = rng.integers(0, amplitude + 1, (2, *shape), dtype=np.int16)
    return pair[0] - pair[1]


def clipped(levels: Levels) -> NDArray[np.uint8]:
    """Levels as uint8, clipped to 0 and 255."""
    return np.clip(levels, 0, 255).astype(np.uint8)
