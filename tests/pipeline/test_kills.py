"""`dvc repro` killed at random moments, with its stages or alone, ends as if nobody had."""

import json
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.project import SMALL, copy_project, params, run, start, write_params
from tests.sources.test_massachusetts import add_tile
from tests.sources.tile_server import TileServer, serving, slowly

STAGES = ["download", "handpick-filter", "crop", "binarize", "pack-h5", "train", "evaluate"]
TILES = {"train": 3, "valid": 1, "test": 1}
CONNECTIONS = 4
EPOCHS = 30
BEGUN = re.compile(r"(?:Running stage|Stage) '([^']+)'(?::| is cached)")  # run, or taken from cache
SECONDS_TO_END = 60  # for a stage whose DVC was killed; on a busy machine


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[TileServer]:
    """Serves a few tiles; each file comes slowly at its first request."""
    monkeypatch.setenv("NO_PROXY", "*")
    with serving() as server:
        for split, count in TILES.items():
            for number in range(count):
                add_tile(server, split, f"{split}{number}", 128)
        for path in server.files:
            server.faults[path] = iter([slowly()])
        yield server


def small_project(folder: Path, server: TileServer) -> Path:
    """A project that downloads the server's tiles and has nothing done yet."""
    folder.mkdir()
    copy_project(folder)
    values = {section: dict(knobs) for section, knobs in params().items()}
    for section, knobs in SMALL.items():
        values[section] |= knobs
    values["download"] |= {
        "source": "massachusetts", "base_url": server.url, "connections": CONNECTIONS,
    }  # fmt: skip
    values["train"] |= {"epochs": EPOCHS, "early_stopping_patience": 0}
    write_params(folder, values)
    rows = [path.split("/") for path in server.files if "/sat/" in path]
    names = [f"{row[1]},{row[3].removesuffix('.tiff')}" for row in rows]
    (folder / "data/massachusetts_roads.csv").write_text("\n".join(["split,name", *names]) + "\n")
    return folder


def results(project: Path) -> dict[str, str]:
    """Path → MD5 of everything that the stages made."""
    lock = yaml.safe_load((project / "dvc.lock").read_text(encoding="utf-8"))
    outs: list[dict[str, Any]] = [out for s in lock["stages"].values() for out in s["outs"]]
    return {out["path"]: out["md5"] for out in outs}


def undisturbed(project: Path) -> dict[str, float]:
    """Run the pipeline; the seconds that each stage took."""
    process = start(project, "dvc", "repro")
    assert process.stdout is not None
    begun = [(line, time.monotonic()) for line in process.stdout if line.startswith("Running ")]
    assert process.wait() == 0
    ends = [when for _, when in begun[1:]] + [time.monotonic()]
    return {line.split("'")[1]: end - when for (line, when), end in zip(begun, ends, strict=True)}


def killed(project: Path, stage: str, after: float, alone: bool) -> list[str]:
    """Run `dvc repro` and kill it, or DVC alone, `after` seconds after a stage has begun.

    All that it started must end soon, which closes its output.

    Returns:
        the lines it had said.
    """
    repair_lock(project)
    process = start(project, "dvc", "repro")
    assert process.stdout is not None
    said = []
    for line in process.stdout:
        said.append(line)
        if (begun := BEGUN.match(line)) and begun[1] == stage:
            break
    time.sleep(after)
    (os.kill if alone else os.killpg)(process.pid, signal.SIGKILL)
    rest, _ = process.communicate(timeout=SECONDS_TO_END)
    return said + rest.splitlines()


def repair_lock(project: Path) -> None:
    """Do what the README says where a kill came while DVC wrote this file, not by renaming."""
    lock = project / ".dvc/tmp/rwlock"
    if lock.exists():
        try:
            json.loads(lock.read_text(encoding="utf-8"))
        except ValueError:
            lock.unlink()


def last_stage(said: Sequence[str]) -> str:
    return [begun[1] for line in said if (begun := BEGUN.match(line))][-1]


@pytest.mark.soak
def test_a_run_killed_twenty_times_ends_like_an_uninterrupted_one(
    server: TileServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = small_project(tmp_path / "whole", server)
    seconds = undisturbed(whole)
    for path in server.files:
        server.faults[path] = iter([slowly()])
    server.seen.clear()

    project = small_project(tmp_path / "project", server)
    draw = random.Random(20)
    kills: Counter[tuple[str, bool]] = Counter()
    said: list[str] = []
    for stage in STAGES:
        for alone in (True, False, True, False):
            done = (project / "dvc.lock").exists() and stage in yaml.safe_load(
                (project / "dvc.lock").read_text(encoding="utf-8")
            )["stages"]
            if done:
                break  # a kill came after its end
            # Not near the end: a stage can be quicker than when it was timed, and then is over.
            after = draw.uniform(0, 0.7 * seconds[stage])
            lines = killed(project, stage, after, alone)
            kills[last_stage(lines), alone] += 1
            said += lines
    repair_lock(project)
    said += run(project, "dvc", "repro").stdout.splitlines()
    with capsys.disabled():
        for stage in STAGES:
            print(f"{stage}: {kills[stage, True]} of DVC alone, {kills[stage, False]} of all")

    assert kills.total() >= 14
    assert results(project) == results(whole)
    in_download = kills["download", True] + kills["download", False]
    assert len(server.seen) <= len(server.files) + CONNECTIONS * in_download
    epochs = [int(found[1]) for line in said if (found := re.match(r"epoch (\d+)/", line))]
    assert set(epochs) == set(range(1, EPOCHS + 1))
    assert len(epochs) <= EPOCHS + kills["train", True] + kills["train", False]
    assert list(project.rglob("*.partial")) == []
    assert run(project, "dvc", "status").stdout.strip() == "Data and pipelines are up to date."
