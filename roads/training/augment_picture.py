"""Draws training crops as packed, and as the net sees them."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roads.runtime.arrays import Image8
from roads.runtime.files import replacing
from roads.training.batches import CropBatches

PAIRS = 6
LOOKED_AT = 64  # crops; of these, those with road are drawn first
INCHES = 2.4  # a picture's side
ROAD = "#ffd000"


def draw_pairs(path: Path, crops: CropBatches) -> None:
    """Draw crops of the first epoch as a PNG: as packed above, as augmented below.

    Crops with roads come first: at road edges one sees that image and mask move together.

    Args:
        path: gets the picture.
        crops: the training batches.
    """
    crops.set_epoch(0)
    rows = crops.order[:LOOKED_AT]
    without_road = ~(crops.read(rows).masks == 1).any(axis=(1, 2, 3))
    rows = rows[np.argsort(without_road, kind="stable")][:PAIRS]
    packed, augmented = crops.read(rows), crops.augmented(rows)
    size = (max(len(rows), 2) * INCHES, 2 * INCHES + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    change = "as augmented in the first epoch" if crops.augmentation else "not augmented"
    figure.suptitle(f"Training crops: above as packed,\nbelow {change}")
    axes = figure.subplots(2, len(rows), squeeze=False)
    for column in range(len(rows)):
        _show(axes[0, column], packed.images[column], packed.masks[column])
        _show(axes[1, column], augmented[0][column], augmented[1][column])
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _show(axes: Any, image: Image8, mask: Image8) -> None:
    axes.imshow(image, interpolation="nearest")
    road = mask[..., 0] == 1
    if road.any() and not road.all():
        axes.contour(np.float32(road), levels=[0.5], colors=ROAD, linewidths=0.8)
    axes.set(xticks=[], yticks=[])
