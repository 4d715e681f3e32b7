"""Runs a stage: alone, on unchanged inputs, and only as long as the `dvc` that started it.

When DVC is killed, its stage keeps running, and would write into the outputs of the next
`dvc repro`. DVC starts a stage in a shell, and only some shells (bash, zsh) replace themselves with
the last command they run. The commands in dvc.yaml therefore use `exec`: DVC is then always the
stage's parent process.
"""

import argparse
import contextlib
import ctypes
import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from roads.runtime.errors import (
    INTERRUPTED,
    INTERRUPTION,
    UserError,
    exit_status,
    open_closed_streams,
)
from roads.runtime.inputs import PIPELINE_FILE, Inputs, seen
from roads.runtime.locks import held
from roads.runtime.params import PARAMS_FILE

STAGE_VARIABLE = "DVC_STAGE"  # DVC sets it to the stage's name
PR_SET_PDEATHSIG = 1  # from <linux/prctl.h>

_inputs: list[Inputs] = []  # of the stage running in this process


def begin() -> None:
    """Prepare a stage's process before its imports: streams, Ctrl-C, and a record of its inputs."""
    open_closed_streams()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not ignored, as by nohup
        signal.signal(signal.SIGINT, _leave)
    stage = os.environ.get(STAGE_VARIABLE)
    if stage and PIPELINE_FILE.is_file():
        with contextlib.suppress(UserError):  # the stage reports it
            _inputs.append(seen(stage))


def _leave(*_: object) -> None:
    print(INTERRUPTION, file=sys.stderr, flush=True)
    os._exit(INTERRUPTED)


def stage_status(main: Callable[[], None]) -> int:
    """Run a stage's command line as `exit_status` does; under DVC, with the checks above."""
    stage = os.environ.get(STAGE_VARIABLE)
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    status = exit_status(functools.partial(_tied_and_alone, main, stage) if stage else main)
    if stage and status:
        # `dvc exp run -S` changes the file right after Git wrote it. Git misses a change of equal
        # length within a second, and `git restore` would leave it.
        with contextlib.suppress(OSError):
            os.utime(PARAMS_FILE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # done; idle workers take a moment to end
    return status


def stage_paths(description: str | None, *names: str) -> argparse.Namespace:
    """The paths of a stage's command line: `--NAME PATH` for each name, all required."""
    parser = argparse.ArgumentParser(description=description)
    for name in names:
        parser.add_argument(f"--{name}", type=Path, required=True)
    return parser.parse_args()


def check_inputs() -> None:
    """Raise a ChangedError if this process runs a stage under DVC and its inputs changed.

    Every stage is checked at its end. One that keeps unfinished work checks before discarding it.
    """
    for inputs in _inputs:
        inputs.check_unchanged()


def end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent, with this id, ends.

    More exactly, when the parent's thread that started it ends. Linux only; no effect elsewhere.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it has already ended
            os.kill(os.getpid(), signal.SIGKILL)


def _tied_and_alone(main: Callable[[], None], stage: str) -> None:
    parent = os.getppid()
    end_with(parent)
    # An orphan's new parent is the init process, usually of another session than DVC's.
    if os.getsid(parent) != os.getsid(0):
        raise UserError("the `dvc` that started this stage has ended. Run `dvc repro`.")
    lock = Path(".dvc/tmp") / f"stage-{stage}.lock"
    running = (
        f"the stage {stage} is already running here in another process (it may have outlived the "
        f"`dvc` that started it; it holds {lock}). Wait for it to end, or end it."
    )
    in_dvc = Path(".dvc").is_dir()
    with held(lock, running) if in_dvc else contextlib.nullcontext():
        main()
        check_inputs()
