"""Scores of centrelines, which do not depend on the width of roads.

Both maps are thinned to skeletons one pixel wide (Zhang and Suen 1984, by scikit-image). The
length of a skeleton is its number of pixels.
"""

from typing import NamedTuple

import numpy as np
from scipy.spatial import KDTree
from skimage.morphology import skeletonize

from roads.runtime.arrays import Bool

REACH = 3  # pixels, which are metres in the Massachusetts Roads Dataset


class LineCounts(NamedTuple):
    """Pixel counts of the two skeletons. Scores are None if one of them is empty.

    Attributes:
        predicted: of the prediction's skeleton.
        predicted_on_road: of these, on the road of the map.
        predicted_near: of these, within REACH of the map's skeleton.
        road: of the map's skeleton.
        road_on_predicted: of these, on predicted road.
        road_near: of these, within REACH of the prediction's skeleton.
    """

    predicted: int
    predicted_on_road: int
    predicted_near: int
    road: int
    road_on_predicted: int
    road_near: int

    @property
    def cldice(self) -> float | None:
        """The harmonic mean of the fractions of both skeletons that lie on the other map's road.

        Shit et al., clDice: a Novel Topology-Preserving Loss Function for Tubular Structure
        Segmentation (CVPR 2021), equations 1 and 2; here of counts pooled over tiles.
        """
        if not self.road:
            return None
        precision = self.predicted_on_road / max(1, self.predicted)
        sensitivity = self.road_on_predicted / self.road
        both = precision + sensitivity
        return 2 * precision * sensitivity / both if both else 0.0

    @property
    def completeness(self) -> float | None:
        """The fraction of the map's centrelines with a predicted one within REACH.

        Heipke et al., Evaluation of Automatic Road Extraction (IAPRS 32, 1997), section 3.
        """
        return self.road_near / self.road if self.road else None

    @property
    def correctness(self) -> float | None:
        """The fraction of the predicted centrelines with one of the map within REACH (Heipke)."""
        return self.predicted_near / self.predicted if self.predicted else None


def count_lines(predicted: Bool, road: Bool) -> LineCounts:
    """Thin both maps, (height, width) bool, and count pixels of their skeletons."""
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
    """The number of pixels of `lines` within a Euclidean distance of REACH of `others`."""
    tree = KDTree(np.argwhere(others))
    distance, _ = tree.query(np.argwhere(lines), distance_upper_bound=REACH + 1)
    return int(np.count_nonzero(distance <= REACH))
