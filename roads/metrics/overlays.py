"""Pictures of a prediction beside its image and map: TP green, FP red, FN blue."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray
from PIL import Image

from roads.runtime.arrays import Image8
from roads.runtime.files import replacing

TRUE_POSITIVE = (0, 190, 60)
FALSE_POSITIVE = (230, 30, 30)
FALSE_NEGATIVE = (40, 90, 255)
LEGEND = (
    ("true positive", TRUE_POSITIVE),
    ("false positive", FALSE_POSITIVE),
    ("false negative", FALSE_NEGATIVE),
)
OPACITY = 0.65
PICTURE_INCHES = 14.4  # its width
DPI = 100


@dataclass(frozen=True)
class Pick:
    """One of several scored things: its key, its rank from 0 (best), and a word for that rank."""

    key: int
    rank: int
    word: str


def best_to_worst(scores: Mapping[int, float], count: int) -> list[Pick]:
    """Pick `count` things, evenly spread over their ranks; all of them where there are fewer.

    The first is the best, the last the worst, and the middle one of an odd count the median;
    a single pick is the median. Of equal scores the smaller key ranks first.

    >>> [pick.key for pick in best_to_worst({0: 0.9, 1: 0.2, 2: 0.5, 3: 0.7}, 2)]
    [0, 1]
    """
    ranked = sorted(scores, key=lambda key: (-scores[key], key))
    count = min(count, len(ranked))
    ends = np.linspace(0, len(ranked) - 1, count) if count > 1 else [(len(ranked) - 1) / 2] * count
    words = {0: "best", count - 1: "worst"} if count > 1 else {}
    if count % 2:
        words[count // 2] = "median"
    return [
        Pick(ranked[int(rank)], int(rank), words.get(place, "")) for place, rank in enumerate(ends)
    ]


def overlay(image: Image8, road: NDArray[np.bool_], predicted: NDArray[np.bool_]) -> Image8:
    """Paint true positives green, false positives red and false negatives blue over grey.

    Args:
        image: (height, width, 3) uint8.
        road: (height, width) bool, the truth.
        predicted: (height, width) bool.

    Returns:
        (height, width, 3) uint8.
    """
    grey = image.mean(axis=2, keepdims=True, dtype=np.float32)
    painted = np.repeat(grey, 3, axis=2)
    for where, colour in (
        (road & predicted, TRUE_POSITIVE),
        (predicted & ~road, FALSE_POSITIVE),
        (road & ~predicted, FALSE_NEGATIVE),
    ):
        painted[where] += OPACITY * (np.array(colour, np.float32) - painted[where])
    return painted.round().astype(np.uint8)


def _reduced(picture: NDArray[Any], factor: int) -> NDArray[Any]:
    """Means of squares of pixels: Matplotlib took 6 GB to shrink four of 10,000×10,000 itself."""
    if factor <= 1:
        return picture
    if picture.dtype == np.bool_:
        picture = picture.astype(np.float32)
    return np.asarray(Image.fromarray(picture).reduce(factor))


def draw_overlay(
    path: Path,
    image: Image8,
    road: NDArray[np.bool_],
    probability: NDArray[np.float32],
    threshold: float,
    title: str,
    columns: int = 4,
) -> None:
    """Draw four panels as a PNG: image, map, prediction, and what is right and wrong in it.

    Args:
        path: gets the picture.
        image: (height, width, 3) uint8.
        road: (height, width) bool, the truth.
        probability: (height, width) float32 from 0 to 1.
        threshold: road is predicted from this probability on.
        title: goes over the picture.
        columns: panels beside one another; the fewer, the larger.
    """
    height, width = road.shape
    drawn = PICTURE_INCHES / columns * DPI  # pixels that a panel is wide, and a little less
    factor = int(width / (2 * drawn))
    rows = -(-4 // columns)
    panel = PICTURE_INCHES / columns * height / width
    size = (PICTURE_INCHES, rows * (panel + 0.3) + 0.7)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    figure.suptitle(title)
    panels: tuple[tuple[str, NDArray[np.generic]], ...] = (
        ("image", image),
        ("map", road),
        ("predicted probability", probability),
        (
            f"prediction ≥ {threshold:.3g} against map",
            overlay(image, road, probability >= threshold),
        ),
    )
    grid = figure.subplots(rows, columns, squeeze=False).flat
    for axes, (name, picture) in zip(grid, panels, strict=True):
        axes.imshow(
            _reduced(picture, factor),
            cmap="gray",
            vmin=0,
            vmax=1,
            interpolation="antialiased" if drawn < width else "nearest",
        )
        axes.set_title(name, fontsize=10)
        axes.set(xticks=[], yticks=[])
    figure.legend(
        handles=[Patch(color=f"#{bytes(colour).hex()}", label=label) for label, colour in LEGEND],
        loc="outside lower right",
        ncols=3,
        frameon=False,
    )
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)
