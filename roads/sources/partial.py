"""The beginning of a file that is being downloaded, and what the server said of the whole."""

import contextlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import requests

from roads.runtime.files import write_json


@dataclass(frozen=True)
class Origin:
    """The whole file as an answer announced it: its length in bytes, and which version it is."""

    length: int | None
    etag: str | None
    modified: str | None

    @classmethod
    def of(cls, response: requests.Response) -> Self:
        length = response.raw.length_remaining  # Content-Length, parsed
        return cls(length, response.headers.get("ETag"), response.headers.get("Last-Modified"))

    @property
    def condition(self) -> str | None:
        """The value of If-Range: RFC 9110 (13.1.5) asks for a strong ETag or a date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.modified

    def continues(self, response: requests.Response, start: int) -> bool:
        """Whether a 206 answer is the rest of this very file, from byte `start` on."""
        rest = re.match(r"bytes (\d+)-\d+/(\d+)$", response.headers.get("Content-Range", ""))
        if rest is None or (int(rest[1]), int(rest[2])) != (start, self.length):
            return False
        etag, modified = map(response.headers.get, ("ETag", "Last-Modified"))
        return etag in (None, self.etag) and modified in (None, self.modified)


class Part:
    """The bytes so far at `path`, and beside them, as JSON, their origin."""

    def __init__(self, path: Path):
        self.path, self._sidecar = path, path.with_name(path.name + ".json")

    @property
    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def origin(self) -> Origin | None:
        """None where there is nothing to go on from."""
        with contextlib.suppress(FileNotFoundError, ValueError, TypeError):
            origin = Origin(**json.loads(self._sidecar.read_text(encoding="utf-8")))
            if self.size and origin.length and origin.condition:
                return origin
        return None

    def begin(self, origin: Origin) -> None:
        """Start over with no bytes."""
        self.discard()
        write_json(self._sidecar, asdict(origin))

    def discard(self) -> None:
        """Remove both; the bytes first, so that they never stand beside another's origin."""
        self.path.unlink(missing_ok=True)
        self._sidecar.unlink(missing_ok=True)
