"""Scores of centrelines: whether roads are found as lines that connect, whatever their width.

Both maps are thinned to skeletons one pixel wide (Zhang and Suen 1984, as scikit-image does it).
A length is the number of a skeleton's pixels; a pixel is a metre in the Massachusetts Roads
Dataset.
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import skeletonize

from roads.metrics.counts import fraction
from roads.runtime.arrays import Bool

REACH = 3  # pixels, which are metres in the Massachusetts Roads Dataset


@dataclass(frozen=True)
class LineCounts:
    """Pixels of the two skeletons.

    Attributes:
        predicted: length of the prediction's skeleton.
        predicted_on_road: of it, what lies on the road of the map.
        predicted_near: of it, what lies within REACH of the map's skeleton.
        road: length of the map's skeleton.
        road_on_predicted: of it, what lies on predicted road.
        road_near: of it, what lies within REACH of the prediction's skeleton.
    """

    predicted: int
    predicted_on_road: int
    predicted_near: int
    road: int
    road_on_predicted: int
    road_near: int

    def __add__(self, other: Self) -> "LineCounts":
        pairs = zip(vars(self).items(), vars(other).values(), strict=True)
        return LineCounts(**{name: mine + theirs for (name, mine), theirs in pairs})

    @property
    def cldice(self) -> float:
        """The harmonic mean of the fractions of both skeletons that lie on the other map's road.

        Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure
        Segmentation (CVPR 2021), equations 1 and 2; here of counts pooled over tiles.
        """
        precision = fraction(self.predicted_on_road, self.predicted)
        sensitivity = fraction(self.road_on_predicted, self.road)
        both = precision + sensitivity
        return 2 * precision * sensitivity / both if both else 0.0

    @property
    def completeness(self) -> float:
        """The fraction of the map's centrelines with a predicted one within REACH.

        Heipke et al., Evaluation of Automatic Road Extraction (IAPRS 32, 1997), section 3.
        """
        return fraction(self.road_near, self.road)

    @property
    def correctness(self) -> float:
        """The fraction of the predicted centrelines with one of the map within REACH; as above."""
        return fraction(self.predicted_near, self.predicted)


def count_lines(predicted: Bool, road: Bool) -> LineCounts:
    """Thin both maps, (height, width) bool, and count where their skeletons lie."""
    predicted_lines, road_lines = skeletonize(predicted), skeletonize(road)
    return LineCounts(
        predicted=int(np.count_nonzero(predicted_lines)),
        predicted_on_road=int(np.count_nonzero(predicted_lines & road)),
        predicted_near=count_near(predicted_lines, road_lines),
        road=int(np.count_nonzero(road_lines)),
        road_on_predicted=int(np.count_nonzero(road_lines & predicted)),
        road_near=count_near(road_lines, predicted_lines),
    )


def count_near(lines: Bool, others: Bool) -> int:
    """How many pixels of `lines` have one of `others` at most REACH away, as the crow flies."""
    bordered = np.pad(others, REACH)
    rows, columns = (places + REACH for places in np.nonzero(lines))
    near = np.zeros(len(rows), np.bool_)
    for down, right in _disc(REACH):
        near |= bordered[rows + down, columns + right]
    return int(np.count_nonzero(near))


def _disc(radius: int) -> NDArray[np.int64]:
    """The (down, right) steps to all pixels at most `radius` away: 29 for a radius of 3."""
    steps = np.mgrid[-radius : radius + 1, -radius : radius + 1].reshape(2, -1).T
    return steps[(steps**2).sum(axis=1) <= radius**2]
