"""Which devices a training takes; tests/training/test_processes.py trains on two of them."""

import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roads.runtime.errors import UserError
from roads.training import devices
from roads.training.devices import ONE, Devices, find_devices


@pytest.fixture
def on_jax(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has JAX see so many devices, and makes nothing of them."""

    def see(count: int) -> None:
        monkeypatch.setattr(devices, "backend_name", lambda: "jax")
        monkeypatch.setattr(devices, "visible_devices", lambda: count)
        monkeypatch.setattr(devices, "_distribution", lambda local, processes: local * processes)

    return see


@pytest.mark.parametrize(
    ("wanted", "there", "batch_size", "count"),
    [("auto", 1, 5, 1), ("auto", 4, 16, 4), (2, 4, 16, 2), (1, 4, 5, 1), ("auto", 8, 4, 4),
     ("auto", 3, 4, 2), ("auto", 2, 5, 1)],
)  # fmt: skip
def test_the_number_of_devices_is_as_asked_or_divides_the_batch(
    on_jax: Callable[[int], None],
    capsys: pytest.CaptureFixture[str],
    wanted: Any,
    there: int,
    batch_size: int,
    count: int,
) -> None:
    on_jax(there)
    found = find_devices(wanted, batch_size)
    assert found.count == count
    assert found.distribution == (None if count == 1 else count)
    told = capsys.readouterr().out.startswith(f"training on {count} of {there} devices: train.b")
    assert told == (wanted == "auto" and count < there)


def test_each_process_gives_as_many_devices_as_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    def local_devices(process: int) -> list[SimpleNamespace]:
        return [SimpleNamespace(platform="gpu", id=4 * process + number) for number in range(4)]

    monkeypatch.setitem(sys.modules, "jax", SimpleNamespace(local_devices=local_devices))
    taken: list[str] = []
    monkeypatch.setattr(
        devices.keras.distribution, "DataParallel", lambda devices, **_: taken.extend(devices)
    )
    devices._distribution(2, processes=2)
    assert taken == ["gpu:0", "gpu:1", "gpu:4", "gpu:5"]


def test_impossible_devices_are_refused_in_one_line(
    on_jax: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_jax(2)
    with pytest.raises(UserError, match=r"train\.devices is 3, but JAX sees only 2"):
        find_devices(3, 6)
    with pytest.raises(UserError, match=r"train\.batch_size is 5: 2 devices .* multiple of 2"):
        find_devices(2, 5)
    monkeypatch.setattr(devices, "process_count", lambda: 3)
    with pytest.raises(UserError, match=r"is 4: 6 devices in 3 processes cannot"):
        find_devices("auto", 4)


def test_tensorflow_trains_on_one_gpu_and_says_how_to_use_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert find_devices("auto", 5) == find_devices(1, 5) == ONE
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(devices, "visible_devices", lambda: 4)
    assert find_devices("auto", 16) == find_devices(1, 16) == ONE
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("training on 1 of 4 GPUs")
    assert "KERAS_BACKEND=jax dvc repro" in line
    with pytest.raises(UserError, match=r"train\.devices is 2, .*train\.devices=1, .*BACKEND=jax"):
        find_devices(2, 16)


def test_each_process_has_its_part_of_a_batch_or_all_of_an_uneven_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = np.array([7, 1, 4, 9, 3, 2, 8, 0])
    assert list(ONE.part(rows)) == list(rows)
    monkeypatch.setattr(devices, "process_count", lambda: 2)
    for process, part in enumerate(([7, 1, 4, 9], [3, 2, 8, 0])):
        monkeypatch.setattr(devices, "process_index", lambda process=process: process)
        assert list(Devices(4).part(rows)) == part
        assert list(Devices(4).part(rows[:6])) == list(rows[:6])
