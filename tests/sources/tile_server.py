"""A web server on the loopback address that misbehaves where a test asks it to."""

import contextlib
import hashlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Seen:
    """A request as it came: path, and the headers Range and If-Range."""

    path: str
    range: str | None
    if_range: str | None


def strong_etag(content: bytes) -> dict[str, str]:
    """The headers that most servers tell a file's version by."""
    return {"ETag": f'"{hashlib.md5(content).hexdigest()}"'}


class TileServer(ThreadingHTTPServer):
    """Serves `files`, by path, with byte ranges and with the headers that `version` gives a file.

    A request takes the next of the path's `faults`, if there is one left, in place of the file.
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, certificate: Path | None = None):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, Iterator[Fault]] = {}
        self.seen: list[Seen] = []
        self.version = strong_etag
        self.closing = threading.Event()
        self.scheme = "https" if certificate else "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.socket = context.wrap_socket(self.socket, server_side=True)

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.server_port}"

    def asked(self, path: str) -> list[Seen]:
        """The requests for one path, in order."""
        return [seen for seen in self.seen if seen.path == path]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are what the tests are about."""


@contextlib.contextmanager
def serving(certificate: Path | None = None) -> Iterator[TileServer]:
    """Run a server in a thread."""
    server = TileServer(certificate)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: TileServer

    def do_GET(self) -> None:
        self.server.seen.append(
            Seen(self.path, self.headers.get("Range"), self.headers.get("If-Range"))
        )
        fault = next(self.server.faults.get(self.path, iter(())), None)
        if fault:
            fault(self)
        elif self.path in self.server.files:
            self.send_file()
        else:
            self.answer(404)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def send_file(
        self,
        *,
        body: bytes | None = None,
        stop: int | None = None,
        extra: int = 0,
        ranges: bool = True,
        if_range: bool = True,
    ) -> None:
        """Send the file, or the range asked for.

        Args:
            body: put this in the file's place first.
            stop: send at most this many bytes of the body.
            extra: announce this many bytes more than there are.
            ranges: heed Range.
            if_range: heed If-Range.
        """
        if body is not None:
            self.server.files[self.path] = body
        whole = self.server.files[self.path]
        version = self.server.version(whole)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        fresh = not if_range or self.headers.get("If-Range") in version.values()
        start = int(asked[1]) if asked and ranges and fresh else 0
        if start and start >= len(whole):
            return self.answer(416, Content_Range=f"bytes */{len(whole)}")
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        self.send_header("Content-Length", str(len(whole) - start + extra))
        for name, value in version.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(whole[start : len(whole) if stop is None else start + stop])
        return None

    def log_message(self, *arguments: Any) -> None:
        pass


Fault = Callable[[_Handler], None]


def sends(then: Fault | None = None, **options: Any) -> Fault:
    """Send the file as `send_file` does with these options, do `then`, and close the connection."""

    def fault(handler: _Handler) -> None:
        handler.send_file(**options)
        handler.close_connection = True
        if then:
            then(handler)

    return fault


def resets(handler: _Handler) -> None:
    """Reset the connection."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    socket.close(handler.connection.detach())


def stalls(handler: _Handler) -> None:
    """Send nothing more."""
    handler.server.closing.wait()
    handler.close_connection = True


def slowly(after: int = 0) -> Fault:
    """Send `after` bytes of the file at once, and the rest at 10,000 bytes a second."""

    def fault(handler: _Handler) -> None:
        handler.send_file(stop=after)
        whole = handler.server.files[handler.path]
        for start in range(after, len(whole), 1000):
            handler.wfile.write(whole[start : start + 1000])
            if handler.server.closing.wait(0.1):
                break

    return fault


def chunked(handler: _Handler) -> None:
    """Send the file in chunks, its length not announced."""
    whole = handler.server.files[handler.path]
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for chunk in (whole[:5000], whole[5000:], b""):
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))


def answers(code: int, body: bytes = b"", **headers: str) -> Fault:
    """Answer with a status code."""
    return lambda handler: handler.answer(code, body, **headers)


def half(handler: _Handler) -> None:
    """Send half of the file and close the connection, its length not announced."""
    whole = handler.server.files[handler.path]
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])
    handler.close_connection = True


def endless(code: int, **headers: str) -> Fault:
    """Answer with a body that never ends."""

    def fault(handler: _Handler) -> None:
        handler.send_response(code)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        while not handler.server.closing.is_set():
            handler.wfile.write(bytes(65_536))

    return fault
