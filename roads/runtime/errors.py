"""Errors that a user can cause, told in one line."""

import io
import os
import reprlib
import sys
from collections.abc import Callable
from pathlib import Path


class UserError(Exception):
    """Something the user can fix; the message names the file or key and the way out."""


class FullDiskError(UserError):
    """There is no room for a file; what was finished before is kept."""


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother, _SHORT.maxlong = 2, 80, 80, 40
REASON_LENGTH = 200
INTERRUPTION = "interrupted; run the same command to go on"
INTERRUPTED = 130  # the exit status of what Ctrl-C ended, by custom


def excerpt(value: object) -> str:
    """What a file holds, as Python would write it, but short and in one line."""
    try:
        return ascii_controls(_SHORT.repr(value))
    except ValueError:  # Python refuses to write such a number
        return "a number of over 4,300 digits"


def one_line(error: BaseException) -> str:
    """A library's error message, shortened and in one line."""
    return ascii_controls(" ".join(str(error).split()))[:REASON_LENGTH]


def ascii_controls(text: str) -> str:
    """The text with terminal control characters escaped."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def open_closed_streams() -> None:
    """Open the standard streams that were closed on the null device, for worker processes too."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:
            stream = Path(os.devnull).open("r" if name == "stdin" else "w", encoding="utf-8")  # noqa: SIM115
            os.set_inheritable(stream.fileno(), True)  # the lowest free number, so the stream's own
            setattr(sys, name, stream)


def exit_status(main: Callable[[], None]) -> int:
    """Run a command line and turn what the user can fix into one line on stderr.

    What a terminal's encoding lacks is printed escaped; so are control characters in that line.
    Returns 0, 1 after a UserError or a full or unwritable disk, 130 after Ctrl-C.
    """
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    status = _status(main)
    try:
        sys.stdout.flush()
    except OSError:  # told already; Python would try again at its end, and tell it in its own way
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
