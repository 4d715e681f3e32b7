"""The stages on a machine that has neither DVC nor Git."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.without_dvc import GIVEN, RECORD, StagesAlone, tiles_from
from roads.recipes import changed_params
from roads.runtime.errors import UserError
from tests.project import ROOT, SMALL

CHANGES = {f"{name}.{key}": value for name, keys in SMALL.items() for key, value in keys.items()}
SECONDS = 60


def stages_run(said: str) -> list[str]:
    return [line.split(":")[0] for line in said.splitlines() if ": " in line]


def test_only_files_in_git_are_copied() -> None:
    listed = subprocess.check_output(["git", "ls-files", "data", "models"], cwd=ROOT, text=True)
    tracked = {Path(name) for name in listed.splitlines()}
    assert {p for p in tracked if not any(p.is_relative_to(name) for name in GIVEN)} == set()
    assert all((ROOT / name).exists() for name in GIVEN)


@pytest.mark.slow
def test_only_stages_with_changed_params_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "")  # no Git
    monkeypatch.setenv("ROADS_WORKERS", "1")
    stages = ["download", "handpick-filter", "crop"]
    StagesAlone(tmp_path).run(changed_params(CHANGES), last="crop")
    assert stages_run(capfd.readouterr().err) == stages
    assert (tmp_path / "data/crops/index.csv").exists()

    pipeline = StagesAlone(tmp_path)
    pipeline.run(changed_params({**CHANGES, "binarize.threshold": 90}), last="crop")
    assert stages_run(capfd.readouterr().err) == []

    bad = changed_params(CHANGES)
    bad["split"]["seed"] = -1
    with pytest.raises(UserError, match=f"stage crop failed in {tmp_path}"):
        pipeline.run(bad, last="crop")
    pipeline.run(changed_params({**CHANGES, "split.seed": 1}), last="crop")
    assert stages_run(capfd.readouterr().err) == ["error", "crop"]


ALONE = """
import json, sys
from pathlib import Path
from benchmarks.without_dvc import StagesAlone
StagesAlone(Path(sys.argv[1])).run(json.loads(sys.argv[2]), last="download")
"""


@pytest.mark.slow
def test_a_killed_run_ends_its_stage(tmp_path: Path) -> None:
    params = json.dumps(changed_params({"sample.train": 1000}))
    command = [sys.executable, "-c", ALONE, str(tmp_path), params]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE)
    tiles = tmp_path / "data/raw.partial/train/sat"
    deadline = time.monotonic() + SECONDS
    while not (tiles.exists() and any(tiles.iterdir())):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=SECONDS)  # all that write to its stderr have ended
    assert json.loads((tmp_path / RECORD).read_text()) == {}  # it will run again


def test_a_folder_of_tiles_must_exist() -> None:
    with pytest.raises(UserError, match="no folder"):
        tiles_from(Path("absent"))
