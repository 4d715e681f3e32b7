"""Roads with a hierarchy: a highway, main roads, collectors, streets and lanes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from roads.sources.scenery.brushes import Canvas
from roads.sources.scenery.curves import (
    MARGIN,
    STEP,
    Point,
    beside,
    between,
    crossing,
    meander,
    pick,
    smooth,
)
from roads.sources.scenery.districts import DISTRICT, divide, place_districts
from roads.sources.scenery.plan import District, Plan, Road

# Narrowest and widest, pixels, edge to edge
WIDTHS = {
    "highway": (10.0, 12.0), "main": (11.0, 14.0), "collector": (8.5, 11.0), "street": (7.0, 9.5),
    "lane": (5.5, 7.5),
}  # fmt: skip
LEFT_OUT = {"street": 0.08, "lane": 0.3}  # fraction of the roads of a kind that the map lacks
REACH = 280  # most pixels from a district's centre to the end of its streets
BLOCK = 170  # pixels between the streets of a town
SHIFTED = 0.25  # fraction of the roads that lie a pixel off in the map


def make_plan(rng: np.random.Generator, size: int) -> Plan:
    """Invent a place of `size` × `size` pixels."""
    rows = size // DISTRICT + 3
    inner = range(1, max(2, round(size / DISTRICT) + 1))  # districts whose centres are in the tile
    main = (pick(rng, inner), pick(rng, inner))
    lattice = place_districts(rng, rows, main)
    districts = [district for row in lattice for district in row]
    river = meander(rng, size) if rng.random() < 0.4 else []
    railway = crossing(rng, size) if rng.random() < 0.4 else []
    plan = Plan(size, districts, divide(rng, size, districts), river, railway, [])
    roads = [*_highway(rng, size), *_through_roads(rng, lattice, main)]
    ground = _Ground(plan, roads)
    for district in districts:
        if plan.inside(district.centre, DISTRICT / 2):
            roads.extend(_streets(rng, district, ground))
    return replace(plan, roads=roads)


def _road(
    rng: np.random.Generator, points: Sequence[Point], kind: str, circle: bool = False
) -> Road:
    """A road with a width for its kind and the map's usual errors."""
    mapped = rng.random() >= LEFT_OUT.get(kind, 0.0)
    off = rng.random() < SHIFTED
    shift = pick(rng, ((1, 0), (-1, 0), (0, 1), (0, -1))) if off else (0, 0)
    return Road(points, kind, between(rng, *WIDTHS[kind]), mapped, shift, circle)


def _highway(rng: np.random.Generator, size: int) -> Iterator[Road]:
    """Half the places have a highway: two carriageways, each with its own line in the map."""
    if rng.random() < 0.5:
        middle, apart = crossing(rng, size), between(rng, 9, 13)
        yield _road(rng, beside(middle, apart), "highway")
        yield _road(rng, beside(middle, -apart), "highway")


def _through_roads(
    rng: np.random.Generator, lattice: list[list[District]], main: tuple[int, int]
) -> Iterator[Road]:
    """Main roads along a row and a column of district centres, and collectors between others.

    A collector joins two centres where other roads pass.
    """
    turned = [list(column) for column in zip(*lattice, strict=True)]
    for lines, main_line, crossed in ((lattice, main[0], main[1]), (turned, main[1], main[0])):
        for index, line in enumerate(lines):
            centres = [district.centre for district in line]
            if index == main_line:
                yield _road(rng, smooth(centres), "main")
                continue
            joined = [
                district.kind in ("grid", "bends", "town") or place == crossed
                for place, district in enumerate(line)
            ]
            for place, ends in enumerate(pairwise(joined)):
                if all(ends) and rng.random() < 0.35:
                    yield _road(rng, smooth(centres, place, place + 1), "collector")


class _Ground:
    """Where streets and lanes may lie: off water and highway, and not along larger roads."""

    LONGEST_CROSSING = 7  # most points of a street that crosses a larger road; more run along it
    REACHING = 3  # points from where a larger road is close to its edge

    def __init__(self, plan: Plan, roads: Sequence[Road]):
        self._plan = plan
        barred, near = (Canvas(Image.new("L", (plan.size,) * 2), 1) for _ in range(2))
        barred.line(plan.river, 60, 1)
        for road in roads:
            if road.kind == "highway":
                barred.line(road.points, 60, 1)
            else:
                near.line(road.points, 44, 1)
        self._barred, self._near = (np.asarray(canvas.picture) for canvas in (barred, near))

    def pieces(
        self, points: Sequence[Point], district: District | None = None, shortest: int = 7
    ) -> Iterator[list[Point]]:
        """The pieces of a line, of at least `shortest` points, on which a road can be built.

        Where it would run along a larger road, it turns into that road and ends.
        """
        usable = [
            self._plan.inside(point, MARGIN / 2)
            and (district is None or self._plan.district(point) is district)
            and not self._read(self._barred, point)
            for point in points
        ]
        crossing = [bool(self._read(self._near, point)) for point in points]
        for start, stop in _stretches(crossing):
            if stop - start > self.LONGEST_CROSSING:
                inner = slice(start + self.REACHING, stop - self.REACHING)
                usable[inner] = [False] * len(usable[inner])
        for start, stop in _stretches(usable):
            if stop - start >= shortest:
                yield list(points[start:stop])

    def _read(self, mask: NDArray[np.uint8], point: Point) -> bool:
        x, y = (min(max(int(value), 0), self._plan.size - 1) for value in point)
        return bool(mask[y, x])


def _stretches(flags: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Start and stop of every run of true flags."""
    start = 0
    for flag, run in groupby(flags):
        stop = start + len(list(run))
        if flag:
            yield start, stop
        start = stop


def _streets(rng: np.random.Generator, district: District, ground: _Ground) -> Iterator[Road]:
    """The small roads of a district, depending on its kind."""
    makers: dict[str, Callable[[np.random.Generator, District, _Ground], Iterator[Road]]] = {
        "grid": _grid, "bends": _bends, "town": _blocks, "field": _lanes, "woods": _lanes,
    }  # fmt: skip
    if district.kind in makers:
        yield from makers[district.kind](rng, district, ground)


def _along(district: District, v: float) -> list[Point]:
    return [district.at(u, v) for u in range(-REACH, REACH + 1, STEP)]


def _across(
    district: District, u: float, first: float = -REACH, last: float = REACH
) -> list[Point]:
    count = max(1, round(abs(last - first) / STEP))
    return [district.at(u, first + (last - first) * i / count) for i in range(count + 1)]


def _through(
    rng: np.random.Generator, lines: Sequence[list[Point]], district: District, ground: _Ground
) -> Iterator[Road]:
    """Streets along lines, as far as they can be built."""
    for line in lines:
        for piece in ground.pieces(line, district):
            yield _road(rng, piece, "street")


def _grid(rng: np.random.Generator, district: District, ground: _Ground) -> Iterator[Road]:
    """Parallel streets a house plot apart, and cross streets."""
    gap, block = between(rng, 70, 92), between(rng, 120, 190)
    lines = [_along(district, (number + 0.5) * gap) for number in range(-3, 4)]
    lines += [_across(district, number * block) for number in range(-1, 2)]
    yield from _through(rng, lines, district, ground)


def _bends(rng: np.random.Generator, district: District, ground: _Ground) -> Iterator[Road]:
    """Bent streets with one link between them, and cul-de-sacs off them."""
    gap = between(rng, 108, 140)
    for number in range(-2, 3):
        v = number * gap
        for piece in ground.pieces(_along(district, v), district):
            yield _road(rng, piece, "street", circle=rng.random() < 0.5)
        for u in (between(rng, -190, -70), between(rng, 70, 190)):
            end = v + pick(rng, (-1, 1)) * gap * between(rng, 0.4, 0.6)
            for piece in ground.pieces(_across(district, u, v, end), district):
                yield _road(rng, piece, "street", circle=True)
    yield from _through(rng, [_across(district, between(rng, -40, 40))], district, ground)


def _blocks(rng: np.random.Generator, district: District, ground: _Ground) -> Iterator[Road]:
    """Streets around wide blocks for shops and factories."""
    lines = [draw(district, number * BLOCK) for number in (-1, 0, 1) for draw in (_along, _across)]
    yield from _through(rng, lines, district, ground)


def _lanes(rng: np.random.Generator, district: District, ground: _Ground) -> Iterator[Road]:
    """Some lanes through fields and woods, which maps often lack."""
    if rng.random() < 0.15:
        for piece in ground.pieces(_along(district, between(rng, -60, 60)), shortest=20):
            yield _road(rng, piece, "lane")
