"""A lock file for one process at a time; the system frees it when its holder is killed."""

import contextlib
import errno
import sys
from collections.abc import Iterator
from pathlib import Path

import filelock

from roads.runtime.errors import UserError


class HeldError(UserError):
    """Another process holds the lock."""


@contextlib.contextmanager
def held(path: Path, told: str = "", *, wait: bool = False) -> Iterator[None]:
    """Hold a lock file, and remove it at the end; its folder is created if missing.

    Args:
        path: the file.
        told: the message if another process holds it.
        wait: print the message to stderr and wait instead of raising it.

    Raises:
        HeldError: another process holds it.
        UserError: its file system has no locks.
    """
    lock = filelock.FileLock(path)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        if not wait:
            raise HeldError(told) from None
        print(told, file=sys.stderr)
        lock.acquire()
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            raise
        raise UserError(
            f"{path.parent.resolve()} is on a file system without locks, as NFS can be. "
            "Move the project to another one, or, if only this folder is there, set $ROADS_STATE "
            "to a folder elsewhere"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # a waiting process notices and creates a new file
        lock.release()
