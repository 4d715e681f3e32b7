"""The plan of a synthetic place: what is where, before it is drawn.

All positions are in pixels (1 m each) from the tile's upper left corner, x before y.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from roads.sources.scenery.curves import Point, left_of, move


@dataclass(frozen=True)
class District:
    """A patch of one land use with its own directions, `along` of length 1."""

    centre: Point
    kind: str
    along: Point
    bend: Point  # of its streets: the factors of u² and u³

    def at(self, u: float, v: float) -> Point:
        """The point u pixels along and v pixels across the (bent) streets from the centre."""
        square = u * u
        across = v + self.bend[0] * square + self.bend[1] * square * u
        return move(move(self.centre, self.along, u), left_of(self.along), across)


@dataclass(frozen=True)
class Road:
    """A road as it is (centreline, width in pixels), and how the map shows it."""

    points: Sequence[Point]
    kind: str
    width: float
    mapped: bool
    shift: tuple[int, int]  # of the map against the imagery, pixels
    turning_circle: bool = False  # at the last point of a cul-de-sac


@dataclass(frozen=True)
class Plan:
    """A place before it is drawn.

    `owner` is (size, size) uint16: which of the districts each pixel belongs to.
    """

    size: int
    districts: Sequence[District]
    owner: NDArray[np.uint16]
    river: Sequence[Point]
    railway: Sequence[Point]
    roads: Sequence[Road]

    def inside(self, point: Point, margin: float = 0) -> bool:
        """Whether a point is in the tile or at most `margin` pixels outside."""
        return all(-margin <= value < self.size + margin for value in point)

    def district(self, point: Point) -> District:
        """The district at a point, or at the tile's nearest pixel."""
        x, y = (min(max(int(value), 0), self.size - 1) for value in point)
        return self.districts[self.owner[y, x]]
