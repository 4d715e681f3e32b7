"""Set before any test: JAX compiles in a third of the time and keeps the result, in all processes.

Files with slow tests run first, so that the workers of `make test` end together. Ctrl-C is listened
to, for the tests of it, although a shell that started the tests with `&` had it ignored.
"""

import os
import signal
import tempfile

import pytest

# One folder for the workers of pytest-xdist too: they inherit the variables of the first process.
_compiled = tempfile.TemporaryDirectory(prefix="compiled-by-jax-")
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", _compiled.name)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
