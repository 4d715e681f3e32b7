"""One function over many items, on all cores, results in order."""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import joblib
from tqdm import tqdm

from roads.lifetime import end_with

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "ROADS_WORKERS"  # a fact of the machine, so not a parameter
BLOCK = 16  # items a process; at the end of a block they wait for one another
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

    Only a block of results is under way at a time, so memory does not grow with the items.
    """
    workers = min(worker_count(), len(items))
    if workers <= 1 or len(items) < FEW:
        results: Iterable[Result] = map(function, items)
    else:
        results = _by_blocks(function, items, workers)
    yield from progress(results, title, len(items))


def _by_blocks(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[Result]:
    block = BLOCK * workers
    with joblib.Parallel(
        n_jobs=workers,
        return_as="generator",
        batch_size=1,
        initializer=end_with,  # a worker whose parent was killed would go on writing
        initargs=(os.getpid(),),
    ) as pool:
        for start in range(0, len(items), block):
            yield from pool(joblib.delayed(function)(item) for item in items[start : start + block])
