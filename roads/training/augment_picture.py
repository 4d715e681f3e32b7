"""A picture of training crops as they are packed, and as the net sees them."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roads.runtime.arrays import Image8
from roads.runtime.files import replacing
from roads.training.batches import CropBatches

PAIRS = 6
INCHES = 2.4  # a picture's side
ROAD = "#ffd000"


def draw_pairs(path: Path, crops: CropBatches) -> None:
    """Draw crops of the first epoch as a PNG: above as packed, below as augmented.

    The edges of the roads are drawn in, so that one sees image and mask move together.

    Args:
        path: gets the picture.
        crops: the training batches.
    """
    crops.set_epoch(0)
    pairs: list[tuple[tuple[Image8, Image8], tuple[Image8, Image8]]] = []
    for index in range(len(crops)):
        packed, augmented = crops.unchanged(index)[:2], crops[index]
        pairs += zip(zip(*packed, strict=True), zip(*augmented, strict=True), strict=True)
        if len(pairs) >= PAIRS:
            break
    pairs = pairs[:PAIRS]
    size = (max(len(pairs), 2) * INCHES, 2 * INCHES + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    change = "as augmented in the first epoch" if crops.augmentation else "not augmented"
    figure.suptitle(f"Training crops: above as packed, below {change}")
    axes = figure.subplots(2, len(pairs), squeeze=False)
    for column, pair in enumerate(pairs):
        for row, (image, mask) in enumerate(pair):
            _show(axes[row, column], image, mask)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _show(axes: Any, image: Image8, mask: Image8) -> None:
    axes.imshow(image, interpolation="nearest")
    road = mask[..., 0] == 1
    if road.any() and not road.all():
        axes.contour(np.float32(road), levels=[0.5], colors=ROAD, linewidths=0.8)
    axes.set(xticks=[], yticks=[])
