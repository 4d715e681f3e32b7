"""Errors that a user can cause, reported in one line."""

import io
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Something the user can fix; the message names the file or key and how to fix it."""


class FullDiskError(UserError):
    """The disk is full; finished work is kept."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40
REASON_LENGTH = 200
INTERRUPTION = "interrupted; run the same command to continue"
INTERRUPTED = 130  # the usual exit status after Ctrl-C


def excerpt(value: object) -> str:
    """The repr of a value from a file, shortened to one line."""
    try:
        return ascii_controls(_SHORT.repr(value))
    except ValueError:  # Python refuses to format such a number
        return "a number of over 4,300 digits"


def one_line(error: BaseException) -> str:
    """A library's error message, shortened to one line."""
    return ascii_controls(" ".join(str(error).split()))[:REASON_LENGTH]


def ascii_controls(text: str) -> str:
    """The text with terminal control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def open_closed_streams() -> None:
    """Open closed standard streams on the null device, for worker processes too."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)  # it got the stream's own number
            setattr(sys, name, stream)


def exit_status(main: Callable[[], None]) -> int:
    """Run a command line, and report errors that the user can fix in one line on stderr.

    Characters missing from the terminal's encoding, and control characters in that line, are
    escaped. Returns 0, or 1 after a UserError or a full or unwritable disk, or 130 after Ctrl-C.
    """
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    status = _status(main)
    try:
        sys.stdout.flush()
    except OSError:  # reported already; Python would retry at exit and report it again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


def _status(main: Callable[[], None]) -> int:
    try:
        main()
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print(str(error) or INTERRUPTION, file=sys.stderr)
        return INTERRUPTED
    except UserError as error:
        print(f"error: {ascii_controls(str(error))}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{os.fspath(error.filename)}: " if error.filename else ""
        print(f"error: {ascii_controls(f'{place}{error.strerror or error}')}", file=sys.stderr)
        return 1
    return 0
