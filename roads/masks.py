"""Masks: maps as road or not, by one threshold."""

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from roads.params import Section
from roads.tiles import Image8


class BinarizeParams(Section):
    """`binarize:` in params.yaml."""

    threshold: int = Field(ge=0, le=254)


def road_mask(map_: Image8 | NDArray[np.bool_], params: BinarizeParams) -> NDArray[np.bool_]:
    """Where a map of any shape is brighter than the threshold: its road."""
    return map_ > params.threshold
