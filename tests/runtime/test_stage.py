"""Stages as DVC starts them, and their worker processes, when what started them has ended."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import filelock
import pytest
import yaml

from roads.runtime.stage import STAGE_VARIABLE
from tests.project import ROOT, SMALL, params, run, write_params

WORK = """
import os, time
from pathlib import Path
from roads.parallel.pool import in_order

def work(number):
    Path(f"worker{number}").write_text(str(os.getpid()))
    time.sleep(600)

list(in_order(work, range(4), ""))
"""


def start(folder: Path, *command: str, **options: bool) -> subprocess.Popen[str]:
    environment = {"PYTHONPATH": str(ROOT), STAGE_VARIABLE: "binarize", "ROADS_WORKERS": "2"}
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=folder, env=os.environ | environment, stderr=subprocess.PIPE, text=True,
        **options,  # type: ignore[call-overload]
    )  # fmt: skip


def binarize(folder: Path, **options: bool) -> tuple[int, str]:
    """Run a stage without its inputs; its exit status and what it says of that."""
    (folder / ".dvc").mkdir(exist_ok=True)
    process = start(folder, "-m", "stages.binarize", "--crops", "a", "--out", "b", **options)
    _, said = process.communicate(timeout=120)
    return process.returncode, said


@pytest.mark.slow
def test_a_stage_runs_once_at_a_time_in_a_folder(tmp_path: Path) -> None:
    with filelock.FileLock(tmp_path / ".dvc/tmp/stage-binarize.lock"):
        status, said = binarize(tmp_path)
    assert status == 1
    assert said.startswith("error: the stage binarize is already running here in another process")
    assert "params.yaml is missing" in binarize(tmp_path)[1]  # now it is let in


def test_a_stage_does_not_start_if_its_dvc_has_ended(tmp_path: Path) -> None:
    status, said = binarize(tmp_path, start_new_session=True)  # as an orphan it has another's
    assert status == 1
    assert said == "error: the `dvc` that started this stage has ended. Run `dvc repro`.\n"


def test_git_can_restore_params_that_a_stage_refuses(tmp_path: Path) -> None:
    file = tmp_path / "params.yaml"
    file.write_text("binarize: {threshold: 100}\n")
    os.utime(file, (0, 0))
    for command in ("init --quiet", "config core.trustctime false", "add params.yaml"):
        run(tmp_path, "git", *command.split())
    file.write_text("binarize: {threshold: abc}\n")
    os.utime(file, (0, 0))  # at the same time, as far as Git can see
    assert "params.yaml: " in binarize(tmp_path)[1]
    run(tmp_path, "git", "restore", "params.yaml")
    assert "100" in file.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(WORK)
    parent = start(tmp_path, "parent.py")
    files = [tmp_path / "worker0", tmp_path / "worker1"]
    wait_until(lambda: all(file.exists() and file.read_text() for file in files))
    workers = [int(file.read_text()) for file in files]
    assert os.getpid() not in workers
    parent.send_signal(signal.SIGKILL)
    parent.communicate(timeout=120)  # until nobody holds its stderr any more
    wait_until(lambda: not any(Path(f"/proc/{worker}/fd/0").exists() for worker in workers))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "closed"),
    [
        ("download --names names.csv --out raw", "2>&-"),
        ("download --names names.csv --out raw", "<&- >&- 2>&-"),
        ("train --help", "<&- >&- 2>&-"),
    ],
)
def test_stages_and_their_workers_run_where_the_streams_are_closed(
    tmp_path: Path, command: str, closed: str
) -> None:
    write_params(tmp_path, params() | {"sample": SMALL["sample"] | {"seed": 1}})
    subprocess.run(
        ["/bin/sh", "-c", f"exec {sys.executable} -m stages.{command} {closed}"],
        cwd=tmp_path, check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "ROADS_WORKERS": "2"},
    )  # fmt: skip


WORKERS = """
import os, signal
from roads.parallel.pool import in_order

def interrupt(number):
    os.kill(os.getpid(), signal.SIGINT)

list(in_order(interrupt, range(4), ""))
"""


@pytest.mark.slow
def test_workers_leave_ctrl_c_to_the_process_that_started_them(tmp_path: Path) -> None:
    (tmp_path / "parent.py").write_text(WORKERS)
    parent = start(tmp_path, "parent.py")
    _, said = parent.communicate(timeout=120)
    assert (parent.returncode, said) == (0, "")


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


PIPELINE = {
    "stages": {"binarize": {"params": ["crop", "split.by"], "deps": ["data", "${own.folder}"]}}
}
WAIT = """
import sys
from pathlib import Path
from roads.runtime.stage import begin, stage_status

begin()

def main():
    Path("begun").touch()
    while not Path("end").exists():
        pass

sys.exit(stage_status(main))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("path", "text", "told"),
    [
        ("params.yaml", "crop: {size: 64}\nown: {folder: mine}", "crop.size was 32 and is now 64"),
        ("params.yaml", "crop: {}\nown: {folder: mine}", "crop.size was 32 and is now None"),
        ("params.yaml", "crop: {size: 32}\nown: {folder: mine}  # the same", ""),
        ("params.yaml", "crop: {size: 32}\nown: {folder: mine, more: 1}", ""),
        (
            "params.yaml",
            "split: {by: tile}\nown: {folder: mine}",
            "split.by was None and is now 'tile'",
        ),
        ("params.yaml", "crop: {size: 32}\nown: {folder: mine}\nsplit: {seed: 1}", ""),
        ("data/a.txt", "longer", "data/a.txt was changed"),
        ("data/b.txt", "b", "data/b.txt was added"),
        ("data/.b.txt.swp", "an editor's", ""),
        ("mine/c.txt", "c", "mine/c.txt was changed"),  # as long, but written again
        ("mine", "", "mine/c.txt was removed"),
        ("dvc.yaml", "stages: {}", "dvc.yaml no longer has the stage binarize"),
        ("params.yaml", "crop: {size: 32", "params.yaml is not valid YAML"),
        (
            "params.yaml",
            "crop: {size: true}\nown: {folder: mine}",
            "was 32 and is now True",
        ),
    ],
)
def test_a_change_under_a_running_stage_is_an_error(
    tmp_path: Path, path: str, text: str, told: str
) -> None:
    for folder in (".dvc", "data", "mine"):
        (tmp_path / folder).mkdir()
    write_params(tmp_path, {"crop": {"size": 32}, "own": {"folder": "mine"}})
    (tmp_path / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE))
    for file in ("data/a.txt", "mine/c.txt"):
        (tmp_path / file).write_text("a")
    (tmp_path / "main.py").write_text(WAIT)
    process = start(tmp_path, "main.py")
    wait_until(lambda: (tmp_path / "begun").exists())
    changed = tmp_path / path
    if changed.is_dir():
        shutil.rmtree(changed)
    else:
        changed.write_text(text)
    (tmp_path / "end").touch()
    _, said = process.communicate(timeout=120)
    assert (process.returncode, told in said) == (1 if told else 0, True), said
    assert said.count("\n") == (1 if told else 0)
