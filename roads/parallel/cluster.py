"""Apply a function to many items on a Dask cluster, with results in order.

This uses Dask directly, because joblib's Dask backend (joblib 1.5) hangs once a task has lost its
workers.
"""

import functools
import hashlib
import logging
import platform
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from importlib import metadata
from pathlib import Path
from typing import Any, TypeVar

from roads.runtime.errors import UserError
from roads.runtime.params import CHECKOUT

Item = TypeVar("Item")
Result = TypeVar("Result")

CONNECT_SECONDS = 10.0
AHEAD = 4  # submitted items per thread of the cluster
PACKAGES = ("numpy", "pillow", "scipy")  # the data's bytes depend on their versions


def on_cluster(
    function: Callable[[Item], Result], items: Sequence[Item], address: str
) -> Iterator[Result]:
    """Yield `function(item)` for each item, in order, computed by a Dask cluster's workers.

    Args:
        function: may run more than once for an item if a worker is lost.
        items: all paths in them, and those bound to the function, must be absolute.
        address: of the scheduler, `tcp://host:port` or `tls://host:port`; for TLS, Dask's own
            configuration (`distributed.comm.tls`) names the certificates.

    Raises:
        UserError: no scheduler or no worker answers within CONNECT_SECONDS each; the workers
            have other code, packages or disks than this process; a task killed its workers; or
            the scheduler was lost. Exceptions of the function are raised too.
    """
    client = _connect(address)
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    pending: deque[Any] = deque()
    try:
        _check_workers(client, address)
        width = AHEAD * sum(client.nthreads().values())
        for item in items:
            # Not pure: it is run for the files it writes, so cached results must not be reused.
            pending.append(client.submit(function, item, pure=False))
            if len(pending) >= width:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except KilledWorker:
        raise UserError(
            f"the Dask workers at {address} died one after the other on the same item, most "
            "likely out of memory. See their logs; give each more memory or fewer threads."
        ) from None
    except (CancelledError, CommClosedError):
        raise UserError(
            f"the Dask scheduler at {address} was lost. Start it and run the command again."
        ) from None
    finally:
        client.close()


def _connect(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise UserError(
            f"parallel.scheduler is {address}, but Dask is not installed. Run "
            "`pip install -r requirements-cluster.txt`, or set it to null."
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # errors come as exceptions
    try:
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TypeError, ValueError) as error:  # TypeError: no certificate for tls://
        reason = " ".join(str(error).split())
        raise UserError(
            f"no Dask scheduler answers at parallel.scheduler {address} ({reason}). Start it, "
            "or set parallel.scheduler to null."
        ) from None


def _check_workers(client: Any, address: str) -> None:
    """Raise a UserError unless every worker computes with the same code on the same files."""
    start = f"cd {CHECKOUT} && python -m dask worker {address}"
    try:
        client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        found = client.run(worker_facts, str(Path.cwd()))
    except TimeoutError:
        raise UserError(f"there is no worker at {address}. Start some: `{start}`.") from None
    except ModuleNotFoundError as error:
        raise UserError(
            f"a worker at {address} has no module {error.name}. Start it in the project: `{start}`."
        ) from None
    expected = worker_facts(str(Path.cwd()))
    for worker, facts in found.items():
        for name, value in expected.items():
            if facts[name] != value:
                raise UserError(
                    f"the worker {worker} has another {name} ({facts[name]}) than this process "
                    f"({value}). Restart it, in the project and its environment: `{start}`."
                )


def worker_facts(folder: str) -> dict[str, str]:
    """What must be the same in every process: the folder, the code and the packages.

    Args:
        folder: the absolute folder of the run, which every worker must see.
    """
    facts = {f"sight of {folder}": "there" if Path(folder).is_dir() else "missing"}
    facts |= {"code of roads/ and stages/": _code(), "Python": platform.python_version()}
    return facts | {package: metadata.version(package) for package in PACKAGES}


@functools.cache  # a worker keeps the code it first imported, even if the files change
def _code() -> str:
    digest = hashlib.sha256()
    for folder in ("roads", "stages"):
        for path in sorted((CHECKOUT / folder).rglob("*.py")):
            digest.update(f"{path.relative_to(CHECKOUT)}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:12]
