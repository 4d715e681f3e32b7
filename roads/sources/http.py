"""Downloads files over HTTP: resumes after a lost connection, retries, and refuses wrong files."""

import re
import threading
from contextlib import suppress
from http.client import responses as phrases
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError, InvalidHeader, ReadTimeoutError
from urllib3.util import Retry

from roads.params.download import DownloadParams
from roads.runtime.errors import UserError, one_line
from roads.sources.partial import Origin, Part

ADDRESS = re.compile(r"https?://([\w.-]+|\[[0-9A-Fa-f:]+\])(:\d+)?(/[^\s?#]*)?")
BACKOFF = 1.0  # seconds; the waits between attempts are 0, 2, 4, 8, … times this
MAX_WAIT = 120.0  # seconds between two attempts, whatever Retry-After says
MAX_BYTES = 100_000_000  # of one file; an uncompressed 1500×1500 RGB tile has 6,750,000
NEW_GROUND = 1_000_000  # bytes of progress after which a file gets all its retries again
CHUNK = 65_536
NOT_NOW = (408, 425, 429, 500, 502, 503, 504)


class RefusedError(Exception):
    """A file cannot be downloaded; the message says why in a few words."""


class UnavailableError(RefusedError):
    """The server does not answer, or cannot serve the file now; a retry may succeed."""

    def __init__(self, reason: str, wait: float = 0):
        super().__init__(reason)
        self.wait = wait  # seconds that the server asks for


class _Session(requests.Session):
    """Follows redirects to any host, which mirrors need, but never from HTTPS to HTTP."""

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        target = super().get_redirect_target(resp)
        if target:
            resp.close()  # otherwise requests would read the body, which may be endless
            if resp.url.startswith("https:") and urlsplit(target).scheme == "http":
                raise RefusedError(f"the server redirects it from HTTPS to {target!r}")
        return target


class Downloader:
    """Fetches files below one address, from several threads at once.

    Args:
        params: files are below `base_url`; `connections` threads will call `fetch`; a file is
            retried `retries` times, counted again after every NEW_GROUND bytes of progress;
            an attempt fails after `timeout` seconds without data.

    Raises:
        UserError: `base_url` is not http(s)://HOST/FOLDER.
    """

    def __init__(self, params: DownloadParams):
        if not ADDRESS.fullmatch(params.base_url):
            raise UserError(
                f"download.base_url is {params.base_url!r}: should be http(s)://HOST/FOLDER. "
                "A user name and password belong in ~/.netrc."
            )
        self.base_url = params.base_url.rstrip("/")
        self._retries, self._timeout = params.retries, params.timeout
        self._stopping = threading.Event()
        self._session = _Session()
        for scheme in ("http://", "https://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=params.connections))
        # Without cookies a session keeps no state, so threads can share it.
        self._session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=()))

    def stop(self) -> None:
        """Make every `fetch` end soon with a RefusedError; partial files are kept."""
        self._stopping.set()
        self._session.close()

    def fetch(self, path: str, to: Path) -> None:
        """Download `{base_url}/{path}` to the file `to`, resuming an earlier run's partial file.

        Call `Part(to).discard()` when the complete file was moved, or is broken.

        Raises:
            RefusedError: the file cannot be downloaded.
            OSError, FullDiskError: it cannot be stored.
        """
        part = Part(to)
        tries, furthest = 0, part.size
        while True:
            try:
                self._receive(f"{self.base_url}/{path}", part)
                return
            except UnavailableError as error:
                if part.size >= furthest + NEW_GROUND:
                    tries, furthest = 0, part.size
                if tries == self._retries:
                    raise
                wait = max(error.wait, BACKOFF * 2**tries if tries else 0)
                tries += 1
            if self._stopping.wait(min(wait, MAX_WAIT)):
                raise RefusedError("stopped")

    def _receive(self, url: str, part: Part) -> None:
        """Send one request, and complete `part` with the response."""
        origin, have = part.origin(), part.size
        if origin and have == origin.length:
            return  # an earlier run was killed before it checked the file
        headers = {"Accept-Encoding": "identity"}
        if origin:
            headers |= {"Range": f"bytes={have}-", "If-Range": origin.version}
        try:
            with self._session.get(
                url, headers=headers, timeout=self._timeout, stream=True
            ) as response:
                self._begin(response, part, origin)
                self._append(response, part)
        except (ValueError, requests.TooManyRedirects) as error:
            raise RefusedError(f"invalid address or answer: {one_line(error)}") from None
        except (requests.RequestException, HTTPError) as error:
            late = isinstance(error, requests.Timeout | ReadTimeoutError)
            reason = f"no data for {self._timeout:g} s" if late else _plain(error)
            so_far = f" after {part.size:,} bytes" if part.size else ""
            raise UnavailableError(reason + so_far) from None

    def _begin(self, response: requests.Response, part: Part, origin: Origin | None) -> None:
        """Empty `part`, unless the response continues it; refuse one that is not the file."""
        status = response.status_code
        if status == 206 and origin and origin.continues(response, part.size):
            return
        if status in (206, 416):
            part.discard()
            raise UnavailableError("it changed while it was being downloaded")
        if status != 200:
            reason = f"the server answered {status} {phrases.get(status, '')}".rstrip()
            if status in NOT_NOW:
                raise UnavailableError(reason, _retry_after(response))
            raise RefusedError(reason)
        if "html" in response.headers.get("Content-Type", "").lower():
            raise RefusedError("the server sent an HTML page in its place")
        part.begin(Origin.of(response))

    def _append(self, response: requests.Response, part: Part) -> None:
        """Append the response's body to `part`; urllib3 raises if it is shorter than announced."""
        have, announced = part.size, response.raw.length_remaining or 0
        with part.path.open("ab") as stream:
            while chunk := response.raw.read1(CHUNK, decode_content=False):
                if self._stopping.is_set():
                    raise RefusedError("stopped")
                have += len(chunk)
                if max(have, announced) > MAX_BYTES:
                    part.discard()
                    raise RefusedError(f"it is longer than {MAX_BYTES:,} bytes")
                stream.write(chunk)


def _retry_after(response: requests.Response) -> float:
    """The seconds to wait before a retry, which the server gives as a number or a date."""
    with suppress(InvalidHeader, ValueError, OverflowError):
        return Retry().parse_retry_after(response.headers.get("Retry-After", "0"))
    return 0


def _plain(error: Exception) -> str:
    """The cause, without the exceptions that requests and urllib3 wrap around it."""
    cause = error.args[0] if error.args else error
    return one_line(getattr(cause, "reason", cause)).split("): ", 1)[-1]
