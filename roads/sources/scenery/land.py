"""Draws the ground of a synthetic place before anything is built on it, and camera effects."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from roads.runtime.arrays import Image8
from roads.sources.scenery.brushes import Colour, Levels, clipped, fine_noise, value_noise
from roads.sources.scenery.curves import left_of, pick
from roads.sources.scenery.plan import District, Plan

# The ground of a district is a mixture of two colours.
GROUND: dict[str, tuple[tuple[Colour, Colour], ...]] = {
    "grid": (((84, 96, 62), (132, 124, 98)), ((94, 98, 72), (124, 114, 96))),
    "bends": (((80, 102, 58), (118, 116, 84)), ((92, 94, 68), (128, 116, 94))),
    "woods": (((86, 72, 60), (118, 102, 88)), ((80, 70, 58), (106, 88, 76))),
    "field": (((150, 138, 104), (172, 156, 118)),),
    "town": (((104, 106, 90), (140, 138, 128)), ((120, 119, 113), (150, 146, 138))),
    "park": (((82, 106, 62), (110, 122, 86)),),
    "lake": (((34, 44, 42), (42, 52, 48)),),
}  # fmt: skip
FIELDS: tuple[Colour, ...] = (
    (176, 164, 138), (158, 147, 124), (128, 114, 94), (100, 114, 74), (114, 122, 86),
    (142, 138, 108),
)  # fmt: skip
SHADES = 32  # number of different fields in a district
EVERGREEN: Colour = (50, 68, 44)
LEAFLESS: Colour = (98, 84, 70)


def draw_land(rng: np.random.Generator, plan: Plan) -> Image8:
    """Draw soil, grass, fields, woods and lakes: (size, size, 3) uint8."""
    colours = np.array([pick(rng, GROUND[d.kind]) for d in plan.districts], np.int16)
    first, second = colours[plan.owner, 0], colours[plan.owner, 1]
    mix = (value_noise(rng, plan.size, 45) + value_noise(rng, plan.size, 11) // 2) * 2 + 128
    share = np.clip(mix, 0, 255)[..., None]  # of the second colour, in 256ths
    ground = first + ((second - first).astype(np.int32) * share // 256).astype(np.int16)
    for index, district in enumerate(plan.districts):
        if district.kind == "field":
            _plough(rng, ground, plan.owner == index, district)
    kinds = np.array([district.kind for district in plan.districts])
    woods, lake, field = ((kinds == kind)[plan.owner] for kind in ("woods", "lake", "field"))
    relief = value_noise(rng, plan.size, 5) // 10 + value_noise(rng, plan.size, 2) // 12
    ground += np.where(lake, relief // 6, relief)[..., None]
    clumps = value_noise(rng, plan.size, 36) + value_noise(rng, plan.size, 9) // 3
    _grow_woods(rng, ground, woods | ((clumps > 52) & ~lake & ~field))
    return clipped(ground)


def _plough(
    rng: np.random.Generator, ground: Levels, where: NDArray[np.bool_], district: District
) -> None:
    """Divide a district into rectangular fields, each with a colour and furrows."""
    places = ndimage.find_objects(where.astype(np.uint8))
    if not places:
        return
    rows, columns = places[0]
    y, x = np.mgrid[rows, columns].astype(np.float64)
    x, y = x - district.centre[0], y - district.centre[1]
    along, across = district.along, left_of(district.along)
    u = (x * along[0] + y * along[1] + 1024).astype(np.int32)
    v = (x * across[0] + y * across[1] + 1024).astype(np.int32)
    # Neighbours differ by 1 or 7, so they get different shades.
    plot = (u // int(rng.integers(90, 190)) + 7 * (v // int(rng.integers(90, 190)))) % SHADES
    colours = np.array([pick(rng, FIELDS) for _ in range(SHADES)], np.int16)[plot]
    colours += (rng.integers(-10, 11, SHADES, dtype=np.int16)[plot])[..., None]
    furrows = rng.integers(4, 10, SHADES)[plot]
    turned = (rng.integers(0, 2, SHADES) > 0)[plot]
    colours += (np.where(turned, u, v) % furrows * 2 < furrows).astype(np.int16)[..., None] * 9
    patch, inside = ground[rows, columns], where[rows, columns]
    patch[inside] = colours[inside]


def _grow_woods(rng: np.random.Generator, ground: Levels, where: NDArray[np.bool_]) -> None:
    """Draw tree crowns from above: rough heights lit from the lower right, some evergreen."""
    size = ground.shape[0]
    height = value_noise(rng, size, 7) // 2 + value_noise(rng, size, 4) + value_noise(rng, size, 2)
    slope = height - np.roll(height, (1, 1), (0, 1))
    light = -slope // 6 + height // 12 + fine_noise(rng, (size, size), 22)
    green = (value_noise(rng, size, 60) + value_noise(rng, size, 8) // 2) > 55
    brown = value_noise(rng, size, 30) // 10
    levels = np.where(green[..., None], np.array(EVERGREEN, np.int16), ground)
    levels = np.where(where[..., None], levels, ground)
    crowns = levels + (light + np.where(green, 0, brown))[..., None] - 6
    ground[where] = crowns[where]


def photograph(rng: np.random.Generator, scene: Image8) -> Image8:
    """Add what a camera shows: worn patches, blur, exposure, a colour cast and noise.

    Args:
        scene: (size, size, 3) uint8.
    """
    size = scene.shape[0]
    uneven = value_noise(rng, size, 70) // 16 + value_noise(rng, size, 13) // 14
    grain = value_noise(rng, size, 3) // 14
    levels = scene.astype(np.int16) + (uneven + grain)[..., None]
    padded = np.pad(levels, ((1, 1), (1, 1), (0, 0)), mode="edge")
    sides = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
    levels = (levels * 12 + sides) // 16
    exposure = rng.integers(104, 152) + rng.integers(-5, 6, 3)
    levels = (levels.astype(np.int32) * exposure // 128).astype(np.int16)
    noise = fine_noise(rng, (size, size), 7)[..., None] + fine_noise(rng, (size, size, 3), 4)
    # Only missing imagery may be pure white.
    return clipped(np.minimum(levels + noise, 246))
