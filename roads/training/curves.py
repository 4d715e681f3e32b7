"""The curves of a training: a row of values for each epoch."""

import contextlib
import functools
import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Row = dict[str, float]


@contextlib.contextmanager
def curves(folder: Path) -> Iterator[Callable[[Row], None]]:
    """Give a function that adds an epoch's row to the curves in `folder`.

    dvclive writes them where it is installed. A GPU machine without DVC gets the same tables, for
    `dvc plots` to draw once they are brought back, but not dvclive's summary `metrics.json`: its
    values are the tables' last lines.
    """
    if importlib.util.find_spec("dvclive") is None:
        yield functools.partial(_write_row, folder)
        return
    import dvclive

    with dvclive.Live(str(folder), dvcyaml=False, save_dvc_exp=False) as live:
        yield functools.partial(_log_row, live)


def _log_row(live: Any, row: Row) -> None:
    """Log a row by a `dvclive.Live`; its steps are our epochs, from 1."""
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
