"""A partly downloaded file, and what the server announced about the complete one."""

import contextlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import requests

from roads.runtime.files import write_json


@dataclass(frozen=True)
class Origin:
    """The announced file: its length in bytes, or 0, and a value for If-Range, or ""."""

    length: int
    version: str

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        """Read the headers of a 200 response."""
        return cls(response.raw.length_remaining or 0, _version(response))

    def continues(self, response: requests.Response, start: int) -> bool:
        """Whether a 206 response is the rest of this same file, from byte `start` on."""
        rest = f"bytes {start}-{self.length - 1}/{self.length}"
        same = _version(response) == self.version != ""
        return same and response.headers.get("Content-Range") == rest


def _version(response: requests.Response) -> str:
    """The value that RFC 9110 (13.1.5) allows in If-Range: a strong ETag, or a date."""
    etag = response.headers.get("ETag", "W/")
    return response.headers.get("Last-Modified", "") if etag.startswith("W/") else etag


class Part:
    """The bytes received so far, at `path`, and next to them their origin as JSON."""

    def __init__(self, path: Path):
        self.path, self._sidecar = path, path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """The origin of the bytes; None if there is nothing to resume."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError, RecursionError):
            origin = Origin(**json.loads(self._sidecar.read_text(encoding="utf-8")))
            if self.size and origin.length and origin.version:
                return origin
        return None

    def begin(self, origin: Origin) -> None:
        """Start again with no bytes."""
        self.discard()
        write_json(self._sidecar, asdict(origin))

    def discard(self) -> None:
        """Remove both files; the bytes first, so that they are never paired with a wrong origin."""
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)
