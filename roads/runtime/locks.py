"""One process at a time, by a lock file that the system frees when its holder is killed."""

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
    """Hold a lock file, and remove it at the end; its folder is made if missing.

    Args:
        path: the file.
        told: what to say where another process holds it.
        wait: say it on stderr and wait, instead of raising it.

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
            f"{path.parent.resolve()} is on a file system without locks, such as some NFS. Move "
            "the project to another, or, where only this folder is there, name one in $ROADS_STATE"
        ) from None
    try:
        yield
    finally:
        path.unlink(missing_ok=True)  # who waits for it sees that, and takes a new file
        lock.release()
