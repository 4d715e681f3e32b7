"""The whole pipeline under DVC, in a copy of the project with small parameters, on JAX."""

import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.repo import Repo

from tests.project import ROOT, STAGES, copy_project, pipeline, run, start, write_params

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with a DVC remote, in which the pipeline ran once and was committed."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    remote = str(tmp_path_factory.mktemp("remote"))
    run(folder, "dvc", "remote", "add", "--default", "shared", remote)
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=first run")
    return folder


@pytest.fixture(autouse=True)
def _as_committed(project: Path) -> Iterator[None]:
    yield
    if run(project, "git", "status", "--porcelain", "--branch").stdout == "## main\n":
        return
    run(project, "git", "switch", "--quiet", "--discard-changes", "main")
    run(project, "git", "clean", "--force", "--quiet")
    run(project, "dvc", "checkout", "--force", "--quiet")


def set_param(project: Path, section: str, **values: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params[section] |= values
    write_params(project, params)


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran."""
    return [name for name in STAGES if f"Running stage '{name}'" in output]


def test_git_stays_clean_and_has_the_metrics(project: Path) -> None:
    assert run(project, "git", "status", "--porcelain").stdout == ""
    tracked = run(project, "git", "ls-files", "metrics", "dvc.lock", "data").stdout.split()
    assert {"metrics/data.json", "metrics/train.json", "metrics/test.json"} <= set(tracked)
    assert "dvc.lock" in tracked
    assert not any(path.startswith(("data/raw", "data/packed")) for path in tracked)


def test_a_second_run_does_nothing(project: Path) -> None:
    again = run(project, "dvc", "repro")
    assert ran(again.stdout) == []
    assert "Data and pipelines are up to date" in again.stdout
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_metrics_report_dice_and_iou(project: Path) -> None:
    scores = json.loads((project / "metrics/test.json").read_text(encoding="utf-8"))
    assert list(scores)[:2] == ["dice", "iou"]
    assert scores["iou"] == pytest.approx(scores["dice"] / (2 - scores["dice"]), abs=1e-5)


def test_one_page_shows_every_curve_and_picture(project: Path) -> None:
    shown = run(project, "dvc", "plots", "show")
    assert "WARNING" not in shown.stderr
    page = (project / "dvc_plots/index.html").read_text(encoding="utf-8")
    for plot in pipeline()["plots"]:
        if isinstance(plot, dict):  # pictures are looked for below
            (title,) = plot
            assert title in page
    for picture in (project / "metrics/test").glob("*/*.png"):
        assert str(picture.relative_to(project)) in page


def test_no_unfinished_file_is_left(project: Path) -> None:
    assert list(project.rglob("*.partial")) == []
    backups = project / ".dvc" / "roads" / "training"
    assert list(backups.iterdir()) == []


def test_an_experiment_reruns_what_it_must_and_branches_can_be_compared(project: Path) -> None:
    answer = run(project, "dvc", "exp", "run", "-S", "train.learning_rate=0.00001")
    assert ran(answer.stdout) == ["train", "evaluate"]
    text = (project / "params.yaml").read_text(encoding="utf-8")
    assert "learning_rate: 1e-05" in text  # which YAML 1.1 reads as a string
    run(project, "git", "switch", "--quiet", "--create", "slow")
    run(project, "git", "commit", "--quiet", "--all", "--message=slower")
    table = run(project, "make", "--old-file=.venv/pipeline", "experiments").stdout
    assert "└── " in table  # the experiment, under the commit that it started from
    assert max(map(len, table.splitlines())) <= 120
    for column in ("valid_dice", "dice", "tile_iou", "train.learning_rate"):  # apls is the same
        assert f" {column} " in table
    told = json.loads(run(project, "dvc", "metrics", "diff", "main", "--json").stdout)
    assert {"dice", "iou"} <= told["metrics/test.json"].keys()
    assert "valid_loss" in told["metrics/train.json"]


@pytest.mark.soak
def test_an_experiment_in_a_temporary_folder_shares_the_cache(project: Path) -> None:
    answer = run(project, "dvc", "exp", "run", "--temp", "-S", "evaluate.tolerance=3")
    assert ran(answer.stdout) == ["evaluate"]
    shown = run(project, "dvc", "exp", "show", "--json").stdout
    assert '"tolerance": 3' in shown


def test_a_bad_parameter_stops_its_stage_only_with_one_line(project: Path) -> None:
    answer = run(project, "dvc", "exp", "run", "-S", "train.learning_rate=-1", check=False)
    assert answer.returncode != 0
    lines = [line for line in answer.stderr.splitlines() if line.startswith("error: ")]
    assert lines == ["error: params.yaml: train.learning_rate is -1: should be greater than 0"]
    assert "Traceback" not in answer.stderr
    way_out = "git restore -SW params.yaml metrics && dvc checkout"
    assert way_out in (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    run(project, "sh", "-c", way_out)
    assert run(project, "git", "status", "--porcelain").stdout == ""
    assert "up to date" in run(project, "dvc", "status").stdout


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository in which nothing ran."""
    return copy_project(tmp_path_factory.mktemp("fresh"))


@pytest.mark.parametrize(
    ("section", "change", "told"),
    [
        ("train", {"epochs": "abc"}, "train.epochs is 'abc': should be a valid integer"),
        ("crop", {"size": 63, "stride": 63}, "crop.size is 63: with unet.depth 3 it must be a mu"),
        ("evaluate", None, "the section `evaluate:` is missing"),
    ],
)
def test_bad_params_of_a_later_stage_are_refused_by_the_first(
    fresh: Path, section: str, change: dict[str, object] | None, told: str
) -> None:
    values = yaml.safe_load((fresh / "params.yaml").read_text(encoding="utf-8"))
    write_params(fresh, values | {section: change and values[section] | change})
    answer = run(fresh, "dvc", "repro", check=False)
    write_params(fresh, values)
    assert f"error: params.yaml: {told}" in answer.stderr
    assert ran(answer.stdout) == ["download"]
    made = run(fresh, "git", "status", "--porcelain", "--ignored").stdout.splitlines()
    assert {path for path in made if "__pycache__" not in path} <= {"!! .dvc/tmp/"}


def changed(value: Any) -> Any:
    """Some other value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    return 3 if value is None else f"{value}-changed"


def test_status_names_exactly_the_stages_that_read_a_section(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    stages = pipeline()["stages"]
    original = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    for section, values in original.items():
        key = next(  # the next test looks at paths that are deps themselves
            key for key in values
            if not any(f"${{{section}.{key}}}" in stage["deps"] for stage in stages.values())
        )  # fmt: skip
        write_params(project, original | {section: values | {key: changed(values[key])}})
        with Repo(os.fspath(project)) as repo:
            status = repo.status()
        names = {section, f"{section}.{key}"}
        readers = {
            stage: [{"changed deps": {"params.yaml": dict.fromkeys(read, "modified")}}]
            for stage, declared in stages.items()
            if (read := names.intersection(declared["params"]))
        }
        assert status == readers, section


def test_an_unused_split_seed_reruns_only_crop(project: Path) -> None:
    set_param(project, "split", seed=3)
    assert ran(run(project, "dvc", "repro").stdout) == ["crop"]


def test_a_users_folder_is_noticed_when_it_changes(project: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one")
    set_param(project, "download", folder=str(tmp_path))
    assert "download" in run(project, "dvc", "status").stdout


def test_a_recipe_is_one_command_and_the_next_starts_from_the_committed_params(
    project: Path,
) -> None:
    roads = (sys.executable, "-m", "roads", "run")
    queued = run(project, *roads, "article", "train.epochs=2", "--queue")
    assert "Queued experiment" in queued.stdout
    assert run(project, "git", "status", "--porcelain").stdout == ""

    before = (project / "metrics/test.json").read_text(encoding="utf-8")
    answer = run(project, *roads, "released")
    assert ran(answer.stdout) == ["train", "evaluate"]
    net = json.loads((project / "models/unet.json").read_text(encoding="utf-8"))
    released = project / "models/released/massachusetts-gpu/unet.json"
    assert net == json.loads(released.read_text(encoding="utf-8"))
    assert (project / "metrics/test.json").read_text(encoding="utf-8") != before
    assert not (project / "metrics/train/plots").exists()  # nothing was trained
    for plots in (("show",), ("diff", "HEAD")):
        assert "ERROR" not in run(project, "dvc", "plots", *plots).stderr
        page = (project / "dvc_plots/index.html").read_text(encoding="utf-8")
        assert "Dice and IoU of whole test tiles by threshold" in page
    again = run(project, *roads, "released", check=False)
    assert again.returncode == 1
    assert "params.yaml has uncommitted changes" in again.stderr


@pytest.mark.soak
def test_a_killed_run_resumes_and_ends_with_the_same_weights(
    project: Path,
) -> None:
    set_param(project, "train", epochs=10, seed=5, early_stopping_patience=0)
    process = start(project, "dvc", "repro", "train")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("epoch 2/10"):
            break
    os.killpg(process.pid, signal.SIGSTOP)
    second = run(project, "dvc", "repro", check=False)
    assert second.returncode != 0
    assert "is busy" in second.stderr
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()

    # Whoever edits the params of the training as it goes on gets an error, and no lock that lies.
    going_on = start(project, "dvc", "repro", "train")
    assert going_on.stdout is not None
    assert any(re.match(r"resuming after epoch \d+ of 10", line) for line in going_on.stdout)
    rate = yaml.safe_load((project / "params.yaml").read_text())["train"]["learning_rate"]
    set_param(project, "train", learning_rate=0.009)
    going_on.communicate(timeout=600)
    assert going_on.returncode != 0
    assert "train" in run(project, "dvc", "status").stdout

    set_param(project, "train", learning_rate=rate)
    again = run(project, "dvc", "repro", "train")
    assert "resuming after epoch 10 of 10" in again.stdout
    assert ran(again.stdout) == ["train"]
    resumed = outs(project, "train")
    run(project, "dvc", "repro", "--force", "--single-item", "--no-run-cache", "train")
    assert outs(project, "train") == resumed


@pytest.mark.parametrize(  # DVC runs a stage in $SHELL
    "shell", ["/bin/bash", pytest.param("/bin/sh", marks=pytest.mark.soak)]
)
def test_a_stage_ends_with_its_dvc_and_leaves_nothing_behind(
    project: Path, shell: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", shell)
    set_param(project, "crop", stride=8)
    process = start(project, "dvc", "repro", "crop")
    while not (project / "data/crops.partial/sat").exists():
        assert process.poll() is None
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGSTOP)  # so that the stage cannot end before
    process.kill()  # DVC alone
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    os.killpg(process.pid, signal.SIGCONT)  # a worker that was only starting must be able to end
    process.communicate(timeout=60)  # until nobody holds its output any more
    assert not (project / "data/crops").exists()

    set_param(project, "crop", stride=32)
    run(project, "dvc", "repro", "crop")
    after = outs(project, "crop")
    run(project, "dvc", "repro", "--force", "--single-item", "--no-run-cache", "crop")
    assert outs(project, "crop") == after
    assert list(project.rglob("*.partial")) == []


def test_crops_of_another_size_are_cut_again(project: Path) -> None:
    """DVC's run cache overlooks a key named `size` in a section."""
    set_param(project, "crop", size=128)
    assert ran(run(project, "dvc", "repro", "crop").stdout) == ["crop"]


def outs(project: Path, stage: str) -> dict[str, str]:
    """Path → MD5 of what a stage made."""
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    return {out["path"]: out["md5"] for out in lock["stages"][stage]["outs"]}


def test_another_machine_pulls_and_computes_nothing_again(project: Path, tmp_path: Path) -> None:
    run(project, "dvc", "push")
    run(tmp_path, "git", "clone", "--quiet", str(project), "second")
    second = tmp_path / "second"
    run(second, "dvc", "pull")
    answer = run(second, "dvc", "repro")
    assert "Running stage" not in answer.stdout
    assert "Data and pipelines are up to date" in answer.stdout
    for name in ("data/packed/images.h5", "models/unet.weights.h5", "data/masks/pixels.csv"):
        assert (second / name).read_bytes() == (project / name).read_bytes()
    assert run(second, "git", "status", "--porcelain").stdout == ""


def test_uncommitted_runs_are_shared_by_the_run_cache(project: Path, tmp_path: Path) -> None:
    set_param(project, "binarize", threshold=120)
    run(project, "dvc", "repro", "binarize")
    run(project, "dvc", "push", "--run-cache")  # the files of the current dvc.lock
    run(tmp_path, "git", "clone", "--quiet", str(project), "second")
    second = tmp_path / "second"
    run(second, "dvc", "pull", "--run-cache", "crop")
    set_param(second, "binarize", threshold=120)
    answer = run(second, "dvc", "repro", "--pull", "binarize")
    assert "Stage 'binarize' is cached - skipping run, checking out outputs" in answer.stdout
    assert "Running stage" not in answer.stdout
