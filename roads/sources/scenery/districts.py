"""Districts: a lattice of land uses, and the natural borders between them."""

import numpy as np
from numpy.typing import NDArray

from roads.sources.scenery.brushes import value_noise
from roads.sources.scenery.curves import between, pick, unit
from roads.sources.scenery.plan import District

DISTRICT = 300  # pixels between the centres of neighbouring districts
WEIGHTS = {"grid": 4, "bends": 8, "woods": 22, "field": 6, "town": 6, "park": 3, "lake": 2}
KINDS = tuple(kind for kind, weight in WEIGHTS.items() for _ in range(weight))


def place_districts(
    rng: np.random.Generator, rows: int, main: tuple[int, int]
) -> list[list[District]]:
    """A jittered lattice of districts, one row and column beyond the tile on each side.

    The main roads follow a row and a column, which are kept free of lakes.
    """
    return [
        [_make_district(rng, column, row, row == main[0] or column == main[1])
         for column in range(rows)]
        for row in range(rows)
    ]  # fmt: skip


def _make_district(rng: np.random.Generator, column: int, row: int, dry: bool) -> District:
    kind = pick(rng, KINDS)
    if dry and kind == "lake":
        kind = "park"
    jitter = DISTRICT * 0.3
    centre = (
        (column - 0.5) * DISTRICT + between(rng, -jitter, jitter),
        (row - 0.5) * DISTRICT + between(rng, -jitter, jitter),
    )
    along = unit(between(rng, -1, 1), between(rng, -1, 1))
    most = {"bends": 1.0, "grid": 0.2, "woods": 0.6, "field": 0.3}.get(kind, 0.0)
    bend = (most * between(rng, -0.0016, 0.0016), most * between(rng, -4e-6, 4e-6))
    return District(centre, kind, along, bend)


def divide(rng: np.random.Generator, size: int, districts: list[District]) -> NDArray[np.uint16]:
    """Assign each pixel to the nearest centre, after a warp that makes the borders natural."""
    y, x = np.mgrid[0:size, 0:size].astype(np.int32)
    x += value_noise(rng, size, 80) // 3 + value_noise(rng, size, 20) // 16
    y += value_noise(rng, size, 80) // 3 + value_noise(rng, size, 20) // 16
    nearest = np.full((size, size), np.iinfo(np.int32).max, np.int32)
    owner = np.zeros((size, size), np.uint16)
    for index, district in enumerate(districts):
        left, top = (round(value) for value in district.centre)
        # No pixel is further than a lattice step from the nearest centre, sideways or up.
        rows, columns = (
            slice(max(0, value - DISTRICT), max(0, value + DISTRICT)) for value in (top, left)
        )
        distance = (x[rows, columns] - left) ** 2 + (y[rows, columns] - top) ** 2
        closer = distance < nearest[rows, columns]
        owner[rows, columns][closer] = index
        nearest[rows, columns][closer] = distance[closer]
    return owner
