"""Several processes, one a machine or one a GPU, that train one net together, by JAX.

All are started alike. Under Slurm JAX finds out who they are; elsewhere three environment
variables say it, for they differ from machine to machine. Process 0 leads: it alone writes, and
it tells the others where the last run stopped.
"""

import contextlib
import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable
from typing import Any, BinaryIO

import numpy as np

from roads.models.backend import backend_name
from roads.runtime.errors import UserError, exit_status, one_line
from roads.training.backup import Backup, Progress

VARIABLES = ("ROADS_COORDINATOR", "ROADS_PROCESSES", "ROADS_PROCESS")
SLURM_TASKS = "SLURM_STEP_NUM_TASKS"  # only set where srun has started the process
LOST_AFTER = 60  # seconds without a sign of life
LOST = re.compile("gloo|nccl|connection (closed|reset)|coordination|heartbeat", re.IGNORECASE)
WAIT = 600  # seconds to wait for the others, at the start and at the end


def process_count() -> int:
    """How many processes train together."""
    if backend_name() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def process_index() -> int:
    """Which of them this is, from 0."""
    if backend_name() != "jax":
        return 0
    import jax

    return int(jax.process_index())


def run_joined(work: Callable[[], None]) -> None:
    """Do the work; in a process that was started as one of several, together with the others.

    Where there are several, one that fails ends at once, and the others when they miss it: at
    their next exchange, or after `LOST_AFTER` seconds.

    Raises:
        UserError: the variables are incomplete or wrong, the backend is not JAX, or the others
            do not come.
    """
    settings = _settings(os.environ)
    if settings is None:
        work()
        return
    if backend_name() != "jax":
        raise UserError(
            f"several processes train together with JAX only, and the backend is {backend_name()}: "
            "`pip install jax` and set KERAS_BACKEND=jax"
        )
    _connect(settings)
    status = exit_status(lambda: _together(work))
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a clean end would wait for the others


def _settings(environment: Any) -> dict[str, Any] | None:
    """What `jax.distributed.initialize` needs; nothing under Slurm; None for a process alone."""
    given = [environment.get(name) for name in VARIABLES]
    if not any(given):
        return {} if int(environment.get(SLURM_TASKS, 1)) > 1 else None
    if not all(given):
        missing = [name for name, value in zip(VARIABLES, given, strict=True) if not value]
        raise UserError(
            f"{' and '.join(missing)} is not set: several processes need {', '.join(VARIABLES)}"
        )
    address, count, index = given
    if not (count.isdecimal() and index.isdecimal() and int(index) < int(count)):
        raise UserError(
            f"ROADS_PROCESSES is {count} and ROADS_PROCESS {index}: how many processes there are, "
            "and which of them this is, counted from 0"
        )
    if not address.rpartition(":")[2].isdecimal() or ":" not in address:
        raise UserError(f"ROADS_COORDINATOR is {address}: should be the HOST:PORT of process 0")
    if int(count) == 1:
        return None
    return {
        "coordinator_address": address, "num_processes": int(count), "process_id": int(index),
        "cluster_detection_method": "deactivate",
    }  # fmt: skip


def _connect(settings: dict[str, Any]) -> None:
    import jax

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM for itself
    try:
        jax.distributed.initialize(
            **settings,
            initialization_timeout=WAIT,
            heartbeat_timeout_seconds=LOST_AFTER,
            shutdown_timeout_seconds=WAIT,
        )
    except (RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"the processes of this training do not come together: {reason}") from None


def _together(work: Callable[[], None]) -> None:
    import jax

    others_are_silent = contextlib.redirect_stdout(io.StringIO() if process_index() else sys.stdout)
    try:
        with others_are_silent:
            work()
        jax.distributed.shutdown()
    except (UserError, OSError):
        raise
    except BaseException as error:
        reason = one_line(error)
        if not LOST.search(reason):
            traceback.print_exc()
            reason = type(error).__name__
        raise UserError(
            f"process {process_index()} of {process_count()} cannot go on ({reason}). Start all "
            "again: training goes on after its last finished epoch."
        ) from None


def add_up(counts: list[int]) -> list[int]:
    """Each of the counts, summed over the processes."""
    if process_count() == 1:
        return counts
    return [sum(ours) for ours in zip(*map(json.loads, gather(json.dumps(counts))), strict=True)]


def gather(text: str) -> list[str]:
    """The texts of all processes, in their order."""
    from jax.experimental import multihost_utils

    content = np.frombuffer(text.encode(), np.uint8)
    lengths = multihost_utils.process_allgather(np.uint32(len(content)))
    padded = np.zeros(int(lengths.max()), np.uint8)
    padded[: len(content)] = content
    texts = multihost_utils.process_allgather(padded)
    return [text[:length].tobytes().decode() for text, length in zip(texts, lengths, strict=True)]


def check_agreement(key: str) -> None:
    """Raise a UserError in all processes where one has another key than process 0."""
    if process_count() == 1:
        return
    keys = gather(key)
    odd = [str(index) for index, other in enumerate(keys) if other != keys[0]]
    if odd:
        raise UserError(
            f"process {', '.join(odd)} has other code, params, packages, crops or devices than "
            "process 0: `git pull` and `dvc pull` there"
        )


class LeadersBackup(Backup):
    """A backup that process 0 keeps, and that all processes go on from."""

    def save(self, progress: Progress) -> None:
        if process_index() == 0:
            super().save(progress)

    def open(self) -> BinaryIO:
        if process_count() == 1:
            return super().open()
        from jax.experimental import multihost_utils

        leads = process_index() == 0
        content = self.path.read_bytes() if leads and self.path.exists() else b""
        length = int(multihost_utils.broadcast_one_to_all(np.uint32(len(content))))
        if length == 0:
            raise FileNotFoundError(self.path)
        whole = np.frombuffer(content, np.uint8) if leads else np.zeros(length, np.uint8)
        return io.BytesIO(multihost_utils.broadcast_one_to_all(whole).tobytes())
