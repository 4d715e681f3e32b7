"""Files that are complete or absent: written under another name, synced, then renamed."""

import contextlib
import csv
import errno
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from roads.runtime.errors import FullDiskError, UserError

PARTIAL = ".partial"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a new, empty file next to `path` to write to; on success it is renamed to `path`.

    DVC's cached outputs may be read-only hard links: they are replaced, never written to.

    Raises:
        FullDiskError: the disk is full.
    """
    # The name is unpredictable, so that nobody can put a link to another file there.
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with told_if_full(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            for left in path.parent.glob(f"{glob.escape(path.name)}.{'[0-9a-f]' * 8}{PARTIAL}"):
                left.unlink(missing_ok=True)  # from a killed run
            partial.touch(exist_ok=False)
            yield partial
            take_name(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill; on success it replaces `folder`.

    Raises:
        FullDiskError: the disk is full.
    """
    with told_if_full(folder), partial_folder(folder) as partial:
        yield partial
        _sync_all(partial)  # slow, so done while the old folder still exists
        if folder.exists():
            shutil.rmtree(folder)
        partial.replace(folder)
        _sync(folder.parent)


@contextlib.contextmanager
def partial_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder next to `path`; it is removed at the end unless it was moved."""
    partial = path.with_name(path.name + PARTIAL)
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def take_name(partial: Path, path: Path) -> None:
    """Sync a file or folder to disk, then rename it to `path`: complete even after a power cut."""
    _sync_all(partial)
    partial.replace(path)
    _sync(path.parent)


def _sync_all(path: Path) -> None:
    for each in [path, *path.rglob("*")]:
        _sync(each)


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        if not path.is_dir():  # not every file system can sync a folder
            raise
    finally:
        os.close(handle)


NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # EFBIG: `ulimit -f`


@contextlib.contextmanager
def told_if_full(path: Path) -> Iterator[None]:
    """Raise a FullDiskError that names `path` if its disk or the user's quota is full."""
    try:
        yield
    except (OSError, RuntimeError) as error:  # HDF5 raises either, and only its text says why
        for number in NO_SPACE:
            reason = os.strerror(number)
            if getattr(error, "errno", None) == number or reason in str(error):
                raise _full(path, number) from None
        raise


def check_room(path: Path, needed: int) -> None:
    """Raise a FullDiskError that names `path` if fewer than `needed` bytes are free on its disk.

    For libraries that do not report failed writes: GDAL.
    """
    if shutil.disk_usage(path.parent).free < needed:
        raise _full(path, errno.ENOSPC)


def _full(path: Path, number: int) -> FullDiskError:
    reason = os.strerror(number).lower()
    return FullDiskError(
        f"{path} could not be written: {reason}. Free some space and run it again."
    )


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table with `\\n` line endings: the same bytes on every system."""
    with replacing(path) as partial, partial.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def read_csv(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """Read a table with these columns: each line's number, and its fields by column.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is not CSV in UTF-8, has other columns, or has a line with more or fewer
            fields; the message says which.
    """
    with path.open(newline="", encoding="utf-8-sig") as stream:  # Excel writes a byte order mark
        reader = csv.DictReader(stream, strict=True)
        try:
            if reader.fieldnames != list(columns):
                raise ValueError(f"it must begin with the line {','.join(columns)}")
            rows = [(reader.line_num, row) for row in reader]
        except csv.Error as error:
            raise ValueError(f"line {reader.line_num}: {error}") from None
    for line, row in rows:
        if None in row or None in row.values():
            raise ValueError(f"line {line} does not have {len(columns)} fields")
    return rows


@contextlib.contextmanager
def table_of(stage: str, path: Path) -> Iterator[None]:
    """Name the stage to run if the table that it writes to `path` is missing or damaged.

    Raises:
        UserError: instead of FileNotFoundError or ValueError.
    """
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run `dvc repro {stage}`.") from None
    except ValueError:
        raise UserError(f"{path} is damaged. Run `dvc repro -f {stage}`.") from None


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, keys in the given order."""
    with replacing(path) as partial:
        partial.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")


def file_hash(path: Path, algorithm: str) -> str:
    """The hash of a file in hexadecimal.

    Raises:
        UserError: the file is missing.
    """
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, algorithm).hexdigest()
    except FileNotFoundError:
        raise UserError(f"{path} is missing") from None
