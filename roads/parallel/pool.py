"""Apply a function to many items on all cores or a cluster, with results in order."""

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import joblib

from roads.parallel.cluster import on_cluster
from roads.params.parallel import ParallelParams
from roads.runtime.errors import UserError, excerpt
from roads.runtime.params import has_section, read_section
from roads.runtime.progress import progress
from roads.runtime.stage import end_with

Item = TypeVar("Item")
Result = TypeVar("Result")

WORKERS_VARIABLE = "ROADS_WORKERS"  # depends on the machine, so not a parameter
BLOCK = 16  # items per process; processes wait for one another at the end of each block
FEW = 4  # with fewer tiles than this, starting worker processes takes longer than the work


def worker_count() -> int:
    """Processes to use: ROADS_WORKERS, or the cores this process may run on.

    Raises:
        UserError: the variable is not a number of at least 1.
    """
    told = os.environ.get(WORKERS_VARIABLE)
    if not told:
        return int(joblib.cpu_count())
    if not (told.isascii() and told.isdigit() and len(told) < 6 and int(told) > 0):
        raise UserError(f"{WORKERS_VARIABLE} is {excerpt(told)}: should be a number of at least 1")
    return int(told)


def in_order(
    function: Callable[[Item], Result], items: Sequence[Item], title: str
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by several processes.

    They run on this machine, or on a Dask cluster if params.yaml names its scheduler. Only a few
    results are pending at a time, so memory does not grow with the number of items.

    Args:
        function: its exceptions are raised here.
        items: all paths in them, and those bound to the function, must be absolute (for a cluster).
        title: of the progress bar.

    Raises:
        UserError: a process was killed, for example when memory ran out, or the cluster failed.
    """
    workers = min(worker_count(), len(items))
    scheduler = read_scheduler()
    if len(items) < FEW or (workers <= 1 and not scheduler):
        results: Iterable[Result] = map(function, items)
    elif scheduler:
        results = on_cluster(function, items, scheduler)
    else:
        results = _by_blocks(function, items, workers, title)
    yield from progress(results, title, len(items))


def read_scheduler() -> str | None:
    """`parallel.scheduler` of the params.yaml here; None if it has no such section."""
    if not has_section("parallel"):
        return None
    return read_section(ParallelParams, "parallel").scheduler


def _by_blocks(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, title: str
) -> Iterator[Result]:
    block = BLOCK * workers
    try:
        with joblib.Parallel(
            n_jobs=workers,
            return_as="generator",
            batch_size=1,
            initializer=end_with,  # otherwise it would keep writing after its parent was killed
            initargs=(os.getpid(),),
        ) as pool:
            for start in range(0, len(items), block):
                calls = (joblib.delayed(function)(item) for item in items[start : start + block])
                # Workers start here and inherit ignoring Ctrl-C: only this process reports it.
                handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
                try:
                    results = pool(calls)
                finally:
                    signal.signal(signal.SIGINT, handler)
                yield from results
    except BrokenProcessPool:
        raise UserError(
            f"{title}: a worker process was killed, most likely because memory ran out. Run again "
            f"with fewer processes: {WORKERS_VARIABLE}={max(1, workers // 2)}."
        ) from None
