"""Files over HTTP: resumed where they were cut, refused where they are not what was asked for."""

import threading
import time
from collections.abc import Callable
from contextlib import nullcontext, suppress
from http.client import responses as phrases
from pathlib import Path
from typing import TypeVar
from urllib.parse import urljoin, urlsplit

import requests
import urllib3.exceptions
from urllib3.util import Retry

from roads.runtime.errors import UserError
from roads.sources.deadline import PunctualAdapter, deadline
from roads.sources.partial import Origin, Part

Checked = TypeVar("Checked")

BACKOFF = 1.0  # seconds; the waits are 0, 2, 4, 8, … times it
MAX_WAIT = 120.0  # seconds between two tries, whatever Retry-After says
MAX_BYTES = 100_000_000  # of one file; an uncompressed 1500×1500 RGB tile has 6,750,000
MAX_REDIRECTS = 5
MIN_SPEED = 1_000  # bytes a second; less, averaged over the timeout, is a stall
NEW_GROUND = 1_000_000  # bytes gained that earn a file its retries anew
CHUNK = 65_536
NOT_NOW = (408, 425, 429, 500, 502, 503, 504)
PAGES = ("text/html", "application/xhtml+xml")
REDIRECTS = (("http", "http"), ("http", "https"), ("https", "https"))


class RefusedError(Exception):
    """A file cannot be had; the message says why in a few words."""


class UnavailableError(RefusedError):
    """The server did not answer, or answered that it cannot serve now, at every try."""


class StoppedError(RefusedError):
    """`Downloader.stop` was called while the file was under way."""


class _FailedTryError(Exception):
    """The next try may do better; `final` is raised when none is left."""

    def __init__(
        self, reason: str, final: type[RefusedError] = RefusedError, wait: str | None = None
    ):
        super().__init__(reason)
        self.final, self.wait = final, wait


class Downloader:
    """Fetches files below one address, from several threads at once.

    Args:
        base_url: http or https, for example `https://host/folder`.
        connections: threads that will call `fetch`.
        retries: tries after the first, for each file; gaining NEW_GROUND earns them anew.
        timeout: seconds without an answer, or with fewer than MIN_SPEED bytes a second.
        backoff: seconds; see BACKOFF.
        max_bytes: a longer file is refused.

    Raises:
        UserError: `base_url` is not such an address.
    """

    def __init__(
        self,
        base_url: str,
        *,
        connections: int,
        retries: int,
        timeout: float,
        backoff: float = BACKOFF,
        max_bytes: int = MAX_BYTES,
    ):
        self.base_url = checked_url(base_url)
        self._timeout, self._max_bytes = timeout, max_bytes
        self._retries = Retry(total=retries, backoff_factor=backoff, backoff_max=MAX_WAIT)
        self._stopping = threading.Event()
        # Only parts of it that keep no state are used (see _open), so threads can share it.
        self._session = requests.Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, PunctualAdapter(pool_maxsize=connections))

    def stop(self) -> None:
        """Make every `fetch` end soon, with StoppedError; what came of the files is kept."""
        self._stopping.set()
        self._session.close()

    def fetch(self, path: str, part: Path, check: Callable[[Path], Checked]) -> Checked:
        """Bring `{base_url}/{path}` to `part`, going on where an earlier run was cut.

        Args:
            path: below `base_url`.
            part: grows to the whole file; call `Part(part).discard()` when it is taken over.
            check: looks at the whole file and raises a UserError if it is broken.

        Returns:
            what `check` returns.

        Raises:
            RefusedError: the file cannot be had. A broken one is not kept.
            OSError: it cannot be stored.
        """
        url, held = f"{self.base_url}/{path}", Part(part)
        retries, furthest = self._retries, held.size
        while True:
            try:
                in_one_piece = self._receive(url, held)
                return _checked(check, held, in_one_piece)
            except _FailedTryError as problem:
                if held.size >= furthest + NEW_GROUND:
                    retries, furthest = self._retries, held.size
                try:
                    retries = retries.increment("GET", url, error=problem)
                except urllib3.exceptions.MaxRetryError:
                    raise problem.final(str(problem)) from None
                if self._stopping.wait(_pause(retries, problem.wait)):
                    raise StoppedError("stopped") from None

    def _receive(self, url: str, part: Part) -> bool:
        """Bring `part` to its full length; True if in one piece whose length was announced."""
        origin, have = part.origin(), part.size
        if origin and have == origin.length:
            return False  # an earlier run was killed before it looked at the file
        headers = {"Accept-Encoding": "identity"}
        if origin:
            headers |= {"Range": f"bytes={have}-", "If-Range": origin.condition or ""}
        with self._open(url, headers) as response:
            status = response.status_code
            if status == 206 and origin and origin.continues(response, have):
                self._copy(response, part, have, origin.length)
                return False
            if status in (206, 416):
                part.discard()
                raise _FailedTryError("it changed while it was being downloaded")
            if status != 200:
                reason = f"the server answered {status} {phrases.get(status, '')}".rstrip()
                if status in NOT_NOW:
                    raise _FailedTryError(
                        reason, UnavailableError, response.headers.get("Retry-After")
                    )
                raise RefusedError(reason)
            if response.headers.get("Content-Type", "").lower().startswith(PAGES):
                raise RefusedError("the server sent an HTML page in its place")
            origin = Origin.of(response)
            part.begin(origin)
            self._copy(response, part, 0, origin.length)
            return origin.length is not None

    def _open(self, url: str, headers: dict[str, str]) -> requests.Response:
        """Send a request and follow redirects, to no other protocol but from http to https.

        `Session.get` would read the bodies of redirects to their end, which may never come.
        """
        session = self._session
        for _ in range(MAX_REDIRECTS + 1):
            try:
                request = session.prepare_request(requests.Request("GET", url, headers))
                settings = session.merge_environment_settings(url, {}, True, None, None)
                adapter = session.get_adapter(url)
                response = adapter.send(request, timeout=self._timeout, **settings)  # type: ignore[arg-type]
                target = session.get_redirect_target(response)
                if target is None:
                    return response
                response.close()
                before, url = url, urljoin(url, target)
                if (urlsplit(before).scheme, urlsplit(url).scheme) not in REDIRECTS:
                    raise RefusedError(f"the server redirects it to {url!r}")
            except requests.Timeout:
                raise _FailedTryError(
                    f"no answer in {self._timeout:g} s", UnavailableError
                ) from None
            except ValueError as error:  # what requests and urllib3 raise for one that is malformed
                raise RefusedError(f"wrong address: {str(error)!r}") from None
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise _FailedTryError(_plain(error), UnavailableError) from None
        raise RefusedError(f"the server redirects it more than {MAX_REDIRECTS} times")

    def _copy(self, response: requests.Response, part: Part, have: int, length: int | None) -> None:
        """Append the answer's body to the `have` bytes of the part."""
        limit = min(length or self._max_bytes, self._max_bytes)
        of_all = f" of {length:,}" if length else ""
        since, then = time.monotonic(), have
        with part.path.open("ab") as stream:
            while chunk := self._read(response, f"after {have:,}{of_all} bytes"):
                have += len(chunk)
                if have > limit or (length or 0) > limit:
                    part.discard()
                    raise RefusedError(f"it is longer than {limit:,} bytes")
                stream.write(chunk)
                if (now := time.monotonic()) > since + self._timeout:
                    if have - then < MIN_SPEED * (now - since):
                        raise _FailedTryError(f"it stalled after {have:,}{of_all} bytes")
                    since, then = now, have
        if length is not None and have < length:
            raise _FailedTryError(f"it ended after {have:,}{of_all} bytes")

    def _read(self, response: requests.Response, place: str) -> bytes:
        """What has come of the body, at most CHUNK bytes; nothing at its end."""
        if self._stopping.is_set():
            raise StoppedError("stopped")
        # Of a body that is not in chunks, one reception is read, and the socket's timeout does.
        chunked = getattr(response.raw, "chunked", False)
        patience = deadline(self._timeout, response.raw.shutdown) if chunked else nullcontext()
        try:
            with patience:
                chunk: bytes = response.raw.read1(CHUNK, decode_content=False)
        except (TimeoutError, urllib3.exceptions.TimeoutError):
            raise _FailedTryError(f"it stalled {place}") from None
        except (urllib3.exceptions.HTTPError, ValueError):  # ValueError: a chunk's length
            raise _FailedTryError(f"it ended {place}") from None
        return chunk


def checked_url(base_url: str) -> str:
    """The address without a slash at its end.

    Raises:
        UserError: it is not one of http or https, or holds more than a host and a path.
    """
    try:
        parts = urlsplit(base_url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        good = good and not (parts.query or parts.fragment or parts.username)
    except ValueError:
        good = False
    if not good:
        raise UserError(
            f"download.base_url is {base_url!r}: should be http(s)://HOST/FOLDER. "
            "A user name and password belong in ~/.netrc."
        )
    return base_url.rstrip("/")


def _checked(check: Callable[[Path], Checked], part: Part, in_one_piece: bool) -> Checked:
    try:
        return check(part.path)
    except UserError as error:
        part.discard()
        reason = str(error).removeprefix(f"{part.path} ").rstrip(".")
        if in_one_piece:
            raise RefusedError(reason) from None
        raise _FailedTryError(reason) from None  # pieces may not fit: once more from the start


def _pause(retries: Retry, retry_after: str | None) -> float:
    wait = retries.get_backoff_time()
    if retry_after is not None:
        with suppress(urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
            wait = max(wait, retries.parse_retry_after(retry_after))
    return min(wait, MAX_WAIT)


def _plain(error: Exception) -> str:
    """The cause without the objects that requests and urllib3 wrap around it."""
    cause = error.args[0] if error.args else error
    text = str(getattr(cause, "reason", cause)).split("): ", 1)[-1]
    return " ".join(text.split()) or type(error).__name__
