"""The training curves, one row of values per epoch, and decisions made from them."""

import contextlib
import functools
import importlib.util
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from roads.params.train import TrainParams
from roads.runtime.files import replacing, told_if_full

PICTURE = "curves.png"
DRAWN_SECONDS = 10  # least time between two pictures
SCORES = {"loss": "loss", "dice": "Dice at 0.5"}  # in the picture, with their labels

Row = dict[str, float]


def make_row(epoch: int, learning_rate: float, logs: Mapping[str, Any]) -> Row:
    """An epoch's number from 1, the learning rate of its last step, and all scores.

    Keras' `loss` and `val_loss` become `train/loss` and `valid/loss`, and so on.
    """
    row = {"epoch": epoch + 1, "learning_rate": learning_rate}
    for name, value in logs.items():
        valid = name.startswith("val_")
        row[f"valid/{name[4:]}" if valid else f"train/{name}"] = float(value)
    return row


def _monitored(rows: list[Row], recipe: TrainParams) -> list[float]:
    """The values of `train.monitor`, negated if needed so that lower is better."""
    sign = 1 if recipe.monitor == "loss" else -1
    return [sign * row[f"valid/{recipe.monitor}"] for row in rows]


def kept_epoch(rows: list[Row], recipe: TrainParams) -> int:
    """The index of the row whose weights are kept: the (first) best or the last.

    `train.keep` chooses which; `train.monitor` defines the best.
    """
    values = _monitored(rows, recipe)
    return len(rows) - 1 if recipe.keep == "last" else values.index(min(values))


def stops_early(rows: list[Row], recipe: TrainParams) -> bool:
    """Whether there are `early_stopping_patience` rows after the best one.

    Never with a patience of 0 or with `train.minutes`.
    """
    values, patience = _monitored(rows, recipe), recipe.early_stopping_patience
    wanted = patience > 0 and recipe.minutes is None
    return wanted and len(values) - 1 - values.index(min(values)) >= patience


def on_plateau(rows: list[Row], recipe: TrainParams) -> bool:
    """Whether the schedule `plateau` lowers the learning rate after the last row.

    It does after `plateau_patience` rows without progress of more than `plateau_min_delta`, and
    then counts again. (As Keras' ReduceLROnPlateau, which loses its count when killed.)
    """
    best, waited = math.inf, 0
    for value in _monitored(rows, recipe):
        waited = waited % recipe.plateau_patience + 1
        if value + recipe.plateau_min_delta < best:
            best, waited = value, 0
    return recipe.schedule == "plateau" and waited == recipe.plateau_patience


@contextlib.contextmanager
def curves(folder: Path) -> Iterator[Callable[[Row], None]]:
    """Empty `folder`, and yield a function that adds an epoch's row to the curves in it.

    They are written by dvclive if it is installed. Otherwise, as on a GPU machine without DVC, the
    same tables are written for `dvc plots` to draw later, but not dvclive's summary
    `metrics.json`: its values are the tables' last lines. `curves.png` is redrawn from time to
    time and at the end.

    Raises:
        FullDiskError: the disk is full.
    """
    with told_if_full(folder), contextlib.ExitStack() as stack:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        write = functools.partial(_write_row, folder)
        if importlib.util.find_spec("dvclive") is not None:
            import dvclive

            live = dvclive.Live(str(folder), dvcyaml=False, save_dvc_exp=False)
            write = functools.partial(_log_row, stack.enter_context(live))
        rows: list[Row] = []
        drawn = 0.0

        def add(row: Row) -> None:
            nonlocal drawn
            write(row)
            rows.append(row)
            if time.monotonic() - drawn > DRAWN_SECONDS:
                draw_curves(folder / PICTURE, rows)
                drawn = time.monotonic()

        yield add
        draw_curves(folder / PICTURE, rows)


def draw_curves(path: Path, rows: list[Row]) -> None:
    """Draw training and validation loss and Dice by epoch, as a PNG."""
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    epochs = [row["epoch"] for row in rows]
    for axes, (score, label) in zip(figure.subplots(1, 2), SCORES.items(), strict=True):
        for split in ("train", "valid"):
            axes.plot(epochs, [row[f"{split}/{score}"] for row in rows], ".-", label=split)
        axes.set(xlabel="epoch", ylabel=label)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend(frameon=False)
    with replacing(path) as partial:
        FigureCanvasAgg(figure).print_png(partial)


def _log_row(live: Any, row: Row) -> None:
    """Log a row with a `dvclive.Live`; its steps are epochs, from 1."""
    live.step = int(row["epoch"])
    for name, value in row.items():
        if name != "epoch":
            live.log_metric(name, value)
    live.make_summary()


def _write_row(folder: Path, row: Row) -> None:
    """Add a row to the tables `plots/metrics/**/NAME.tsv`, as dvclive does."""
    for name, value in row.items():
        if name != "epoch":
            path = folder / "plots/metrics" / f"{name}.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a", encoding="utf-8") as table:
                if table.tell() == 0:
                    table.write(f"step\t{path.stem}\n")
                table.write(f"{int(row['epoch'])}\t{value}\n")
