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
            self.start_file()
        else:
            self.answer(404)

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def start_file(
        self,
        *,
        stop: int | None = None,
        extra: int = 0,
        ranges: bool = True,
        if_range: bool = True,
    ) -> None:
        """Send the file, or the range asked for.

        Args:
            stop: send no more than so many bytes of the body.
            extra: announce so many bytes more than there are.
            ranges: heed Range.
            if_range: heed If-Range.
        """
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


def cut(after: int) -> Fault:
    """Close the connection after so many bytes of the body."""

    def fault(handler: _Handler) -> None:
        handler.start_file(stop=after)
        handler.close_connection = True

    return fault


def reset(after: int) -> Fault:
    """Reset the connection after so many bytes of the body."""

    def fault(handler: _Handler) -> None:
        handler.start_file(stop=after)
        handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        socket.close(handler.connection.detach())
        handler.close_connection = True

    return fault


def stall(after: int | None = None) -> Fault:
    """Send so many bytes of the body (not even the headers if None), then nothing."""

    def fault(handler: _Handler) -> None:
        if after is not None:
            handler.start_file(stop=after)
        handler.server.closing.wait()
        handler.close_connection = True

    return fault


def drip(handler: _Handler) -> None:
    """Send the file byte by byte, 20 a second."""
    _in_pieces(handler, 1, 0.05)


def slowly(handler: _Handler) -> None:
    """Send the file at 10,000 bytes a second."""
    _in_pieces(handler, 1000, 0.1)


def _in_pieces(handler: _Handler, size: int, seconds: float) -> None:
    handler.start_file(stop=0)
    whole = handler.server.files[handler.path]
    for start in range(0, len(whole), size):
        handler.wfile.write(whole[start : start + size])
        if handler.server.closing.wait(seconds):
            break


def drip_headers(handler: _Handler) -> None:
    """Begin an answer, and send its headers byte by byte, 20 a second."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"X")


def continue_endlessly(handler: _Handler) -> None:
    """Answer that the request may go on, again and again."""
    while not handler.server.closing.is_set():
        handler.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)


def drip_chunk(handler: _Handler) -> None:
    """Send half of the file as a chunk, and the length of the next one byte by byte."""
    half = handler.server.files[handler.path][:5000]
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"%x\r\n%b\r\n" % (len(half), half))
    while not handler.server.closing.wait(0.05):
        handler.wfile.write(b"0")


def chunked(handler: _Handler) -> None:
    """Send the file in chunks, its length not announced."""
    whole = handler.server.files[handler.path]
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for start in range(0, len(whole), 5000):
        chunk = whole[start : start + 5000]
        handler.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    handler.wfile.write(b"0\r\n\r\n")


def misstate(extra: int) -> Fault:
    """Announce so many bytes more (or fewer) than are sent."""

    def fault(handler: _Handler) -> None:
        handler.start_file(extra=extra)
        handler.close_connection = True

    return fault


def status(code: int, **headers: str) -> Fault:
    """Answer with a status code."""
    return lambda handler: handler.answer(code, b"", **headers)


def html(handler: _Handler) -> None:
    """Answer 200 with a page."""
    handler.answer(200, b"<!doctype html><p>Log in", Content_Type="text/html; charset=utf-8")


def replaced(body: bytes, *, if_range: bool = True) -> Fault:
    """Put another file in its place, then answer from it."""

    def fault(handler: _Handler) -> None:
        handler.server.files[handler.path] = body
        handler.start_file(if_range=if_range)

    return fault


def without_ranges(handler: _Handler) -> None:
    """Answer with the whole file whatever was asked."""
    handler.start_file(ranges=False)


def without_length(handler: _Handler) -> None:
    """Answer with a body that ends where the connection does, after half of the file."""
    whole = handler.server.files[handler.path]
    handler.send_response(200)
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(whole[: len(whole) // 2])


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
