"""One function over many items, on all cores, results in order."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import joblib
from tqdm import tqdm

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "ROADS_WORKERS"  # a fact of the machine, so not a parameter
FEW = 4  # starting worker processes takes longer than so few tiles


def worker_count() -> int:
    """Processes to use: ROADS_WORKERS, or the cores this process may run on."""
    return int(os.environ.get(WORKERS_VARIABLE, 0)) or joblib.cpu_count()


def progress(items: Iterable[Item], title: str, total: int | None = None) -> Iterator[Item]:
    """Show a progress bar on a terminal, and nothing elsewhere."""
    return iter(tqdm(items, desc=title, total=total, disable=None, dynamic_ncols=True))


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by several processes.

    At most two results per process are under way, so memory does not grow with the items.
    """
    workers = min(worker_count(), len(items))
    if workers <= 1 or len(items) < FEW:
        results: Iterable[Result] = map(function, items)
    else:
        pool = joblib.Parallel(
            n_jobs=workers, return_as="generator", batch_size=1, pre_dispatch="2*n_jobs"
        )
        results = pool(joblib.delayed(function)(item) for item in items)
    yield from progress(results, title, len(items))
