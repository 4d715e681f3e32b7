"""The stage as users run it: processes, killed and started again, on both backends."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader
from roads.models.backend import backend_name
from roads.models.weights import load_model, read_description
from roads.params.train import TrainParams
from roads.runtime.errors import UserError
from roads.training.batches import CropBatches
from roads.training.calibration import fit_temperature
from stages.train import train
from tests.packed import AUGMENT, TRAIN, UNET, augment_params, train_params, unet_params, write_pack
from tests.project import ROOT, hide, params, write_params

BACKENDS = ("tensorflow", "jax")
SECONDS = 240  # a training takes about ten, unless the machine is busy


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("packed")
    write_pack(folder, 32, train=40, valid=8)
    return folder


def environment(backend: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "KERAS_BACKEND": backend}


class Run:
    """`python -m stages.train` in a folder of its own, with a state folder beside it."""

    def __init__(self, folder: Path, packed: Path, backend: str, without: tuple[str, ...] = ()):
        self.folder, self.packed, self.backend = folder, packed, backend
        folder.mkdir()
        path = [str(ROOT), hide(without, folder / "hidden")]
        self.environment = {
            **environment(backend),
            "PYTHONPATH": os.pathsep.join(path),
            "ROADS_STATE": str(folder / "state"),
        }
        net = {**UNET, "depth": 2}
        write_params(folder, {**params(), "train": TRAIN, "unet": net, "augment": AUGMENT})

    def start(self) -> subprocess.Popen[str]:
        paths = f"--data {self.packed} --model models --log log --metrics train.json"
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "stages.train", *paths.split()],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> str:
        """Run it to its end; it must end well and say nothing on stderr."""
        output, errors = self.start().communicate(timeout=SECONDS)
        assert errors == ""
        return output

    def start_and_stop_after(self, epoch: int) -> subprocess.Popen[str]:
        """Start it, and halt it (SIGSTOP) somewhere after an epoch's line has come."""
        process = self.start()
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(f"epoch {epoch}/"):
                break
        time.sleep(0.05)
        process.send_signal(signal.SIGSTOP)
        assert process.poll() is None
        return process

    def end(self, halted: subprocess.Popen[str], how: signal.Signals) -> str:
        """End it so; its stderr. (DVC would remove the outputs before the stage runs again.)"""
        halted.send_signal(how)
        halted.send_signal(signal.SIGCONT)
        _, errors = halted.communicate(timeout=SECONDS)
        return errors

    def backups(self) -> list[Path]:
        return list((self.folder / "state" / "training").glob("*"))

    def curve(self) -> list[str]:
        """The lines of a table of the curves."""
        return (self.folder / "log/plots/metrics/valid/loss.tsv").read_text().splitlines()

    def results(self) -> dict[str, str]:
        """SHA-256 of every output."""
        files = [path for kind in ("models", "log") for path in (self.folder / kind).rglob("*.*")]
        return {
            str(path.relative_to(self.folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in [*files, self.folder / "train.json"]
            if path.is_file()
        }


@pytest.fixture(scope="module")
def wholes(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> dict[str, Run]:
    """A training that nobody disturbed, on each backend."""
    runs = {}
    for backend in BACKENDS:
        runs[backend] = Run(tmp_path_factory.mktemp(backend) / "whole", packed, backend)
        assert runs[backend].finish().count("epoch ") == TRAIN["epochs"]
    return runs


@pytest.fixture(params=BACKENDS)
def whole(request: pytest.FixtureRequest, wholes: dict[str, Run]) -> Run:
    return wholes[request.param]


@pytest.mark.slow
def test_outputs_are_complete_and_describe_the_net(whole: Run) -> None:
    assert set(whole.results()) == {
        "models/unet.weights.h5",
        "models/unet.json",
        "train.json",
        "log/metrics.json",
        "log/augmented.png",
        "log/curves.png",
        "log/plots/metrics/learning_rate.tsv",
        *(
            f"log/plots/metrics/{split}/{score}.tsv"
            for split in ("train", "valid")
            for score in ("loss", "dice", "iou", "road_fraction")
        ),
    }
    net, description = load_model(whole.folder / "models" / "unet.weights.h5")
    assert (description.backend, description.device) == (whole.backend, "CPU")
    assert (description.precision, description.crop_size) == ("float32", 32)
    with PackReader(whole.packed) as pack:
        fitted = fit_temperature(net, CropBatches(pack, "valid", TRAIN["batch_size"]))
    assert description.temperature == pytest.approx(fitted, rel=0.01)
    assert str(whole.folder) not in description.model_dump_json()

    steps, losses = zip(*(line.split("\t") for line in whole.curve()[1:]), strict=True)
    assert list(steps) == [str(epoch) for epoch in range(1, TRAIN["epochs"] + 1)]
    scores = json.loads((whole.folder / "train.json").read_text())
    assert scores["best_epoch"] == int(np.argmin([float(loss) for loss in losses])) + 1
    assert scores["valid_loss"] == pytest.approx(min(map(float, losses)), abs=1e-6)
    assert scores["valid_dice"] == pytest.approx(
        description.training["best"]["valid/dice"], abs=1e-6
    )
    assert whole.backups() == []


@pytest.mark.slow
def test_after_ctrl_c_and_started_again_it_ends_with_the_same_bytes(
    wholes: dict[str, Run], tmp_path: Path
) -> None:
    whole = wholes["tensorflow"]
    run = Run(tmp_path / "killed", whole.packed, whole.backend)
    halted = run.start_and_stop_after(2)
    assert run.curve()[1:3] == whole.curve()[1:3]  # under way
    _, errors = run.start().communicate(timeout=SECONDS)  # a second one beside it is refused
    assert errors.startswith("error: the same training is already running")
    assert errors.count("\n") == 1
    errors = run.end(halted, signal.SIGINT)
    assert re.fullmatch(r"interrupted after epoch \d; run the same command to continue\n", errors)
    assert halted.returncode == 130
    check_resumed(run)
    assert run.results() == whole.results()


def check_resumed(run: Run) -> None:
    assert any(path.suffix == ".npz" for path in run.backups())
    output = run.finish()
    assert "resuming after epoch" in output
    assert "epoch 1/" not in output
    assert run.backups() == []


@pytest.mark.slow
def test_on_jax_and_without_dvclive_a_killed_training_leaves_the_same_bytes(
    wholes: dict[str, Run], tmp_path: Path
) -> None:
    whole = wholes["jax"]
    run = Run(tmp_path / "alone", whole.packed, "jax", without=("dvc", "dvclive"))
    run.end(run.start_and_stop_after(2), signal.SIGKILL)
    check_resumed(run)
    expected = whole.results()
    del expected["log/metrics.json"]
    assert run.results() == expected


PREDICT = """
import sys
from pathlib import Path
import numpy as np
from tests.stages.test_train import predicted
np.save(sys.argv[1], [predicted(Path(name)) for name in sys.argv[2:]])
"""


def predicted(weights: Path) -> Any:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 64, 3), np.uint8)
    model, _ = load_model(weights)
    return model.predict(images, verbose=0)


@pytest.mark.slow
def test_each_backend_predicts_the_same_from_the_weights_of_the_other(
    wholes: dict[str, Run], tmp_path: Path
) -> None:
    weights = [run.folder / "models" / "unet.weights.h5" for run in wholes.values()]
    here = [predicted(path) for path in weights]
    assert backend_name() == "tensorflow"
    command = [sys.executable, "-c", PREDICT, str(tmp_path / "jax.npy"), *map(str, weights)]
    subprocess.run(command, cwd=ROOT, check=True, env=environment("jax"), timeout=SECONDS)
    np.testing.assert_allclose(here, np.load(tmp_path / "jax.npy"), atol=1e-5)
    assert np.std(here) > 0.01


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROADS_STATE", str(tmp_path / "state"))


def run_here(folder: Path, packed: Path, params: TrainParams, **unet: Any) -> None:
    """The stage's function, in this process."""
    train(
        packed,
        folder / "models",
        folder / "log",
        folder / "train.json",
        params,
        unet_params(**{"depth": 2, **unet}),
        augment_params(),
    )


def starting_from(weights: Path) -> dict[str, str]:
    """The params that name a net by the folder its weights are in."""
    net = weights.parent
    return {"weights_folder": str(net.parent), "initial_weights": net.name}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, packed: Path) -> Path:
    """Weights after one epoch."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROADS_STATE", str(folder / "state"))
        run_here(folder, packed, train_params(epochs=1, schedule="cosine", loss="bce_dice"))
    return folder / "models" / "unet.weights.h5"


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_without_epochs_the_initial_weights_keep_their_net(
    trained: Path, packed: Path, tmp_path: Path
) -> None:
    params = train_params(epochs=0, **starting_from(trained))
    run_here(tmp_path, packed, params, filters=32, depth=5)
    passed_on = tmp_path / "models" / "unet.weights.h5"
    assert passed_on.read_bytes() == trained.read_bytes()
    assert read_description(passed_on) == read_description(trained)
    assert json.loads((tmp_path / "train.json").read_text()) == {"best_epoch": 0}
    assert (tmp_path / "log").is_dir()


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_training_starts_from_the_initial_weights(
    trained: Path, packed: Path, tmp_path: Path
) -> None:
    still = train_params(
        epochs=1, schedule="constant", learning_rate=1e-30, **starting_from(trained)
    )
    run_here(tmp_path, packed, still, dropout=0)
    before, _ = load_model(trained)
    after, description = load_model(tmp_path / "models" / "unet.weights.h5")
    for one, other in zip(before.trainable_weights, after.trainable_weights, strict=True):
        np.testing.assert_array_equal(one, other)
    assert description.training["initial_weights"] == "models"


@pytest.mark.slow
@pytest.mark.usefixtures("state")
def test_initial_weights_of_another_net_are_refused_with_a_remedy(
    trained: Path, packed: Path, tmp_path: Path
) -> None:
    params = train_params(**starting_from(trained))
    with pytest.raises(UserError, match=r"with unet\.filters=4 unet\.depth=2$"):
        run_here(tmp_path, packed, params, filters=8, depth=3)
    trained_alone = tmp_path / "alone" / "unet.weights.h5"
    trained_alone.parent.mkdir()
    shutil.copy(trained, trained_alone)
    with pytest.raises(UserError, match="weights of a different net"):
        run_here(tmp_path, packed, train_params(**starting_from(trained_alone)), filters=8)


@pytest.mark.usefixtures("state")
def test_missing_initial_weights_are_named(packed: Path, tmp_path: Path) -> None:
    for epochs in (0, 1):
        with pytest.raises(UserError, match="no net `absent`"):
            run_here(tmp_path, packed, train_params(initial_weights="absent", epochs=epochs))


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 0},
        {"learning_rate": "much"},
        {"batch_size": 0},
        {"epochs": -1},
        {"loss": "hinge"},
        {"precision": "float64"},
        {"plateau_factor": 1},
        {"seed": -1},
    ],
)
def test_params_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        train_params(**change)
