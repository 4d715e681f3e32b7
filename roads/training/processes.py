"""Trains one net in several processes with JAX, one per machine or per GPU.

Under Slurm, JAX detects the processes; elsewhere three environment variables define them. Process 0
leads: only it writes files, and it tells the others where the last run stopped.
"""

import contextlib
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from roads.models.backend import backend_name
from roads.models.weights import Description
from roads.runtime.errors import UserError, exit_status, one_line
from roads.runtime.state import state_folder
from roads.training.backup import Backup, Progress, fingerprint, imported_code

VARIABLES = ("ROADS_COORDINATOR", "ROADS_PROCESSES", "ROADS_PROCESS")
SLURM_TASKS = "SLURM_STEP_NUM_TASKS"  # only set if srun started the process
LOST_AFTER = 60  # seconds without a heartbeat
LOST = re.compile("gloo|nccl|connection (closed|reset)|coordination|heartbeat", re.IGNORECASE)
WAIT = 600  # seconds to wait for the others, at the start and at the end


def process_count() -> int:
    """The number of processes that train together."""
    if backend_name() != "jax":
        return 1
    import jax

    return int(jax.process_count())


def process_index() -> int:
    """The index of this process, from 0."""
    if backend_name() != "jax":
        return 0
    import jax

    return int(jax.process_index())


def run_joined(work: Callable[[], None]) -> None:
    """Do the work, together with the other processes if this is one of several.

    A process that fails ends immediately; the others end when they notice, at their next exchange
    or after `LOST_AFTER` seconds.

    Raises:
        UserError: the variables are incomplete or wrong, the backend is not JAX, or the processes
            could not connect.
    """
    settings = _settings(os.environ)
    if settings is None:
        work()
        return
    if backend_name() != "jax":
        raise UserError(
            f"several processes can train together only with JAX, but the backend is "
            f"{backend_name()}: `pip install jax` and set KERAS_BACKEND=jax"
        )
    _connect(settings)
    status = exit_status(lambda: _together(work))
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)  # a normal exit would wait for the others


def _settings(environment: Any) -> dict[str, Any] | None:
    """Arguments of `jax.distributed.initialize`; empty under Slurm; None for a single process."""
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
            f"ROADS_PROCESSES is {count} and ROADS_PROCESS is {index}: should be the number of "
            "processes, and the index of this one from 0"
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
    jax.config.update("jax_enable_preemption_service", False)  # it would handle SIGTERM itself
    try:
        jax.distributed.initialize(
            **settings,
            initialization_timeout=WAIT,
            heartbeat_timeout_seconds=LOST_AFTER,
            shutdown_timeout_seconds=WAIT,
        )
    except (RuntimeError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"could not connect to the other training processes: {reason}") from None


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
            f"process {process_index()} of {process_count()} cannot continue ({reason}). Start all "
            "again: training resumes after its last finished epoch."
        ) from None


def add_up(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Sum each count over the processes."""
    return _gather(counts).sum(axis=0) if process_count() > 1 else counts


class LeadersBackup(Backup):
    """A backup that process 0 writes and all processes resume from."""

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


def shared_backup(described: Description, files: Sequence[Path]) -> LeadersBackup:
    """The backup of a training, with the same name in every process.

    Args:
        described: the net to train, and how.
        files: the data, the stage's own code and the initial weights.

    Raises:
        UserError: in all processes, if one has other params, data or code than process 0.
    """
    facts = {**described.model_dump(mode="json"), "processes": process_count()}
    key = fingerprint(facts, [*files, *imported_code()])
    _check_agreement(key)
    return LeadersBackup(state_folder("training"), key)


def _check_agreement(key: str) -> None:
    if process_count() > 1:
        keys = _gather(np.frombuffer(key.encode(), np.uint8))
        odd = np.flatnonzero((keys != keys[0]).any(axis=1))
        if len(odd):
            raise UserError(
                f"process {', '.join(map(str, odd))} has other code, params, packages, crops or "
                "devices than process 0: `git pull` and `dvc pull` there"
            )


def _gather(values: NDArray[Any]) -> NDArray[Any]:
    """The values of all processes, (processes, n); sent as bytes, as JAX has no 64-bit integers."""
    from jax.experimental import multihost_utils

    whole = multihost_utils.process_allgather(values.view(np.uint8))
    return np.asarray(whole).view(values.dtype)
