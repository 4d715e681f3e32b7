"""Errors that a user can cause, told in one line."""

import os
import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend; the message names the file or key and the way out."""


class FullDiskError(UserError):
    """There is no room for a file; what was finished before is kept."""


def exit_status(main: Callable[[], None]) -> int:
    """Run a command line and turn what the user can mend into one line on stderr.

    Returns 0, or 1 after a UserError or a full or unwritable disk.
    """
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        if error.filename is None and error.errno is None:
            raise
        place = f"{os.fspath(error.filename)}: " if error.filename else ""
        print(f"error: {place}{error.strerror or error}", file=sys.stderr)
        return 1
    return 0
