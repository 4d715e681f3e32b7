"""Masks: maps as road or not, by one threshold."""

import numpy as np
from numpy.typing import NDArray

from roads.params.binarize import BinarizeParams
from roads.runtime.arrays import Image8


def road_mask(map_: Image8 | NDArray[np.bool_], params: BinarizeParams) -> NDArray[np.bool_]:
    """Where a map of any shape is brighter than the threshold: its road."""
    return map_ > params.threshold
