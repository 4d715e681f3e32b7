"""Curves over all thresholds: tables, and one picture of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roads.metrics.counts import CURVE_COLUMNS, LEVELS, curve_rows
from roads.metrics.crop_scores import CropScores
from roads.metrics.relaxed import RELAXED_COLUMNS, RHO
from roads.metrics.tile_scores import TileScores
from roads.runtime.files import replacing, write_csv

INCHES = (14.4, 4.8)
SCORE_LINES = {"dice": "-", "iou": "-", "precision": ":", "recall": ":"}
LABELS = {"dice": "Dice", "iou": "IoU"}

Rows = Sequence[tuple[float, ...]]


def write_curves(folder: Path, crops: CropScores, tiles: TileScores | None) -> None:
    """Write a CSV for each curve and `curves.png`, all into `folder`, which exists.

    Strict tables have the columns CURVE_COLUMNS, relaxed ones RELAXED_COLUMNS; without whole
    tiles there are the crops' alone.
    """
    strict: dict[str, Rows] = {"crops": curve_rows(crops.pooled)}
    relaxed: dict[str, Rows] = {}
    level = crops.level
    if tiles is not None:
        strict = {"whole tiles": curve_rows(tiles.pooled)} | strict
        relaxed["full tile"] = tiles.relaxed.curve_rows()
        relaxed["centre crop"] = tiles.relaxed_centre.curve_rows()
        level = tiles.level
    for kind, columns, curves in (
        ("strict", CURVE_COLUMNS, strict),
        ("relaxed", RELAXED_COLUMNS, relaxed),
    ):
        for name, rows in curves.items():
            write_csv(folder / f"{kind}_{name.replace(' ', '_')}.csv", columns, rows)
    _draw(folder / "curves.png", strict, relaxed, level / LEVELS)


def _draw(
    path: Path, strict: Mapping[str, Rows], relaxed: Mapping[str, Rows], threshold: float
) -> None:
    """Draw the scores of the first of `strict` over the threshold, and all curves."""
    figure = Figure(figsize=INCHES, dpi=100, layout="constrained")
    panels = figure.subplots(1, 3 if relaxed else 2)
    _draw_shares(panels[0], strict, "Precision and recall")
    name, rows = next(iter(strict.items()))
    _draw_scores(panels[1], rows, f"Scores of {name} by threshold", threshold)
    if relaxed:
        _draw_shares(panels[2], relaxed, f"Relaxed precision and recall (ρ = {RHO})")
        panels[2].plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _draw_shares(axes: Axes, curves: Mapping[str, Rows], title: str) -> None:
    for name, rows in curves.items():
        axes.plot([row[1] for row in rows], [row[2] for row in rows], label=name)
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower left", frameon=False)


def _draw_scores(axes: Axes, rows: Rows, title: str, threshold: float) -> None:
    for name, style in SCORE_LINES.items():
        values = [row[CURVE_COLUMNS.index(name)] for row in rows]
        axes.plot([row[0] for row in rows], values, style, label=LABELS.get(name, name))
    axes.axvline(threshold, color="0.6", linewidth=0.8, label="chosen on validation")
    axes.set(title=title, xlabel="threshold", ylabel="score", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower center", frameon=False, ncols=2)
