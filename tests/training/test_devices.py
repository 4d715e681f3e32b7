"""Training on several devices against training on one; two virtual ones of this processor."""

import json
import os
import subprocess
import sys
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
from roads.models.backend import backend_name, keras
if backend_name() == "tensorflow":
    from tensorflow import config
    (processor,) = config.list_physical_devices("CPU")
    config.set_logical_device_configuration(processor, [config.LogicalDeviceConfiguration()] * 2)
from roads.training.batches import CropBatches
from roads.training.devices import find_devices
from roads.dataset.packs import PackReader
from roads.training.backup import Backup
from roads.training.fit import fit
from roads.models.unet import build_unet
from roads.models.weights import _check_finite
from tests.packed import augment_params, train_params, unet_params
from tests.test_training import KillAt, KilledError

folder, settings = Path(sys.argv[1]), json.loads(sys.argv[2])
recipe = train_params(**settings["train"])
augmentation = augment_params(**settings["augment"])

def train(count, backup, extra=()):
    spread = find_devices(count, recipe.batch_size)
    assert spread.count == count
    pack = PackReader(folder)
    with spread.scope():
        net = build_unet(unet_params(depth=2, dropout=settings["dropout"]))
    blank = recipe.ignore_blank
    fitted = fit(
        net,
        CropBatches(
            pack, "train", recipe.batch_size, 1,
            ignore_blank=blank, augmentation=augmentation, devices=spread,
        ),
        CropBatches(pack, "valid", recipe.batch_size, ignore_blank=blank, devices=spread),
        recipe, backup=Backup(folder, backup), devices=spread, callbacks=extra,
    )
    if backend_name() == "jax":
        assert all(variable.value.sharding.is_fully_replicated for variable in net.variables)
        assert {len(variable.value.sharding.device_set) for variable in net.weights} == {count}
    else:
        copies = [variable.value.values for variable in net.weights if count == 2]
        assert all(np.array_equal(one, other) for one, other in copies)
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


def train_on_one_and_two(backend: str, folder: Path, settings: dict[str, Any]) -> Any:
    """The rows of a training on one device, and on two; the latter also killed and resumed."""
    write_pack(folder, 16, train=21, valid=5)
    answer = subprocess.run(
        [sys.executable, "-c", TRAIN_ON_ONE_AND_TWO, str(folder), json.dumps(settings)],
        cwd=ROOT,
        env={
            **os.environ,
            "KERAS_BACKEND": backend,
            "CUDA_VISIBLE_DEVICES": "",
            "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
            **quick_jax(folder / "compiled"),
            "TF_ENABLE_ONEDNN_OPTS": "0",  # its convolution of no crops at all has a wrong shape
        },
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads((folder / "rows.json").read_text())


@pytest.mark.parametrize(
    ("backend", "dropout"),
    [("tensorflow", 0.0), ("jax", 0.1)],  # TensorFlow's replicas draw their own dropout
)
def test_two_devices_train_as_one_does_and_resume_to_the_last_bit(
    backend: str, dropout: float, tmp_path: Path
) -> None:
    """With all that has a state or sums over a batch."""
    settings = {
        "dropout": dropout,
        "train": {
            "epochs": 2, "learning_rate": 0.003, "loss": "bce_dice", "cldice_weight": 0.5,
            "ignore_blank": True, "optimizer": "adamw", "clip_norm": 0.05, "ema": 0.8,
        },
        "augment": {"flips": True, "turns": True, "gamma": 0.2, "window": 12},
    }  # fmt: skip
    one, two = train_on_one_and_two(backend, tmp_path, settings)
    assert len(one) == len(two) == 2
    for alone, together in zip(one, two, strict=True):
        assert together == pytest.approx(alone, rel=2e-3, abs=2e-4)
    assert together["train/loss"] == pytest.approx(alone["train/loss"], rel=1e-4)


def seen(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    """Have the backend see so many GPUs, and make nothing of them."""
    monkeypatch.setattr(devices, "_names", lambda: [f"GPU:{place}" for place in range(count)])
    monkeypatch.setattr(devices, "_strategy", lambda names, processes: names)


@pytest.mark.parametrize(
    ("wanted", "there", "batch_size", "count"),
    [("auto", 1, 5, 1), ("auto", 4, 16, 4), (2, 4, 16, 2), (1, 4, 5, 1), ("auto", 8, 4, 4),
     ("auto", 3, 4, 2), ("auto", 2, 5, 1)],
)  # fmt: skip
def test_as_many_devices_as_asked_for_or_as_share_a_batch(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wanted: Any,
    there: int,
    batch_size: int,
    count: int,
) -> None:
    seen(monkeypatch, there)
    found = find_devices(wanted, batch_size)
    assert found.count == count
    assert found.strategy == (None if count == 1 else [f"GPU:{place}" for place in range(count)])
    told = capsys.readouterr().out.startswith(f"training on {count} of {there} GPUs: train.batch")
    assert told == (wanted == "auto" and count < there)


def test_what_cannot_be_is_said_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    seen(monkeypatch, 2)
    with pytest.raises(UserError, match=r"train\.devices is 3, and \w+ sees 2 GPUs here"):
        find_devices(3, 6)
    with pytest.raises(UserError, match=r"train\.batch_size is 5: 2 GPUs cannot .* multiple of 2"):
        find_devices(2, 5)
    monkeypatch.setattr(devices, "process_count", lambda: 3)
    with pytest.raises(UserError, match=r"is 4: 6 GPUs in 3 processes cannot"):
        find_devices("auto", 4)


def test_each_process_has_its_part_of_a_batch_and_all_of_one_that_divides_unevenly() -> None:
    rows = np.array([7, 1, 4, 9, 3, 2, 8, 0])
    processes = [Devices(4, None, process, 2) for process in range(2)]
    assert [list(process.part(rows)) for process in processes] == [[7, 1, 4, 9], [3, 2, 8, 0]]
    assert [list(process.part(rows[:6])) for process in processes] == [list(rows[:6])] * 2
    assert list(ONE.part(rows)) == list(rows)
