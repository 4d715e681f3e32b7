"""Pictures of a prediction next to its image and map: TP green, FP red, FN blue."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from roads.runtime.arrays import Bool, Float32, Float64, Image8
from roads.runtime.files import replacing

COLOURS = {
    "true positive": (0, 190, 60),
    "false positive": (230, 30, 30),
    "false negative": (40, 90, 255),
}
OPACITY = 0.65
LINE = "#ffd000"
PICTURE_INCHES = 14.4  # its width
DPI = 100


def overlay(image: Image8, road: Bool, predicted: Bool) -> Image8:
    """Paint true positives green, false positives red and false negatives blue over grey.

    Args:
        image: (height, width, 3) uint8.
        road, predicted: (height, width) bool.

    Returns:
        (height, width, 3) uint8.
    """
    painted = np.repeat(image.mean(axis=2, keepdims=True, dtype=np.float32), 3, axis=2)
    areas = (road & predicted, predicted & ~road, road & ~predicted)
    for area, colour in zip(areas, COLOURS.values(), strict=True):
        painted[area] += OPACITY * (np.array(colour, np.float32) - painted[area])
    return painted.round().astype(np.uint8)


def _reduced(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means over squares of pixels; Matplotlib needs 6 GB to shrink four of 10,000×10,000."""
    if factor <= 1:
        return picture
    if picture.dtype == np.bool_:
        picture = picture.astype(np.float32)
    return np.asarray(Image.fromarray(picture).reduce(factor))


def draw_overlay(
    path: Path,
    image: Image8,
    road: Bool,
    probability: Float32,
    threshold: float,
    title: str,
    columns: int = 4,
    line: Float64 | None = None,
) -> None:
    """Draw four panels as a PNG: image, map, prediction, and true and false pixels.

    Args:
        path: the file to write.
        image: (height, width, 3) uint8.
        road: (height, width) bool, the truth.
        probability: (height, width) float32 from 0 to 1.
        threshold: least probability that is predicted as road.
        title: of the picture.
        columns: panels per row; fewer panels are larger.
        line: (k, 2) row and column, drawn in the last panel.
    """
    height, width = road.shape
    drawn = PICTURE_INCHES / columns * DPI  # width of a panel in pixels, roughly
    factor = int(width / (2 * drawn))
    rows = -(-4 // columns)
    panel = PICTURE_INCHES / columns * height / width
    size = (PICTURE_INCHES, rows * (panel + 0.3) + 0.7)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(title, parse_math=False)  # tiles may have $ in their names
    panels: dict[str, NDArray[Any]] = {
        "image": image,
        "map": road,
        "predicted probability": probability,
        f"prediction ≥ {threshold:.3g} against map": overlay(image, road, probability >= threshold),
    }
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, picture) in zip(grid, panels.items(), strict=True):
        axes.imshow(
            _reduced(picture, factor),
            cmap="gray",
            vmin=0,
            vmax=1,
            interpolation="antialiased" if drawn < width else "nearest",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        axes.set_title(name, fontsize=10)
        axes.set(xticks=[], yticks=[])
    if line is not None:
        axes.plot(line[:, 1], line[:, 0], color=LINE, linewidth=1.5)
    figure.legend(
        handles=[Patch(color=f"#{bytes(rgb).hex()}", label=name) for name, rgb in COLOURS.items()],
        loc="outside lower right",
        ncols=3,
        frameon=False,
    )
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)
