"""Training on several devices against training on one, with two virtual devices of the CPU."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.runtime.errors import UserError
from roads.training import devices
from roads.training.devices import ONE, Devices, find_devices
from tests.packed import write_pack
from tests.project import ROOT, quick_jax

SECONDS = 900  # a few, unless the machine is busy

TRAIN_ON_ONE_AND_TWO = """
import json, sys
from pathlib import Path
import numpy as np
from roads.dataset.packs import PackReader
from roads.models.unet import build_unet
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.devices import find_devices
from roads.training.fit import fit
from tests.packed import augment_params, train_params, unet_params
from tests.training.test_fit import KillAt, KilledError

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
recipe = train_params(**settings["train"])
augmentation = augment_params(**settings["augment"])

def train(count, backup, extra=()):
    spread = find_devices(count, recipe.batch_size)
    assert spread.count == count
    pack = PackReader(folder)
    with spread.scope():
        net = build_unet(unet_params(depth=2, dropout=0.1))
    blank = recipe.ignore_blank
    fitted = fit(
        net,
        CropBatches(
            pack, "train", recipe.batch_size, 1,
            ignore_blank=blank, augmentation=augmentation, devices=spread,
        ),
        CropBatches(pack, "valid", recipe.batch_size, ignore_blank=blank, devices=spread),
        recipe, backup=Backup(folder, backup), callbacks=extra,
    )
    assert all(variable.value.sharding.is_fully_replicated for variable in net.variables)
    assert {len(variable.value.sharding.device_set) for variable in net.weights} == {count}
    return fitted.rows, net.get_weights()

one, _ = train(1, "one")
two, weights = train(2, "two")
try:
    train(2, "killed", [KillAt(1)])
    sys.exit("not killed")
except KilledError:
    resumed, again = train(2, "killed")
assert resumed == two
for ours, theirs in zip(weights, again, strict=True):
    np.testing.assert_array_equal(ours, theirs)
(folder / "rows.json").write_text(json.dumps([one, two]))
"""


def train_on_one_and_two(folder: Path, settings: dict[str, Any]) -> Any:
    """The rows of a training on one device, and on two; the latter also killed and resumed."""
    write_pack(folder, 16, train=21, valid=5)
    answer = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_ONE_AND_TWO, str(folder), json.dumps(settings)],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": "jax",
            "CUDA_VISIBLE_DEVICES": "",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            **quick_jax(folder / "compiled"),
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads((folder / "rows.json").read_text())


def test_two_devices_train_as_one_does_and_resume_to_the_last_bit(tmp_path: Path) -> None:
    """With all that has a state or sums over a batch."""
    settings = {
        "train": {
            "epochs": 2, "learning_rate": 0.003, "loss": "bce_dice", "cldice_weight": 0.5,
            "ignore_blank": True, "optimizer": "adamw", "clip_norm": 0.05, "ema": 0.8,
        },
        "augment": {"flips": True, "turns": True, "gamma": 0.2, "window": 12},
    }  # fmt: skip
    one, two = train_on_one_and_two(tmp_path, settings)
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=2e-3, abs=2e-4)
    assert together["train/loss"] == pytest.approx(alone["train/loss"], rel=1e-4)


@pytest.fixture
def on_jax(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has JAX see so many devices, and makes nothing of them."""

    def see(count: int) -> None:
        monkeypatch.setattr(devices, "backend_name", lambda: "jax")
        monkeypatch.setattr(devices, "visible_devices", lambda: count)
        monkeypatch.setattr(devices, "process_index", lambda: 0)
        monkeypatch.setattr(devices, "_distribution", lambda local, processes: local * processes)

    return see


@pytest.mark.parametrize(
    ("wanted", "there", "batch_size", "count"),
    [("auto", 1, 5, 1), ("auto", 4, 16, 4), (2, 4, 16, 2), (1, 4, 5, 1), ("auto", 8, 4, 4),
     ("auto", 3, 4, 2), ("auto", 2, 5, 1)],
)  # fmt: skip
def test_as_many_devices_as_asked_for_or_as_share_a_batch(
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


def test_what_cannot_be_is_said_in_a_line(
    on_jax: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    on_jax(2)
    with pytest.raises(UserError, match=r"train\.devices is 3, and JAX sees 2 here"):
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


def test_each_process_has_its_part_of_a_batch_and_all_of_one_that_divides_unevenly() -> None:
    rows = np.array([7, 1, 4, 9, 3, 2, 8, 0])
    processes = [Devices(4, None, process, 2) for process in range(2)]
    assert [list(process.part(rows)) for process in processes] == [[7, 1, 4, 9], [3, 2, 8, 0]]
    assert [list(process.part(rows[:6])) for process in processes] == [list(rows[:6])] * 2
    assert list(ONE.part(rows)) == list(rows)
