"""The `sample` source: synthetic tiles like the real ones, generated from a seed."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from roads.dataset.tiles import Tile, stored_file, stored_path
from roads.parallel.pool import in_order
from roads.runtime.arrays import Image8
from roads.runtime.files import replacing
from roads.runtime.names import SPLITS
from roads.sources.scenery.brushes import Canvas
from roads.sources.scenery.curves import Point, between
from roads.sources.scenery.image import draw_image
from roads.sources.scenery.plan import Plan
from roads.sources.scenery.streets import make_plan

ROAD_WIDTH = 7  # pixels; the published maps draw every road as a line of this width
MAP_FINER = 4  # the map is drawn this many times finer than its pixels, for grey edges

# Training tiles, counted from 0, whose imagery is partly missing, and the fraction that is.
MISSING = {1: 0.36, 2: 0.075}
COLUMNS = 60  # of the invented grid of tile names
PITCH = 15  # of that grid, as in the real names: steps of 15


@dataclass(frozen=True)
class _Order:
    """One tile to generate: everything its bytes depend on, and where to write it."""

    raw: Path
    seed: int
    size: int
    split: str
    number: int  # within its split

    @property
    def name(self) -> str:
        """Four digits east, four digits north, `_15`: like real names, but outside their area."""
        row, column = divmod(self.number, COLUMNS)
        north = 1005 + PITCH * (len(SPLITS) * row + SPLITS.index(self.split))
        return f"{4005 + PITCH * column}{north}_15"


def fetch(raw: Path, *, seed: int, size: int, train: int, valid: int, test: int) -> list[Tile]:
    """Generate the tiles of each split and write them in the layout of the real ones.

    A tile depends only on the seed, the size, its split and its number in the split. The second
    training tile lacks over a quarter of its imagery (pure white), the third a little of it.

    Args:
        raw: folder that gets `{split}/sat/NAME.tiff` (RGB) and `{split}/map/NAME.tif` (grey).
        seed: any number from 0; each seed gives different places.
        size: side of a tile in pixels (and metres), at least 256.
        train, valid, test: number of tiles in each split.
    """
    counts = {"train": train, "valid": valid, "test": test}
    orders = [
        _Order(raw.absolute(), seed, size, split, number)
        for split in SPLITS
        for number in range(counts[split])
    ]
    return list(in_order(_make_tile, orders, "generating tiles"))


def _make_tile(order: _Order) -> Tile:
    image, map_ = generate(order.seed, order.size, order.split, order.number)
    stored = []
    for kind, suffix, pixels in (("sat", ".tiff", image), ("map", ".tif", map_)):
        path = stored_path(order.split, kind, order.name, suffix)
        with replacing(order.raw / path) as partial:
            # No compression: a compressor's bytes may change with its version.
            Image.fromarray(pixels).save(partial, format="TIFF")
        stored.append(stored_file(order.raw, path))
    return Tile(order.name, order.split, *stored)


def generate(seed: int, size: int, split: str, number: int) -> tuple[Image8, Image8]:
    """Generate a tile: its image (size, size, 3) and its map (size, size), uint8."""
    rng = _generator(seed, split, number)
    plan = make_plan(rng, size)
    image = draw_image(rng, plan)
    if split == "train" and number in MISSING:
        image = _without_part(rng, image, MISSING[number])
    return image, draw_map(plan)


def _generator(seed: int, split: str, number: int) -> np.random.Generator:
    return np.random.default_rng([seed, SPLITS.index(split), number])


def draw_map(plan: Plan) -> Image8:
    """Draw a road map like published ones: 7-pixel lines, some roads missing, some a pixel off.

    Returns:
        (size, size) uint8, 255 on roads, grey at their edges.
    """
    canvas = Canvas(Image.new("L", (plan.size * MAP_FINER,) * 2), MAP_FINER)
    for road in plan.roads:
        if road.mapped:
            points = [(x + road.shift[0], y + road.shift[1]) for x, y in road.points]
            canvas.line(points, ROAD_WIDTH, 255)
    return np.asarray(canvas.picture.reduce(MAP_FINER))


def _without_part(rng: np.random.Generator, image: Image8, fraction: float) -> Image8:
    """Make a side of the image white, along a slanted edge, as at the end of a flight line."""
    size = len(image)
    slant = between(rng, -0.6, 0.6) * min(fraction, 1 - fraction)
    corners: list[Point] = [
        (0, 0), ((fraction - slant) * size, 0), ((fraction + slant) * size, size), (0, size),
    ]  # fmt: skip
    if rng.random() < 0.5:
        corners = [(size - x, y) for x, y in corners]
    picture = Image.fromarray(image)
    Canvas(picture, 1).polygon(corners, (255, 255, 255))
    return np.asarray(picture)
