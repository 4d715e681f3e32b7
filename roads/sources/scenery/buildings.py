"""Houses along the streets, and halls and parking lots in the towns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from roads.sources.scenery.brushes import Colour
from roads.sources.scenery.curves import Point, between, box, left_of, move, pick, towards
from roads.sources.scenery.plan import District, Road
from roads.sources.scenery.scene import FULL, Scene, lit
from roads.sources.scenery.streets import BLOCK

LOTS: tuple[Colour, ...] = (
    (104, 105, 107), (122, 122, 122), (136, 135, 132), (90, 91, 95), (148, 146, 142),
)  # fmt: skip
ROOFS: tuple[Colour, ...] = (
    (120, 119, 118), (136, 134, 132), (96, 96, 98), (76, 75, 78), (112, 96, 84), (128, 106, 90),
    (150, 146, 140), (186, 184, 180), (200, 198, 196), (136, 92, 80), (140, 128, 108),
)  # fmt: skip
FLAT_ROOFS: tuple[Colour, ...] = (
    (228, 226, 222), (216, 214, 210), (198, 197, 194), (150, 149, 146), (124, 124, 122),
    (92, 92, 94), (168, 158, 142),
)  # fmt: skip
CARS: tuple[Colour, ...] = (
    (200, 200, 200), (224, 224, 224), (50, 52, 58), (70, 72, 78), (132, 50, 46), (60, 74, 112),
)  # fmt: skip
BAY_LINE: Colour = (168, 168, 164)
HOUSES = {"grid": 0.55, "bends": 0.45, "woods": 0.06, "field": 0.06, "park": 0.06}  # per 8 m a side


@dataclass(frozen=True)
class Building:
    """A rectangle with a roof; sizes in pixels, `along` of length 1."""

    centre: Point
    along: Point
    length: float
    depth: float
    height: float
    driveway: Sequence[Point] = ()

    @property
    def corners(self) -> list[Point]:
        return box(self.centre, self.along, self.length, self.depth)

    def at(self, u: float, v: float) -> Point:
        """A point of the building, from its centre, in fractions of its length and depth."""
        point = move(self.centre, self.along, u * self.length)
        return move(point, left_of(self.along), v * self.depth)


def _build(scene: Scene, building: Building, room: float) -> Iterator[Building]:
    """Yield the building and mark its ground as taken, if there is room for it."""
    places = product((-0.5, -0.25, 0.0, 0.25, 0.5), (-0.5, 0.0, 0.5))
    if not any(scene.is_taken(building.at(u, v)) for u, v in places):
        length, depth = building.length + room, building.depth + room
        scene.taken.polygon(box(building.centre, building.along, length, depth), FULL)
        yield building


def pave_lots(scene: Scene) -> Iterator[Building]:
    """Pave the blocks of the towns as parking lots; yield the halls to build beside them."""
    for district in scene.plan.districts:
        if district.kind != "town":
            continue
        for column, row in product(range(-2, 2), repeat=2):
            centre = district.at((column + 0.5) * BLOCK, (row + 0.5) * BLOCK)
            if scene.plan.inside(centre, BLOCK) and scene.plan.district(centre) is district:
                yield from _pave_lot(scene, district, centre)


def _pave_lot(scene: Scene, district: District, centre: Point) -> Iterator[Building]:
    rng = scene.rng
    along, across = district.along, left_of(district.along)
    length, depth = between(rng, 0.6, 0.92) * BLOCK, between(rng, 0.6, 0.92) * BLOCK
    scene.canvas.polygon(box(centre, along, length, depth), pick(rng, LOTS))
    _park_cars(scene, move(centre, across, depth / 4), along, length * 0.85, depth * 0.4)
    hall = Building(
        centre=move(centre, across, -depth / 4),
        along=along,
        length=length * between(rng, 0.5, 0.9),
        depth=depth * between(rng, 0.25, 0.42),
        height=between(rng, 5, 10),
    )
    yield from _build(scene, hall, room=0)


def _park_cars(scene: Scene, centre: Point, along: Point, length: float, depth: float) -> None:
    """Fill a rectangle with rows of marked bays, some of them with a car."""
    rng, across = scene.rng, left_of(along)
    filled = between(rng, 0.1, 0.7)
    v = -depth / 2
    while v < depth / 2:
        for bay in range(int(length / 2.8)):
            place = move(move(centre, along, bay * 2.8 - length / 2), across, v)
            scene.canvas.polygon(box(move(place, along, 1.4), across, 4.5, 0.6), BAY_LINE)
            if rng.random() < filled:
                draw_car(scene, place, across)
        v += pick(rng, (5.5, 11.0))


def draw_car(scene: Scene, place: Point, along: Point) -> None:
    """Draw a car, 4 by 2 m, in one of the usual colours."""
    corners = box(place, along, between(scene.rng, 3.8, 4.7), 1.9)
    scene.canvas.polygon(corners, pick(scene.rng, CARS))


def place_houses(scene: Scene) -> Iterator[Building]:
    """Place houses on both sides of streets and collectors, wherever there is room."""
    for road in scene.plan.roads:
        if road.kind not in ("street", "collector"):
            continue
        for start, end in pairwise(road.points[1:]):
            if not scene.plan.inside(start, 30):
                continue
            along = towards(start, end)
            left = left_of(along)
            for side in (left, (-left[0], -left[1])):
                if scene.rng.random() < HOUSES.get(scene.plan.district(start).kind, 0.0):
                    yield from _build(scene, _house(scene, road, start, along, side), room=5)


def _house(scene: Scene, road: Road, start: Point, along: Point, side: Point) -> Building:
    """A house next to a point of a road, with a driveway from the road along its wall."""
    rng = scene.rng
    entrance = move(start, along, 7)
    return Building(
        centre=move(start, side, road.width / 2 + between(rng, 11, 19)),
        along=pick(rng, (along, along, side)),
        length=between(rng, 10, 16),
        depth=between(rng, 7.5, 10.5),
        height=between(rng, 3, 6),
        driveway=(entrance, move(entrance, side, road.width / 2 + between(rng, 12, 20))),
    )


def draw_driveways(scene: Scene, houses: Sequence[Building]) -> None:
    """Draw driveways as grey as the roads."""
    for house in houses:
        scene.canvas.line(house.driveway, between(scene.rng, 2.5, 4), pick(scene.rng, LOTS))


def draw_buildings(scene: Scene, houses: Sequence[Building], halls: Sequence[Building]) -> None:
    """Draw shadows first, then the roofs."""
    shadows = scene.new_mask()
    for building in (*houses, *halls):
        scene.shadow_of(shadows, building.corners, building.height)
    scene.darken(shadows)
    for house in houses:
        _draw_gable(scene, house)
    for hall in halls:
        _draw_flat_roof(scene, hall)


def _draw_gable(scene: Scene, house: Building) -> None:
    """Draw the two halves of a gable roof; the one facing the sun is brighter."""
    colour = pick(scene.rng, ROOFS)
    across = left_of(house.along)
    away = across[0] * scene.shadow[0] + across[1] * scene.shadow[1]
    for side in (-1, 1):
        half = box(house.at(0, side / 4), house.along, house.length, house.depth / 2)
        scene.canvas.polygon(half, lit(colour, 1.0 - 0.28 * side * away))


def _draw_flat_roof(scene: Scene, hall: Building) -> None:
    """Draw a flat roof with a parapet, and machines and their shadows on it."""
    rng = scene.rng
    colour = pick(rng, FLAT_ROOFS)
    scene.canvas.polygon(hall.corners, lit(colour, 0.85))
    inner = box(hall.centre, hall.along, hall.length - 2, hall.depth - 2)
    scene.canvas.polygon(inner, colour)
    for _ in range(round(hall.length / 12)):
        place = hall.at(between(rng, -0.42, 0.42), between(rng, -0.38, 0.38))
        shadow = move(place, scene.shadow, 1.5)
        scene.canvas.polygon(box(shadow, hall.along, 3, 3), lit(colour, 0.6))
        scene.canvas.polygon(box(place, hall.along, 3, 3), lit(colour, 1.12))
