import os
import signal
import time
from pathlib import Path

import pytest

from roads.parallel.pool import FEW, WORKERS_VARIABLE, in_order
from roads.runtime.errors import UserError

ITEMS = list(range(10))


def late_first(item: int) -> int:
    """The square of the item; the first takes longest."""
    time.sleep(0.2 if item == 0 else 0)
    return item * item


def refuse(item: int) -> int:
    if item == 7:
        raise UserError("data/raw/train/sat/7.tiff is broken")
    return item


def die(item: int) -> int:
    if item == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_results_come_in_order(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, workers)
    assert list(in_order(late_first, ITEMS, "squares")) == [item * item for item in ITEMS]


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_error_in_a_worker_is_raised_here(monkeypatch: pytest.MonkeyPatch, workers: str) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, workers)
    with pytest.raises(UserError, match=r"^data/raw/train/sat/7\.tiff is broken$"):
        list(in_order(refuse, ITEMS, "tiles"))


@pytest.mark.slow
def test_a_killed_worker_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    with pytest.raises(UserError, match=r"crop: a worker process was killed.*ROADS_WORKERS=1"):
        list(in_order(die, ITEMS, "crop"))


@pytest.mark.parametrize("told", ["abc", "0", "-1", "1.5", "²"])
def test_an_invalid_number_of_workers_is_refused(
    monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, told)
    with pytest.raises(UserError, match=r"ROADS_WORKERS is .*should be a number of at least 1"):
        list(in_order(process_id, ITEMS, "many"))


def test_few_items_start_no_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    assert set(in_order(process_id, ITEMS[: FEW - 1], "few")) == {os.getpid()}
    assert os.getpid() not in set(in_order(process_id, ITEMS, "many"))


def process_id(item: int) -> int:
    return os.getpid()


def test_results_are_not_computed_far_ahead(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(WORKERS_VARIABLE, "2")
    items = [tmp_path / str(number) for number in range(100)]
    results = in_order(touch, items, "files")
    next(results)
    time.sleep(0.5)
    assert len(list(tmp_path.iterdir())) <= 32
    assert sum(1 for _ in results) == 99


def touch(path: Path) -> None:
    path.touch()
