"""Answers that come in time or not at all, also where a server sends them byte by byte.

A socket's timeout begins anew with every byte, so a status line, a header or the length of a chunk
that is dripped, or "100 Continue" without end, would be waited for as long as the server likes.
"""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool


@contextlib.contextmanager
def deadline(seconds: float | None, shut: Callable[[], None]) -> Iterator[None]:
    """Call `shut`, which ends what is read within, after so many seconds.

    Raises:
        TimeoutError: it was called.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        with contextlib.suppress(OSError, RuntimeError):  # it is closed by now
            shut()

    timer = threading.Timer(seconds or threading.TIMEOUT_MAX, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except Exception:
        if not late.is_set():
            raise
    finally:
        timer.cancel()
    if late.is_set():
        raise TimeoutError


class _PunctualAnswer:
    """The part of a connection that waits for status and headers."""

    sock: Any
    timeout: Any

    def getresponse(self) -> Any:
        with deadline(self.timeout, lambda: self.sock.shutdown(socket.SHUT_RD)):
            return super().getresponse()  # type: ignore[misc]


class _Connection(_PunctualAnswer, HTTPConnection):
    pass


class _SecureConnection(_PunctualAnswer, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class PunctualAdapter(HTTPAdapter):
    """Requests' adapter, whose timeout is for the whole of an answer's status and headers."""

    def init_poolmanager(self, *arguments: Any, **settings: Any) -> None:
        super().init_poolmanager(*arguments, **settings)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}

    def proxy_manager_for(self, *arguments: Any, **settings: Any) -> Any:
        manager = super().proxy_manager_for(*arguments, **settings)
        manager.pool_classes_by_scheme = self.poolmanager.pool_classes_by_scheme
        return manager
