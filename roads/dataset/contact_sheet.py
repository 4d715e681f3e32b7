"""A contact sheet: many small captioned pictures, to check by eye."""

import textwrap
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from roads.runtime.arrays import Image8
from roads.runtime.files import replacing

COLUMNS = 6
LEAST_COLUMNS = 3  # the sheet is at least this wide, so that its title fits
TITLE_LETTERS = 22  # letters of the title that fit over one column
MOST_PICTURES = 120
INCHES = 2.0  # a picture's side


def save_contact_sheet(path: Path, pictures: list[tuple[str, Image8]], title: str) -> None:
    """Draw captioned pictures in rows and save them as PNG.

    Args:
        path: the PNG to write.
        pictures: (caption, (height, width, 3) uint8) each; those after the first MOST_PICTURES are
            left out, and the title says so.
        title: of the sheet.
    """
    shown = pictures[:MOST_PICTURES]
    if len(shown) < len(pictures):
        title += f" (the first {len(shown)} of {len(pictures)})"
    if not shown:
        title += ": none"
    columns = min(max(1, len(shown)), COLUMNS)
    rows = max(1, -(-len(shown) // columns))
    wide = max(columns, LEAST_COLUMNS)
    lines = textwrap.wrap(title, wide * TITLE_LETTERS)
    size = (wide * INCHES, rows * (INCHES + 0.5) + 0.3 + 0.2 * len(lines))
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle("\n".join(lines), parse_math=False)
    if shown:
        for axes in figure.subplots(rows, columns, squeeze=False).flat:
            axes.set_axis_off()
        for axes, (caption, picture) in zip(figure.axes, shown, strict=False):
            axes.imshow(picture)
            axes.set_title(caption, fontsize=8, parse_math=False)  # names may have $ in them
            height, width = picture.shape[:2]
            frame = Rectangle(
                (-0.5, -0.5), width, height, fill=False, edgecolor="0.6", linewidth=0.8
            )
            axes.add_patch(frame)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=100)
