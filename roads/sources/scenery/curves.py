"""Points, directions and curves by simple arithmetic; all in pixels, x before y."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import numpy as np

Point = tuple[float, float]
Choice = TypeVar("Choice")

STEP = 8  # pixels between the points of a curve
MARGIN = 40  # pixels by which curves run on outside the tile


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from `low` to `high`."""
    return low + (high - low) * float(rng.random())


def pick(rng: np.random.Generator, choices: Sequence[Choice]) -> Choice:
    """One of the choices; repeat a choice to make it likelier."""
    return choices[int(rng.random() * len(choices))]


def unit(x: float, y: float) -> Point:
    """The vector (x, y) scaled to length 1; (1, 0) for the zero vector."""
    length = math.sqrt(x * x + y * y)
    return (x / length, y / length) if length else (1.0, 0.0)


def towards(start: Point, end: Point) -> Point:
    """The direction of length 1 from one point to another; (1, 0) where they are the same."""
    return unit(end[0] - start[0], end[1] - start[1])


def move(start: Point, direction: Point, distance: float) -> Point:
    """The point `distance` pixels from `start` in a direction of length 1."""
    return (start[0] + direction[0] * distance, start[1] + direction[1] * distance)


def left_of(direction: Point) -> Point:
    """The direction turned by 90°."""
    return (-direction[1], direction[0])


def box(centre: Point, along: Point, length: float, depth: float) -> list[Point]:
    """Corners of a rectangle whose sides of `length` run along a direction of length 1."""
    across = left_of(along)
    return [
        move(move(centre, along, u * length / 2), across, v * depth / 2)
        for u, v in ((-1, -1), (1, -1), (1, 1), (-1, 1))
    ]


def crossing(rng: np.random.Generator, size: int) -> list[Point]:
    """A gentle curve from one side of the tile to the opposite one (a cubic Bézier curve)."""
    swing = 0.3 * size
    start, end = (between(rng, 0.1, 0.9) * size for _ in range(2))
    corners = [
        (-MARGIN, start),
        (size / 3, start + between(rng, -swing, swing)),
        (size * 2 / 3, end + between(rng, -swing, swing)),
        (size + MARGIN, end),
    ]
    if rng.random() < 0.5:
        corners = [(y, x) for x, y in corners]
    count = (size + 2 * MARGIN) // STEP
    return [bezier(corners, index / count) for index in range(count + 1)]


def meander(rng: np.random.Generator, size: int) -> list[Point]:
    """A winding curve from one side of the tile to the opposite one."""
    guide = crossing(rng, size)
    bends = [(x + between(rng, -45, 45), y + between(rng, -45, 45)) for x, y in guide[10:-9:12]]
    return smooth([guide[0], *bends, guide[-1]])


def bezier(corners: Sequence[Point], t: float) -> Point:
    """A point of the Bézier curve, by de Casteljau's algorithm."""
    while len(corners) > 1:
        corners = [
            (a[0] + (b[0] - a[0]) * t, a[1] + (b[1] - a[1]) * t) for a, b in pairwise(corners)
        ]
    return corners[0]


def beside(points: Sequence[Point], distance: float) -> list[Point]:
    """The parallel of a polyline at a distance to its left; empty for an empty one."""
    if not points:
        return []
    ends = [*points[1:], points[-1]]
    starts = [points[0], *points[:-1]]
    return [
        move(point, left_of(towards(start, end)), distance)
        for point, start, end in zip(points, starts, ends, strict=True)
    ]


def smooth(points: Sequence[Point], first: int = 0, last: int | None = None) -> list[Point]:
    """A curve through points[first] to points[last], shaped by all (a Catmull-Rom spline)."""
    last = len(points) - 1 if last is None else last
    curve = []
    for place in range(first, last):
        before, after = points[max(place - 1, 0)], points[min(place + 2, len(points) - 1)]
        start, end = points[place], points[place + 1]
        corners = [
            start,
            (start[0] + (end[0] - before[0]) / 6, start[1] + (end[1] - before[1]) / 6),
            (end[0] - (after[0] - start[0]) / 6, end[1] - (after[1] - start[1]) / 6),
            end,
        ]
        distance = math.sqrt((end[0] - start[0]) ** 2 + (end[1] - start[1]) ** 2)
        count = max(1, round(distance / STEP))
        curve += [bezier(corners, index / count) for index in range(count)]
    return [*curve, points[last]]
