"""Masks: maps thresholded to road or not."""

import numpy as np
from numpy.typing import NDArray

from roads.params.binarize import BinarizeParams
from roads.runtime.arrays import Image8


def road_mask(map_: Image8 | NDArray[np.bool_], params: BinarizeParams) -> NDArray[np.bool_]:
    """Where a map of any shape is road: brighter than the threshold."""
    return map_ > params.threshold
