"""State that the steps of drawing a scene share: the canvas, the sun, the ground already taken."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from roads.sources.scenery.brushes import Canvas, Colour
from roads.sources.scenery.curves import Point, move
from roads.sources.scenery.plan import Plan

SHADE = 0.45  # fraction of the light that a shadow leaves
BRIGHTEST = 240  # pure white is for missing imagery
CIRCLE = 10.0  # radius of a cul-de-sac's turning circle, pixels
RIVER = 34.0  # pixels from bank to bank

# Levels of `Scene.taken`
EDGE = 1  # next to and on the edges of roads: trees, but no buildings
FULL = 2


@dataclass(frozen=True)
class Scene:
    """A place while it is drawn.

    `canvas` is the image so far, `shadow` the direction in which shadows fall, and `taken` marks
    pixel by pixel where there is no room, EDGE for buildings only, FULL for trees as well.
    """

    rng: np.random.Generator
    plan: Plan
    canvas: Canvas
    shadow: Point
    taken: Canvas

    def is_taken(self, point: Point, level: int = EDGE) -> bool:
        """Whether a point is taken at a level; outside the tile nothing is taken."""
        if not self.plan.inside(point):
            return False
        reached = self.taken.picture.getpixel((int(point[0]), int(point[1])))
        return isinstance(reached, int) and reached >= level

    def new_mask(self) -> Canvas:
        """An empty canvas for shadows."""
        return Canvas(Image.new("1", self.canvas.picture.size), self.canvas.scale)

    def darken(self, mask: Canvas) -> None:
        """Darken the image where the mask is set."""
        table = [round(level * SHADE) for level in range(256)]
        picture = self.canvas.picture
        picture.paste(picture.point(table * 3), mask=mask.picture)

    def shadow_of(self, mask: Canvas, corners: Sequence[Point], height: float) -> None:
        """Add the shadow of an upright thing, `height` pixels long on the ground, to a mask."""
        for share in (0.33, 0.67, 1.0):
            mask.polygon([move(corner, self.shadow, height * share) for corner in corners], 1)


def lit(colour: Colour, light: float) -> Colour:
    """A colour in brighter (above 1) or weaker light."""
    red, green, blue = (min(BRIGHTEST, round(level * light)) for level in colour)
    return (red, green, blue)


def ground_taken(plan: Plan) -> Canvas:
    """Where water, roads and rails leave no room to build: a (size, size) picture of levels."""
    lake = np.array([district.kind == "lake" for district in plan.districts], np.uint8)
    taken = Canvas(Image.fromarray(lake[plan.owner] * np.uint8(FULL)), 1)
    for road in plan.roads:
        taken.line(road.points, road.width + (14 if road.kind == "highway" else 5), EDGE)
        if road.turning_circle:
            taken.disc(road.points[-1], CIRCLE + 2, EDGE)
    for road in plan.roads:
        taken.line(road.points, road.width * (1.5 if road.kind == "highway" else 0.5), FULL)
    taken.line(plan.river, RIVER + 12, FULL)
    taken.line(plan.railway, 12, FULL)
    return taken
