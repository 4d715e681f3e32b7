"""A training on a GPU machine, and what it does when something goes wrong; on a CPU."""

import argparse
import json
import os
import re
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import gpu_run, gpu_work
from benchmarks.gpu_run import (
    SMALL_NET,
    Ended,
    Params,
    Script,
    after,
    changed,
    command,
    difference,
    measure,
    roofline,
    train,
    unpack_wheels,
)
from benchmarks.without_dvc import tiles_from
from roads.dataset.packs import PackReader
from roads.models.weights import load_model
from roads.recipes import changed_params, read_changes, read_recipe
from roads.sources import sample
from tests.project import ROOT

SMALL = {
    "handpick.max_blank": 1.0, "crop.size": 64, "crop.stride": 60, "augment.window": 32,
    "augment.repeats": 16,
    "unet.filters": 2, "unet.depth": 2, "train.batch_size": 2, "train.loop": "resident",
}  # fmt: skip


def test_the_record_says_how_to_repeat_the_run(tmp_path: Path) -> None:
    changes = ["train.road_weight=null", "unet.filters=4"]
    plan = gpu_work.plan(ROOT / "recipes/article.yaml", changes, tmp_path, commit="1234")
    line = command(plan["record"]["changes"])
    assert line.startswith("KERAS_BACKEND=jax dvc exp run -S ")
    again = read_changes(line.split("run ", 1)[1].replace("-S ", "").split())
    assert again.pop("download.folder") == "/absolute/path"
    assert not difference(changed_params(again | tiles_from(tmp_path)), plan["params"])
    assert Path(plan["params"]["train"]["weights_folder"]).is_absolute()
    assert plan["record"]["commit"] == "1234"
    assert {"python", "numpy", "keras"} <= set(plan["record"]["versions"])
    assert str(tmp_path) not in json.dumps(plan["record"])


def test_wheels_become_importable_or_the_installed_packages_are_used(
    tmp_path: Path,
) -> None:
    assert unpack_wheels(None, tmp_path / "site") == []
    assert unpack_wheels(tmp_path / "absent", tmp_path / "site") == []
    with zipfile.ZipFile(tmp_path / "toy-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("toy.py", "answer = 42")
        wheel.writestr("toy-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: toy\nVersion: 1")
    (site,) = unpack_wheels(tmp_path, tmp_path / "site")
    code = "import toy, importlib.metadata as m; print(toy.answer, m.version('toy'))"
    answer = subprocess.check_output(
        [sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": site}, text=True
    )
    assert answer == "42 1\n"


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(
        argparse.Namespace(minutes=2, wheels=None, work=tmp_path / "work", out=tmp_path / "out")
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("print('the first steps took 1 s')", "finished"),
        ("raise SystemExit(3)", "failed"),
        ("raise SystemExit('the loss is inf, so training cannot continue')", "not a number"),
        ("import time; time.sleep(60)", "no first step"),
        ("import time; print('the first steps took 1 s', flush=True); time.sleep(60)", "late"),
    ],
)
def test_the_end_of_a_process_is_reported_and_none_exceeds_its_time(
    script: Script, tmp_path: Path, code: str, reason: str
) -> None:
    start = time.monotonic()
    ended = script.run([sys.executable, "-u", "-c", code], tmp_path, seconds=3, first_step=1.5)
    assert ended.reason == reason
    assert time.monotonic() - start < 20


FIT = {"train.loop": "fit", "augment.repeats": gpu_run.FEW_REPEATS}
# Stands for a training: it fails as long as its params have what is named on the command line.
TRAINER = """
import json, sys, time
from pathlib import Path
params = json.load(open("params.yaml"))
print(json.dumps(params["train"]), flush=True)
out = Path(sys.argv[sys.argv.index("--snapshots") + 1])
out.mkdir(parents=True, exist_ok=True)
kind = sys.argv[1]
if kind == "hangs" and params["unet"]["filters"] > 16:
    time.sleep(60)
print("the first steps took 0 s", flush=True)
(out / "unet.weights.h5").touch()
if kind == "nan" and params["train"]["learning_rate"] > 0.0005:
    sys.exit("error: epoch 3: the loss is nan, so training cannot continue")
if kind == "resident" and params["train"]["loop"] != "fit":
    sys.exit("out of memory")
if kind == "bfloat16" and params["train"]["precision"] != "float32":
    sys.exit("no such kernel")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "changes", "tries"),
    [
        ("hangs", SMALL_NET, 2),
        ("nan", {"train.learning_rate": 0.0005, "train.initial_weights": "last"}, 2),
        ("resident", FIT | {"train.initial_weights": "last"}, 2),
        ("bfloat16", FIT | {"train.precision": "float32", "train.initial_weights": "last"}, 3),
    ],
)
def test_a_failed_training_is_tried_again_with_changes(
    script: Script, monkeypatch: pytest.MonkeyPatch, kind: str, changes: dict[str, Any], tries: int
) -> None:
    monkeypatch.setattr(gpu_run, "TRAINER", [sys.executable, "-c", TRAINER, kind])
    monkeypatch.setattr(gpu_run, "FIRST_STEP", 2)
    monkeypatch.setattr(gpu_run, "WORKER", [sys.executable, "-c", ""])
    params = changed_params(read_recipe(ROOT / "recipes/best.yaml"))
    (script.out / "last").mkdir()
    (script.out / "last/unet.weights.h5").touch()  # of another run: not to be gone on from
    records: list[tuple[Params, Ended | None]] = []
    ended = train(script, params, Path("packed"), lambda *values: records.append(values))
    assert ended.reason == "finished"
    assert [kept is None for _, kept in records] == [True, False] * tries
    assert sum(what.startswith("training, try") for what, _ in script.table) == tries
    found = difference(records[-1][0], params)
    assert 0 < found.pop("train.minutes") <= 2 - gpu_run.RESERVE / 60
    assert found == changes
    assert not difference(records[0][0], params).keys() - {"train.minutes"}


@pytest.mark.parametrize("reason", ["no first step", "not a number", "failed"])
def test_a_further_try_with_a_pretrained_encoder_has_valid_params(
    reason: str, tmp_path: Path
) -> None:
    recipe = read_recipe(ROOT / "recipes/encoder.yaml")
    (tmp_path / "last").mkdir()
    (tmp_path / "last/unet.weights.h5").touch()
    changes = after(reason, changed_params(recipe), tmp_path)
    assert changes
    changed_params(recipe | changes)  # else the try would be refused


def test_no_change_is_tried_twice(tmp_path: Path) -> None:
    params = changed_params({"train.loop": "fit", "train.precision": "float32"})
    assert after("failed", params, tmp_path) is None
    assert after("no first step", changed(params, SMALL_NET), tmp_path) is None
    assert after("not a number", params, tmp_path) == {"train.learning_rate": 0.0005}
    assert after("late", params, tmp_path) is None


def test_the_roofline_is_bandwidth_over_bytes_if_both_are_known() -> None:
    params = changed_params({"unet.filters": 32, "unet.encoder": "residual"})
    assert roofline(params, "NVIDIA H100 80GB HBM3") == pytest.approx(4380, abs=1)
    assert roofline(params, "CPU") is None
    assert roofline(changed(params, {"unet.filters": 24}), "NVIDIA H100") is None


def test_the_length_of_an_epoch_follows_the_measured_speed(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = changed_params(read_recipe(ROOT / "recipes/article.yaml"))
    report = '\'{"windows_per_second": 400.0, "first_call": 9, "window": 256, "crops": 100, '
    report += '"device": "NVIDIA H100"}\''
    code = f"import json, sys; open(json.loads(sys.argv[-1])['report'], 'w').write({report})"
    monkeypatch.setattr(gpu_run, "WORKER", [sys.executable, "-c", code])
    found, speed = measure(script, params, Path("packed"))
    assert found["augment"]["repeats"] == 100
    assert speed is not None
    assert speed["crops_per_second"] == 400
    assert speed["roofline"] == pytest.approx(3.0e12 / 286e6)
    monkeypatch.setattr(gpu_run, "WORKER", [sys.executable, "-c", "raise SystemExit(1)"])
    assert measure(script, params, Path("packed"))[1] == speed  # it is not measured again
    other = changed(params, {"unet.filters": 8})
    found, nothing = measure(script, other, Path("packed"))
    assert (found["augment"]["repeats"], nothing) == (gpu_run.FEW_REPEATS, None)


@pytest.mark.slow
def test_where_a_stage_fails_the_tiles_are_decoded_without_the_stages(tmp_path: Path) -> None:
    tiles, work = tmp_path / "tiles", tmp_path / "work"
    sample.fetch(tiles, seed=1, size=128, train=1, valid=1, test=1)
    work.mkdir()
    params = changed_params(SMALL) | {"download": {"source": "nonsense"}}
    (work / "params.yaml").write_text(json.dumps(params))
    gpu_work.prepare(tiles, work)
    assert (work / "packed").readlink() == work / "decoded"


def assert_same_crops(packed: Path, other: Path) -> None:
    with PackReader(packed) as one, PackReader(other) as two:
        for split in ("train", "valid", "test"):
            rows = range(one.rows(split))
            assert len(rows) == two.rows(split) > 0
            for mine, theirs in zip(one.read(split, rows), two.read(split, rows), strict=True):
                np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_from_tiles_to_weights_that_can_be_released(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sample.fetch(tmp_path / "tiles", seed=1, size=256, train=2, valid=1, test=1)
    folders = [f"--{name}={tmp_path / name}" for name in ("tiles", "work", "out")]
    changes = [f"-S{name}={value}" for name, value in SMALL.items()]
    monkeypatch.setattr(sys, "argv", ["gpu_run", *folders, "--minutes=10", *changes])
    monkeypatch.setattr(gpu_run, "EPOCH_SECONDS", 0.3)

    seconds: list[float] = []

    def measure_and_leave_little_time(script: Script, *arguments: Any) -> Any:
        found, speed = measure(script, *arguments)
        assert speed is not None
        seconds.append(2 * speed["first_call"] + 3)  # the time to compile counts
        monkeypatch.setattr(gpu_run, "RESERVE", script.left() - seconds[0])
        return found, speed

    monkeypatch.setattr(gpu_run, "measure", measure_and_leave_little_time)
    monkeypatch.setenv("ROADS_WORKERS", "1")
    status, said = gpu_run.main(), capsys.readouterr().out
    assert status == 0, said
    assert re.search(r"^training, try 1 +finished after", said, re.MULTILINE)
    for name in ("last", "best"):
        net, description = load_model(tmp_path / "out" / name / "unet.weights.h5")
        assert net.count_params() == description.parameters
        assert description.training["steps"] > 0
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record["changes"]["train.minutes"] == pytest.approx(seconds[0] / 60, rel=0.01)
    assert record["seconds"]["train"] > seconds[0]
    curves = (tmp_path / "out/last/curves.csv").read_text().splitlines()
    assert curves[0].startswith("epoch,learning_rate,")
    rates = [float(line.split(",")[1]) for line in curves[1:]]
    assert rates[-1] < 0.1 * max(rates)  # it falls to 0 as the time runs out
    assert record["changes"]["train.loop"] == "resident"
    assert len(list((tmp_path / "out").rglob("*.*"))) <= 8  # files, that come back
    params = changed_params(read_recipe(ROOT / "recipes/best.yaml") | SMALL)
    gpu_work.decode(tmp_path / "tiles", tmp_path / "decoded", params)
    assert_same_crops(tmp_path / "work/packed", tmp_path / "decoded")


@pytest.mark.slow
def test_a_wrong_key_is_reported_before_anything_starts(tmp_path: Path) -> None:
    folders = [f"--{name}={tmp_path}" for name in ("tiles", "work", "out")]
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu_run", *folders, "--minutes=1", "-Sunet.filter=4"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stderr == "error: unet.filter is not a key of params.yaml\n"
