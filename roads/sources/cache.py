"""A cache of complete, verified downloads, shared by all runs."""

import contextlib
import json
import shutil
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from roads.imagery.pictures import read_image, read_map
from roads.runtime.errors import UserError
from roads.runtime.files import file_hash, take_name, write_json
from roads.runtime.locks import HeldError, held
from roads.runtime.progress import progress
from roads.runtime.state import STATE_VARIABLE, stale
from roads.sources.http import Downloader, RefusedError, UnavailableError
from roads.sources.partial import Part

RECORD_SUFFIX = ".json"
PART_SUFFIX = ".part"
LOCK = "lock"
UNAVAILABLE_IN_A_ROW = 4  # files; after these the rest are not tried


@dataclass(frozen=True)
class Verified:
    """Facts about a downloaded file; stored next to it, so that it is read only once."""

    bytes: int
    sha256: str
    height: int
    width: int


class Cache:
    """The pictures of one address, under their paths in a folder of `root`.

    Args:
        root: absolute folder, with a folder for each address.
        downloader: fetches missing files.
    """

    def __init__(self, root: Path, downloader: Downloader):
        self._root = root
        self._folder = root / quote(downloader.base_url, safe="")
        self._downloader = downloader
        # One picture at a time: this saves memory, and the decoder sets warning filters, which
        # are not thread-safe.
        self._reading = threading.Lock()

    def held(self, path: str) -> Verified | None:
        """The facts about a file; None if it is missing or has another size."""
        file = self._folder / path
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, RecursionError):
            verified = Verified(**json.loads(_record(file).read_text(encoding="utf-8")))
            if file.stat().st_size == verified.bytes:
                return verified
        return None

    def drop(self, path: str) -> None:
        """Forget a file, so that the next run downloads it again."""
        (self._folder / path).unlink(missing_ok=True)

    def link(self, path: str, target: Path) -> None:
        """Hard-link a file to `target`, or copy it if that is on another disk."""
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        try:
            target.hardlink_to(self._folder / path)
        except OSError:
            shutil.copyfile(self._folder / path, target)

    def fill(self, paths: Sequence[str], connections: int) -> dict[str, str]:
        """Download missing files, `connections` at a time.

        Returns:
            the reason of each failure, by path.

        Raises:
            UserError: the folder cannot be written, or the disk is full.
        """
        if all(self.held(path) for path in paths):
            return {}
        try:
            waiting = f"waiting for another process to fill {self._folder}"
            with held(self._folder / LOCK, waiting, wait=True):
                reasons = self._download([p for p in paths if not self.held(p)], connections)
            self._remove_stale()
            return reasons
        except OSError as error:
            raise UserError(
                f"{error.filename or self._folder}: {error.strerror or error}. Downloads "
                f"are kept. Fix this, or set ${STATE_VARIABLE} to another folder, and run again."
            ) from None

    def _download(self, paths: list[str], connections: int) -> dict[str, str]:
        reasons: dict[str, str] = {}
        in_a_row = 0
        pool = ThreadPoolExecutor(connections)
        try:
            futures = {pool.submit(self._fetch, path): path for path in paths}
            for future in progress(as_completed(futures), "downloading", len(futures)):
                error = future.exception()
                if isinstance(error, RefusedError):
                    reasons[futures[future]] = str(error)
                elif error:
                    raise error
                in_a_row = in_a_row + 1 if isinstance(error, UnavailableError) else 0
                if in_a_row == UNAVAILABLE_IN_A_ROW:
                    return dict.fromkeys(paths, str(error)) | reasons
        finally:
            self._downloader.stop()
            pool.shutdown(cancel_futures=True)
        return reasons

    def _remove_stale(self) -> None:
        """Remove partial downloads, of any address, that were abandoned long ago."""
        for path in stale(self._root, f"*{PART_SUFFIX}"):
            folder = self._root / path.relative_to(self._root).parts[0]
            with contextlib.suppress(HeldError), held(folder / LOCK):
                Part(path).discard()

    def _fetch(self, path: str) -> None:
        file = self._folder / path
        part = file.with_name(file.name + PART_SUFFIX)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        self._downloader.fetch(path, part)
        read = read_image if file.parent.name == "sat" else read_map
        try:
            with self._reading:
                height, width = read(part).shape[:2]
        except UserError as error:
            Part(part).discard()
            raise RefusedError(str(error).removeprefix(f"{part} ").rstrip(".")) from None
        verified = Verified(part.stat().st_size, file_hash(part, "sha256"), height, width)
        write_json(_record(file), asdict(verified))
        take_name(part, file)
        Part(part).discard()


def _record(file: Path) -> Path:
    return file.with_name(file.name + RECORD_SUFFIX)
