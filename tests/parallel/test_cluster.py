"""Data stages and predict on a Dask cluster of two worker processes on this machine."""

import contextlib
import functools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

import stages.crop
from roads.__main__ import main
from roads.dataset.crops import Crop
from roads.dataset.tiles import Tile
from roads.mapping.predicting import Model, map_roads
from roads.parallel import cluster
from roads.parallel.cluster import on_cluster, worker_facts
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import UserError
from stages.binarize import binarize
from tests.packed import save_tiny_net
from tests.pictures import BRIGHTNESS, brightness, crossing, options, write_tiff
from tests.project import ROOT, params, write_params
from tests.stages.test_crop import crop_params, cut_up
from tests.tiles import save_tiles

START_SECONDS = 120
FAILURES = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "1"}  # workers that a task may cost


class Processes:
    """A scheduler and two workers that start again when they are killed, on the loopback."""

    def __init__(self, folder: Path):
        self.scheduler = self._dask("scheduler", "--port=0", f"--scheduler-file={folder / 'where'}")
        wait_until((folder / "where").exists)
        self.address = read_address(folder / "where")
        self.workers = self._dask(
            "worker", self.address, "--nworkers=2", "--nthreads=1", f"--local-directory={folder}"
        )

    def _dask(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *arguments, "--host=127.0.0.1", "--no-dashboard"],
            cwd=ROOT,
            env=os.environ | FAILURES,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def stop(self) -> None:
        for process in (self.workers, self.scheduler):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def read_address(file: Path) -> str:
    return str(json.loads(file.read_text(encoding="utf-8"))["address"])


def wait_until(condition: Any) -> None:
    end = time.monotonic() + START_SECONDS
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    running = Processes(tmp_path_factory.mktemp("dask"))
    yield running
    running.stop()


@pytest.fixture
def address(processes: Processes) -> str:
    """The scheduler's, once both workers are there."""
    with Client(processes.address, set_as_default=False) as client:
        client.wait_for_workers(2, timeout=START_SECONDS)
    return processes.address


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def use_cluster(folder: Path, address: str | None) -> None:
    write_params(folder, params() | {"parallel": {"scheduler": address}})


def files_of(folder: Path) -> dict[Path, bytes]:
    """Each file's bytes, but for GeoPackages: GDAL writes the time, and an index by free memory."""
    return {
        path: re.sub(rb'(\.gpkg": )\d+', rb"\1", path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.suffix != ".gpkg"
    }


def cut_or_die(marker: Path, raw: Path, folder: Path, params: CropParams, tile: Tile) -> list[Crop]:
    """Cut a tile; the first process that comes to the sixth tile is killed at it."""
    if tile.name == "train5" and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return cut_tile(raw, folder, params, tile)


cut_tile = stages.crop._cut_tile


@pytest.mark.slow
def test_a_cluster_that_loses_a_worker_gives_the_bytes_of_one_process(
    here: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADS_WORKERS", "1")
    save_tiles(here / "raw", train=20)
    cut_up(Path("raw"), crop_params())
    binarize(Path("crops"), Path("masks"), BinarizeParams(threshold=100))
    expected = files_of(here / "crops") | files_of(here / "masks")

    use_cluster(here, address)
    killed = functools.partial(cut_or_die, here / "killed")
    monkeypatch.setattr(stages.crop, "_cut_tile", killed)
    cut_up(Path("raw"), crop_params())
    binarize(Path("crops"), Path("masks"), BinarizeParams(threshold=100))
    assert (here / "killed").exists()
    assert files_of(here / "crops") | files_of(here / "masks") == expected


@pytest.mark.slow
def test_a_stage_run_as_dvc_runs_it_computes_on_the_cluster(here: Path, address: str) -> None:
    save_tiles(here / "raw", train=4)
    cut_up(Path("raw"), crop_params())
    use_cluster(here, address)
    stage = "stages.binarize", "--crops", "crops", "--out", "masks"
    answer = subprocess.run(
        [sys.executable, "-m", *stage],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stderr.splitlines()) == 1  # what the stage itself says
    assert len(list((here / "masks").glob("*.tif"))) == 6


def predict_or_die(marker: Path, windows: Image8) -> Float32:
    """Predict by brightness; from the third time on that one is asked, one process is killed."""
    with marker.open("a") as stream:
        stream.write(".")
    if marker.stat().st_size >= 3:
        with contextlib.suppress(FileExistsError):
            marker.with_name("killed").touch(exist_ok=False)
            os.kill(os.getpid(), signal.SIGKILL)
    return brightness(windows)


@pytest.mark.soak
def test_pictures_are_mapped_on_a_cluster_that_loses_a_worker(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [write_tiff(tmp_path / f"{n}.tif", crossing(60 + n, 90, 20, 40)) for n in range(8)]
    (tmp_path / "7.tif").write_bytes(b"II*\0 and no more")
    mapped = functools.partial(map_roads, options=options(gsd=1.0), force=False)
    message = "1 of 8 pictures could not be mapped"
    with pytest.raises(UserError, match=message):
        mapped(pictures, tmp_path / "alone", BRIGHTNESS)
    alone = capsys.readouterr()

    model = Model(functools.partial(predict_or_die, tmp_path / "asked"), 2, "brightness", "0" * 64)
    spread = functools.partial(on_cluster, address=address)
    with pytest.raises(UserError, match=message):
        mapped(pictures, tmp_path / "out", model, spread=spread)
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "asked").stat().st_size > 7  # pictures that can be read
    assert capsys.readouterr().err == alone.err
    alone_files, files = (files_of(tmp_path / name) for name in ("alone", "out"))
    assert len(files) == 7 * 5
    assert list(files.values()) == list(alone_files.values())


@pytest.mark.slow
def test_the_command_line_maps_on_the_cluster_and_skips_what_is_done(
    here: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = save_tiny_net(here)
    (here / "in").mkdir()
    for number in range(3):
        write_tiff(here / f"in/{number}.tif", crossing(64, 64, 20, 40))
    words = ["predict", "in", "--model", str(weights), "--window=64", "--overlap=16", "--gsd=1"]
    use_cluster(here, None)
    assert main([*words, "--out=alone"]) == 0
    use_cluster(here, address)
    assert main([*words, "--out=out"]) == 0
    assert list(files_of(here / "out").values()) == list(files_of(here / "alone").values())
    assert f"{here / 'in/2.tif'}: " in capsys.readouterr().out  # a worker needs the whole path
    assert main([*words, "--out=out"]) == 0
    assert capsys.readouterr().out.count("already mapped") == 3


def refuse(item: int) -> None:
    raise UserError("raw/7.tiff is broken")


@pytest.mark.slow
def test_an_error_in_a_worker_is_raised_here(address: str) -> None:
    with pytest.raises(UserError, match=r"^raw/7\.tiff is broken$"):
        list(on_cluster(refuse, range(4), address))


def test_workers_with_other_code_are_refused(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_code", lambda: "edited since")
    with pytest.raises(UserError, match=r"another code of roads/ and stages/.*edited since.*cd "):
        list(on_cluster(refuse, range(4), address))


@pytest.mark.slow
def test_worker_facts_say_whether_a_folder_exists(tmp_path: Path) -> None:
    facts = worker_facts(str(tmp_path)), worker_facts(str(tmp_path / "elsewhere"))
    assert [next(iter(each.values())) for each in facts] == ["there", "missing"]


def die(item: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_an_item_that_kills_its_workers_is_an_error(address: str) -> None:
    with pytest.raises(UserError, match=r"died one after the other.*more memory"):
        list(on_cluster(die, range(4), address))


@pytest.mark.slow
def test_no_scheduler_is_one_line_within_a_bounded_time(
    here: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "CONNECT_SECONDS", 1.0)
    use_cluster(here, "tcp://127.0.0.1:9")
    save_tiles(here / "raw")
    before = time.monotonic()
    with pytest.raises(UserError, match=r"no Dask scheduler answers at parallel\.scheduler tcp"):
        cut_up(Path("raw"), crop_params())
    assert time.monotonic() - before < 10
    assert capfd.readouterr().err == ""


def wait_a_little(item: int) -> None:
    time.sleep(0.2)


@pytest.mark.slow
def test_a_lost_scheduler_is_an_error(processes: Processes, address: str) -> None:
    """The last test: there is no cluster after it."""
    results = on_cluster(wait_a_little, range(1000), address)
    next(results)
    os.killpg(processes.scheduler.pid, signal.SIGKILL)
    with pytest.raises(UserError, match=r"scheduler at tcp://127\.0\.0\.1:\d+ was lost"):
        list(results)
