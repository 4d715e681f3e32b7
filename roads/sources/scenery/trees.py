"""Draws single trees, whose crowns and shadows cover parts of roofs and roads."""

from roads.sources.scenery.brushes import Colour
from roads.sources.scenery.curves import Point, between, move, pick
from roads.sources.scenery.land import EVERGREEN, LEAFLESS
from roads.sources.scenery.scene import FULL, Scene, lit

PLOT = 16  # pixels; one tree is tried per square of this side
CHANCE = {"grid": 0.5, "bends": 0.7, "town": 0.1, "park": 0.15, "woods": 0.3, "field": 0.02}


def draw_trees(scene: Scene) -> None:
    """Plant trees away from roads and buildings; their number depends on the kind of district."""
    rng, size = scene.rng, scene.plan.size
    shadows = scene.new_mask()
    trees = []
    for _ in range((size // PLOT) ** 2):
        centre = (between(rng, 0, size), between(rng, 0, size))
        chance = CHANCE.get(scene.plan.district(centre).kind, 0.0)
        if rng.random() < chance and not scene.is_taken(centre, FULL):
            radius = between(rng, 2.5, 6.5)
            colour = pick(rng, (EVERGREEN, LEAFLESS, LEAFLESS))
            trees.append((centre, radius, colour))
            height = radius * (1.1 if colour == EVERGREEN else 0.7)
            shadows.disc(move(centre, scene.shadow, height), radius * 0.9, 1)
    scene.darken(shadows)
    for centre, radius, colour in trees:
        _draw_crown(scene, centre, radius, colour)


def _draw_crown(scene: Scene, centre: Point, radius: float, colour: Colour) -> None:
    """Draw boughs, brighter towards the sun; only an evergreen's crown is closed."""
    rng = scene.rng
    boughs = round(radius * 4)
    if colour == EVERGREEN:
        scene.canvas.disc(centre, radius * 0.8, lit(colour, 0.75))
    for _ in range(boughs):
        x, y = between(rng, -1, 1), between(rng, -1, 1)
        if x * x + y * y > 1:
            continue
        sunny = -(x * scene.shadow[0] + y * scene.shadow[1])
        bough = (centre[0] + x * radius * 0.9, centre[1] + y * radius * 0.9)
        light = 1.0 + 0.35 * sunny + between(rng, -0.2, 0.2)
        scene.canvas.disc(bough, between(rng, 0.5, 1.4), lit(colour, light))
