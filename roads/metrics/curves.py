"""Curves over all thresholds, as tables and as one picture."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roads.metrics.counts import LEVELS
from roads.metrics.crop_scores import CropScores
from roads.metrics.relaxed import RHO
from roads.metrics.tile_scores import TileScores
from roads.runtime.files import replacing, write_csv

INCHES = (14.4, 4.8)
COLUMNS = ("threshold", "recall", "precision", "dice", "iou")  # relaxed curves have three
SCORE_LINES = {  # style and label
    "dice": ("-", "Dice"),
    "iou": ("-", "IoU"),
    "precision": (":", "precision"),
    "recall": (":", "recall"),
}

Curves = dict[str, Sequence[tuple[float, ...]]]  # rows of COLUMNS by the curve's name


def write_curves(folder: Path, crops: CropScores, tiles: TileScores | None) -> None:
    """Write a CSV for each curve and `curves.png`, all into `folder`, which exists."""
    strict: Curves = {"crops": crops.pooled.curve_rows()}
    relaxed: Curves = {}
    level = crops.level
    if tiles is not None:
        strict = {"whole tiles": tiles.pooled.curve_rows()} | strict
        relaxed["full tile"] = tiles.relaxed.curve_rows()
        relaxed["centre crop"] = tiles.relaxed_centre.curve_rows()
        level = tiles.level
    for kind, columns, curves in (("strict", COLUMNS, strict), ("relaxed", COLUMNS[:3], relaxed)):
        for name, rows in curves.items():
            write_csv(folder / f"{kind}_{name.replace(' ', '_')}.csv", columns, rows)
    _draw(folder / "curves.png", strict, relaxed, level / LEVELS)


def _draw(path: Path, strict: Curves, relaxed: Curves, threshold: float) -> None:
    """Draw all curves, and the scores of the first of `strict` by threshold."""
    figure = Figure(figsize=INCHES, dpi=100, layout="constrained")
    panels = figure.subplots(1, 3 if relaxed else 2)
    _draw_curves(panels[0], strict, "Precision and recall")
    name, rows = next(iter(strict.items()))
    for score, (style, label) in SCORE_LINES.items():
        column = COLUMNS.index(score)
        panels[1].plot([row[0] for row in rows], [row[column] for row in rows], style, label=label)
    panels[1].axvline(threshold, color="0.6", linewidth=0.8, label="chosen on validation")
    panels[1].set(
        title=f"Scores of {name} by threshold", xlabel="threshold", ylabel="score",
        xlim=(0, 1), ylim=(0, 1.01),
    )  # fmt: skip
    panels[1].legend(loc="lower center", frameon=False, ncols=2)
    if relaxed:
        _draw_curves(panels[2], relaxed, f"Relaxed precision and recall (ρ = {RHO})")
        panels[2].plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _draw_curves(axes: Axes, curves: Curves, title: str) -> None:
    for name, rows in curves.items():
        axes.plot([row[1] for row in rows], [row[2] for row in rows], label=name)
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower left", frameon=False)
