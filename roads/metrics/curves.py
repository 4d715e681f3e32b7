"""Curves over all thresholds, as tables and as one picture."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from roads.metrics.calibration import COLUMNS as RELIABILITY
from roads.metrics.calibration import reliability_rows
from roads.metrics.counts import LEVELS
from roads.metrics.crop_scores import CropScores
from roads.metrics.relaxed import RHO
from roads.metrics.tile_scores import TileScores
from roads.runtime.files import replacing, write_csv

PANEL = 4.8  # inches
COLUMNS = ("threshold", "recall", "precision", "dice", "iou")  # relaxed curves have three
SCORE_LINES = {  # style and label
    "dice": ("-", "Dice"),
    "iou": ("-", "IoU"),
    "precision": (":", "precision"),
    "recall": (":", "recall"),
}

Curves = Mapping[str, Sequence[tuple[float, ...]]]  # rows of COLUMNS by the curve's name


def write_curves(folder: Path, crops: CropScores, tiles: TileScores | None) -> None:
    """Write a CSV for each curve and `curves.png`, all into `folder`, which exists."""
    pooled, relaxed = {"crops": crops.pooled}, {}
    level = crops.level
    if tiles is not None:
        pooled = {"whole tiles": tiles.pooled} | pooled
        relaxed = {
            "full tile": tiles.relaxed.curve_rows(),
            "centre crop": tiles.relaxed_centre.curve_rows(),
        }
        level = tiles.level
    strict = {name: counts.curve_rows() for name, counts in pooled.items()}
    reliability = {name: reliability_rows(counts) for name, counts in pooled.items()}
    for kind, columns, curves in (
        ("strict", COLUMNS, strict),
        ("relaxed", COLUMNS[:3], relaxed),
        ("reliability", RELIABILITY, reliability),
    ):
        for name, rows in curves.items():
            write_csv(folder / f"{kind}_{name.replace(' ', '_')}.csv", columns, rows)
    _draw(folder / "curves.png", strict, relaxed, reliability, level / LEVELS)


def _draw(
    path: Path, strict: Curves, relaxed: Curves, reliability: Curves, threshold: float
) -> None:
    """Draw all curves, and the scores of the first of `strict` by threshold."""
    count = 4 if relaxed else 3
    figure = Figure(figsize=(count * PANEL, PANEL), dpi=100, layout="constrained")
    panels = figure.subplots(1, count)
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
    for name, rows in reliability.items():
        panels[2].plot([row[0] for row in rows], [row[1] for row in rows], "o-", label=name)
    panels[2].set(
        title="Reliability", xlabel="predicted probability of road", ylabel="fraction that is road",
        xlim=(0, 1), ylim=(0, 1.01),
    )  # fmt: skip
    panels[2].legend(loc="upper left", frameon=False)
    if relaxed:
        _draw_curves(panels[3], relaxed, f"Relaxed precision and recall (ρ = {RHO})")
    for panel in panels[2:]:
        panel.plot([0, 1], [0, 1], color="0.8", linewidth=0.8, zorder=0)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _draw_curves(axes: Axes, curves: Curves, title: str) -> None:
    for name, rows in curves.items():
        axes.plot([row[1] for row in rows], [row[2] for row in rows], label=name)
    axes.set(title=title, xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.01))
    axes.legend(loc="lower left", frameon=False)
