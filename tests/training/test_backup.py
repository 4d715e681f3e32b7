import os
import time
from pathlib import Path

import filelock
import numpy as np
import pytest

from roads.runtime.errors import FullDiskError, UserError
from roads.runtime.state import MARK, state_folder
from roads.training.backup import Backup, Progress, fingerprint, imported_code

PROGRESS = Progress(
    rows=[{"epoch": 1, "valid/loss": 0.1 + 0.2}, {"epoch": 2, "valid/loss": 1 / 3}],
    finished=False,
    steps=12,
    seconds=0.1 + 0.2,
    weights=[np.arange(6, dtype=np.float32).reshape(2, 3), np.array([np.pi], np.float32)],
    optimizer=[np.array(7), np.array([1e-45, 1e38], np.float32)],
    best=[np.zeros((2, 3), np.float32), np.array([1 / 7], np.float32)],
)


def same(one: list[np.ndarray], other: list[np.ndarray]) -> bool:
    return all(a.dtype == b.dtype and np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_backup_is_restored_bit_for_bit(tmp_path: Path) -> None:
    backup = Backup(tmp_path, "key")
    assert backup.load() is None
    backup.save(PROGRESS)
    loaded = Backup(tmp_path, "key").load()
    assert loaded is not None
    assert loaded.rows == PROGRESS.rows
    assert (loaded.steps, loaded.seconds, loaded.finished) == (12, 0.1 + 0.2, False)
    for kind in ("weights", "optimizer", "best"):
        assert same(getattr(loaded, kind), getattr(PROGRESS, kind))


@pytest.mark.parametrize("length", [0, 10, 500, -1])
def test_a_damaged_backup_is_reported_and_not_used(
    tmp_path: Path, length: int, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = Backup(tmp_path, "key")
    backup.save(PROGRESS)
    backup.path.write_bytes(backup.path.read_bytes()[:length])
    assert backup.load() is None
    assert "starts from its first epoch" in capsys.readouterr().out


def test_one_process_holds_a_backup_and_leaves_nothing_when_it_ends(tmp_path: Path) -> None:
    backup = Backup(tmp_path, "key")
    with backup.held():
        backup.save(PROGRESS)
        with (
            pytest.raises(UserError, match="already running"),
            Backup(tmp_path, "key").held(),
        ):
            pytest.fail("a second writer came in")
        assert backup.load() is not None
        with Backup(tmp_path, "other").held():
            pass
    assert list(tmp_path.iterdir()) == []


def test_a_backup_survives_a_crash_but_not_a_user_error(tmp_path: Path) -> None:
    backup = Backup(tmp_path, "key")
    backup.save(PROGRESS)
    with pytest.raises(KeyboardInterrupt, match="after epoch"), backup.held():
        raise KeyboardInterrupt
    assert backup.load() is not None
    with pytest.raises(UserError, match="NaN"), backup.held():
        raise UserError("NaN")
    assert backup.load() is None


def test_a_backup_survives_a_full_disk(tmp_path: Path) -> None:
    backup = Backup(tmp_path, "key")
    backup.save(PROGRESS)
    with pytest.raises(FullDiskError), backup.held():
        raise FullDiskError("no space left")
    assert backup.load() is not None


def test_unused_backups_are_removed_after_a_month(tmp_path: Path) -> None:
    month, names = time.time() - 31 * 86_400, ("old", "held", "new", "half")
    folder = tmp_path / "training"
    for name in names:
        Backup(folder, name).save(PROGRESS)
    (folder / "half.npz").rename(folder / "half.npz.partial")
    for path in folder.iterdir():
        if path.stem != "new":
            os.utime(path, (month, month))
    with Backup(folder, "key").held():
        pass
    assert len(list(folder.iterdir())) == len(names)  # the folder may be somebody's own
    (tmp_path / MARK).touch()
    with filelock.FileLock(folder / "held.lock"), Backup(folder, "key").held():
        pass
    left = {path.name for path in folder.iterdir()}
    assert left == {"held.npz", "held.lock", "new.npz"}


@pytest.mark.parametrize("theirs", [[], ["mine"], ["training/mine"]])
def test_only_a_root_created_here_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, theirs: list[str]
) -> None:
    monkeypatch.setenv("ROADS_STATE", str(tmp_path / "state"))
    for name in theirs:
        (tmp_path / "state" / name).mkdir(parents=True)
    for kind in ("training", "downloads"):
        state_folder(kind)
    assert (tmp_path / "state" / MARK).exists() == (not theirs)


def test_everything_that_affects_the_result_is_in_the_fingerprint(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    facts = {"seed": 1, "rate": 1e-3}
    key = fingerprint(facts, [one, two])
    moved = tmp_path / "moved"
    moved.write_bytes(b"1")
    assert fingerprint({"rate": 1e-3, "seed": 1}, [moved, two]) == key
    one.write_bytes(b"0")
    others = {
        fingerprint(facts, [one, two]),
        fingerprint(facts, [moved]),
        fingerprint(facts, [two, moved]),
        fingerprint({"seed": 2, "rate": 1e-3}, [moved, two]),
    }
    assert key not in others
    assert len(others) == 4


def test_the_code_in_use_is_found() -> None:
    names = [path.name for path in imported_code()]
    assert {"backup.py", "files.py", "errors.py", "__init__.py"} <= set(names)
    assert "test_backup.py" not in names
