"""Draws the aerial image of a planned place, from the ground up."""

from itertools import pairwise

import numpy as np
from PIL import Image

from roads.runtime.arrays import Image8
from roads.sources.scenery.brushes import Canvas, Colour
from roads.sources.scenery.buildings import (
    draw_buildings,
    draw_car,
    draw_driveways,
    pave_lots,
    place_houses,
)
from roads.sources.scenery.curves import (
    beside,
    between,
    box,
    left_of,
    move,
    pick,
    towards,
    unit,
)
from roads.sources.scenery.land import draw_land, photograph
from roads.sources.scenery.plan import Plan
from roads.sources.scenery.scene import CIRCLE, RIVER, Scene, ground_taken
from roads.sources.scenery.trees import draw_trees

FINER = 2  # the image is drawn this many times finer than its pixels

WATER: Colour = (40, 50, 44)
BANK: Colour = (84, 78, 62)
BALLAST: Colour = (118, 108, 98)
SLEEPERS: Colour = (94, 84, 78)
RAILS: Colour = (146, 138, 130)
INFIELD: Colour = (158, 138, 112)
OUTFIELD: Colour = (92, 118, 70)
VERGES: tuple[Colour, ...] = ((128, 124, 108), (112, 114, 90))
ASPHALT: tuple[Colour, ...] = (
    (124, 125, 124), (138, 138, 134), (108, 109, 110), (158, 156, 149), (92, 93, 96),
    (128, 125, 117), (116, 117, 117), (146, 141, 130),
)  # fmt: skip
DIRT: tuple[Colour, ...] = ((150, 136, 112), (134, 122, 104), (124, 120, 110))
YELLOW: Colour = (176, 160, 100)
WHITE_LINE: Colour = (198, 197, 188)
TRAFFIC = {"highway": 0.12, "main": 0.1, "collector": 0.05, "street": 0.05}  # cars per 8 m


def draw_image(rng: np.random.Generator, plan: Plan) -> Image8:
    """Draw the aerial image of a place: (size, size, 3) uint8, 1 m per pixel."""
    ground = Image.fromarray(draw_land(rng, plan))
    finer = ground.resize((plan.size * FINER,) * 2, Image.Resampling.NEAREST)
    # The sun is in the south-east: shadows fall to the upper left.
    shadow = unit(between(rng, -1.0, -0.4), between(rng, -1.0, -0.6))
    scene = Scene(rng, plan, Canvas(finer, FINER), shadow, ground_taken(plan))
    _draw_ball_games(scene)
    halls = list(pave_lots(scene))
    scene.canvas.line(plan.river, RIVER + 8, BANK)
    scene.canvas.line(plan.river, RIVER, WATER)
    _draw_railway(scene)
    _draw_roads(scene)
    houses = list(place_houses(scene))
    draw_driveways(scene, houses)
    _draw_traffic(scene)
    draw_buildings(scene, houses, halls)
    draw_trees(scene)
    return photograph(rng, np.asarray(scene.canvas.picture.reduce(FINER)))


def _draw_ball_games(scene: Scene) -> None:
    """Draw baseball fields in some parks: bare ground, as bright as roads but not as grey."""
    for district in scene.plan.districts:
        if district.kind == "park" and scene.rng.random() < 0.6:
            home = district.at(between(scene.rng, 40, 70), between(scene.rng, 40, 70))
            scene.canvas.disc(home, 46, OUTFIELD)
            scene.canvas.disc(home, 22, INFIELD)
            scene.canvas.polygon(box(home, district.along, 20, 20), OUTFIELD)


def _draw_railway(scene: Scene) -> None:
    """Draw two tracks: a grey line like a road, but not in the map."""
    line = scene.plan.railway
    scene.canvas.line(line, 9, BALLAST)
    for offset in (-2.2, 2.2):
        track = beside(line, offset)
        scene.canvas.line(track, 2.2, SLEEPERS)
        scene.canvas.line(track, 0.8, RAILS)


def _draw_roads(scene: Scene) -> None:
    """Draw verges first, then surfaces from the narrowest to the widest, then markings."""
    rng, canvas = scene.rng, scene.canvas
    roads = sorted(scene.plan.roads, key=lambda road: road.width)
    for road in roads:
        if road.kind != "lane":
            canvas.line(road.points, road.width + 3.5, pick(rng, VERGES))
    for road in roads:
        red, green, blue = pick(rng, DIRT if road.kind == "lane" else ASPHALT)
        age = round(between(rng, -8, 8))
        colour = (red + age, green + age, blue + age)
        canvas.line(road.points, road.width, colour)
        if road.turning_circle:
            canvas.disc(road.points[-1], CIRCLE, colour)
    for road in roads:
        if road.kind == "main":
            canvas.line(road.points, 0.6, YELLOW)
        elif road.kind == "highway":
            for dash in list(pairwise(road.points))[::2]:
                canvas.line(dash, 0.6, WHITE_LINE)
            for share in (-0.42, 0.42):
                canvas.line(beside(road.points, share * road.width), 0.6, WHITE_LINE)


def _draw_traffic(scene: Scene) -> None:
    """Draw cars in both lanes."""
    for road in scene.plan.roads:
        for start, end in pairwise(road.points):
            if scene.rng.random() < TRAFFIC.get(road.kind, 0.0):
                along = towards(start, end)
                offset = pick(scene.rng, (-0.27, 0.27)) * road.width
                draw_car(scene, move(start, left_of(along), offset), along)
