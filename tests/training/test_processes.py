"""Two devices, or two processes over the loopback, that train one net together; all on the CPU."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from roads.runtime.errors import UserError
from roads.training.processes import SLURM_TASKS, VARIABLES, _settings, run_joined
from tests.packed import AUGMENT, TRAIN, UNET, write_pack
from tests.project import ROOT, params, write_params

SECONDS = 900  # a few, unless the machine is busy
ENDS_WITHIN = 90  # seconds after another is lost
EPOCHS = 4


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_pack(folder, 16, train=21, valid=5)
    return folder


class Host:
    """A machine with a checkout of its own; `settings` are its environment variables."""

    def __init__(self, folder: Path, packed: Path, **train: Any):
        self.folder, self.packed = folder, packed
        folder.mkdir(parents=True)
        recipe = {
            **TRAIN, "epochs": EPOCHS, "learning_rate": 0.003, "ema": 0.8, "clip_norm": 0.1,
            "loss": "bce_dice", "cldice_weight": 0.5, "ignore_blank": True, "optimizer": "adamw",
            **train,
        }  # fmt: skip
        changes = {
            "train": recipe,
            "unet": {**UNET, "depth": 2},
            "augment": {**AUGMENT, "flips": True, "saturation": 0.2},
        }
        write_params(folder, {**params(), **changes})

    def start(self, settings: dict[str, str]) -> subprocess.Popen[str]:
        paths = f"--data {self.packed} --model models --log log --metrics train.json"
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "stages.train", *paths.split()],
            cwd=self.folder,
            env={
                **os.environ,
                **settings,
                "PYTHONPATH": str(ROOT),
                "KERAS_BACKEND": "jax",
                "CUDA_VISIBLE_DEVICES": "",
                "ROADS_STATE": str(self.folder / "state"),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def weights(self) -> bytes:
        return (self.folder / "models" / "unet.weights.h5").read_bytes()

    def curve(self, name: str) -> list[float]:
        curve = self.folder / "log" / "plots" / "metrics" / f"{name}.tsv"
        return [float(row.split("\t")[1]) for row in curve.read_text().splitlines()[1:]]

    def clear(self) -> None:
        """As DVC does before it runs a stage again."""
        for folder in ("models", "log"):
            shutil.rmtree(self.folder / folder, ignore_errors=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Host:
    """A training on one device, with all that has a state or sums over a batch.

    Its last batch has a single crop.
    """
    host = Host(tmp_path_factory.mktemp("one") / "alone", packed)
    finish(host, host.start({}))
    return host


def check_same_curves(one: Host, other: Host) -> None:
    for name in ("train/loss", "valid/loss", "valid/dice"):
        assert one.curve(name) == pytest.approx(other.curve(name), rel=1e-4, abs=1e-5), name


TWO_DEVICES = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Host:
    """A training on two devices that nobody disturbed."""
    host = Host(tmp_path_factory.mktemp("two") / "devices", packed, devices=2)
    finish(host, host.start(TWO_DEVICES))
    return host


@pytest.mark.soak
def test_two_devices_train_as_one_does(two: Host, alone: Host) -> None:
    check_same_curves(two, alone)


@pytest.mark.soak
def test_on_two_devices_a_killed_training_resumes_to_the_last_bit(
    two: Host, packed: Path, tmp_path: Path
) -> None:
    killed = Host(tmp_path / "killed", packed, devices=2)
    process = killed.start(TWO_DEVICES)
    assert process.stdout is not None
    assert any(line.startswith("epoch 2/") for line in process.stdout)
    process.kill()
    process.communicate()
    killed.clear()
    assert "resuming after epoch" in finish(killed, killed.start(TWO_DEVICES))
    assert killed.weights() == two.weights()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def by_variables() -> list[dict[str, str]]:
    address = f"127.0.0.1:{free_port()}"
    return [dict(zip(VARIABLES, (address, "2", str(place)), strict=True)) for place in range(2)]


def by_slurm() -> list[dict[str, str]]:
    """What srun would set."""
    step = {
        "SLURM_JOB_ID": str(free_port()), "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2",
        SLURM_TASKS: "2",
    }  # fmt: skip
    return [{**step, "SLURM_PROCID": str(place), "SLURM_LOCALID": "0"} for place in range(2)]


def start_all(hosts: list[Host], settings: list[dict[str, str]]) -> list[subprocess.Popen[str]]:
    return [host.start(setting) for host, setting in zip(hosts, settings, strict=True)]


def finish(host: Host, process: subprocess.Popen[str]) -> str:
    output, errors = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, errors
    assert errors == ""
    return output


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> list[Host]:
    """A training by two that nobody disturbed."""
    folder = tmp_path_factory.mktemp("pair")
    hosts = [Host(folder / str(place), packed) for place in range(2)]
    outputs = [finish(*both) for both in zip(hosts, start_all(hosts, by_variables()), strict=True)]
    assert outputs[0].count("epoch ") == EPOCHS
    assert "epoch" not in outputs[1]
    assert [path.name for path in hosts[1].folder.iterdir() if path.name != "state"] == [
        "params.yaml"
    ]
    assert not list((hosts[1].folder / "state" / "training").iterdir())
    return hosts


@pytest.mark.soak
def test_two_processes_train_as_one_does(pair: list[Host], alone: Host) -> None:
    """Dropout, augmentation and averaged weights included."""
    check_same_curves(pair[0], alone)


@pytest.mark.soak
def test_a_lost_process_ends_the_other_and_both_resume(
    pair: list[Host], packed: Path, tmp_path: Path
) -> None:
    hosts = [Host(tmp_path / str(place), packed) for place in range(2)]
    for victim, survivor in ((1, 0), (0, 1)):
        running = start_all(hosts, by_slurm() if victim else by_variables())
        assert running[0].stdout is not None
        for line in running[0].stdout:
            if line.startswith(f"epoch {2 - victim}/"):
                break
        running[victim].kill()
        lost = time.monotonic()
        _, errors = running[survivor].communicate(timeout=SECONDS)
        running[victim].communicate(timeout=SECONDS)
        assert time.monotonic() - lost < ENDS_WITHIN
        assert running[survivor].returncode != 0
        assert "Traceback" not in errors
        if victim:
            assert errors.startswith("error: process 0 of 2 cannot continue")
            assert errors.count("\n") == 1
        else:  # JAX notices too that its coordinator is gone, and whoever is first ends the process
            assert "process 1 of 2 cannot continue" in errors or "another task died" in errors
        hosts[0].clear()
    ends = [finish(*both) for both in zip(hosts, start_all(hosts, by_variables()), strict=True)]
    assert "resuming after epoch" in ends[0]
    assert hosts[0].weights() == pair[0].weights()


@pytest.mark.slow
def test_processes_with_differences_are_refused(packed: Path, tmp_path: Path) -> None:
    hosts = [Host(tmp_path / "0", packed), Host(tmp_path / "1", packed, learning_rate=0.1)]
    for process in start_all(hosts, by_variables()):
        _, errors = process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert errors.startswith("error: process 1 has other code, params")
        assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        (("host:1", "2", ""), "^ROADS_PROCESS is not set"),
        (("", "2", ""), "^ROADS_COORDINATOR and ROADS_PROCESS is not set"),
        (("host:1", "2", "2"), "index of this one from 0"),
        (("host:1", "two", "0"), "ROADS_PROCESSES is two"),
        (("host", "2", "0"), "HOST:PORT"),
    ],
)
def test_wrong_settings_are_refused(values: tuple[str, ...], complaint: str) -> None:
    with pytest.raises(UserError, match=complaint):
        _settings(dict(zip(VARIABLES, values, strict=True)))


def test_by_default_there_is_a_single_process() -> None:
    assert _settings({}) is None
    assert _settings({SLURM_TASKS: "1"}) is None
    assert _settings(dict(zip(VARIABLES, ("host:1", "1", "0"), strict=True))) is None
    assert _settings({SLURM_TASKS: "2"}) == {}


def test_several_processes_need_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in zip(VARIABLES, ("127.0.0.1:1", "2", "0"), strict=True):
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match="KERAS_BACKEND=jax"):
        run_joined(lambda: pytest.fail("it ran"))
