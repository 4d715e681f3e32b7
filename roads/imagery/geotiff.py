"""Reads a GeoTIFF's position from its tags, without GDAL."""

import contextlib
import math
from pathlib import Path

from PIL import Image

from roads.imagery.pictures import WAY_OUT, decoding

SCALE, TIE_POINT, MATRIX = 33550, 33922, 34264  # OGC GeoTIFF 1.1, requirements class 7


def pixels_apart(first: Path, second: Path) -> float:
    """The distance between the upper left corners of two pictures, in pixels of the first.

    0 if one of them is not a GeoTIFF. Coordinates are compared without regard to their systems.

    Raises:
        UserError: a picture is broken.
    """
    places = [_corner(path) for path in (first, second)]
    if None in places:
        return 0.0
    (x, y, size), (other_x, other_y, _) = filter(None, places)
    return math.hypot(other_x - x, other_y - y) / size


def _corner(path: Path) -> tuple[float, float, float] | None:
    """Coordinates of the upper left corner, and the width of a pixel in their units."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return None
    with decoding(path, WAY_OUT), Image.open(path) as picture:
        tags = getattr(picture, "tag_v2", {})
        with contextlib.suppress(KeyError, TypeError, ValueError, IndexError):
            if MATRIX in tags:
                a, _, _, x, d, _, _, y = map(float, tags[MATRIX][:8])
                size = math.hypot(a, d)
            else:
                column, row, _, x, y, _ = map(float, tags[TIE_POINT][:6])
                size, height = map(float, tags[SCALE][:2])
                x, y = x - column * size, y + row * height
            if size > 0 and math.isfinite(x + y):
                return x, y, size
    return None
