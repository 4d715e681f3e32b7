"""One process at a time, and file systems that cannot say so."""

import errno
import fcntl
from pathlib import Path

import pytest

from roads.runtime.errors import UserError
from roads.runtime.locks import HeldError, held


def test_a_second_holder_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "here" / "lock"
    with held(lock), pytest.raises(HeldError, match="wait"), held(lock, "wait"):
        pass
    assert not lock.exists()


def test_a_file_system_without_locks_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "")

    monkeypatch.setattr(fcntl, "flock", refuse)
    told = rf"^{tmp_path} is on a file system without locks"
    with pytest.raises(UserError, match=told), held(tmp_path / "lock"):
        pass
