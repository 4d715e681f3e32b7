"""The Massachusetts source against a web server that fails in the ways that web servers do."""

import errno
import hashlib
import io
import itertools
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
from PIL import Image

from roads.dataset.tiles import Tile, read_pair
from roads.params.download import DownloadParams
from roads.runtime.errors import UserError
from roads.runtime.state import MARK
from roads.sources import http
from roads.sources.massachusetts import fetch, read_names
from tests.project import ROOT
from tests.sources.tile_server import (
    Fault,
    TileServer,
    answers,
    chunked,
    endless,
    half,
    resets,
    sends,
    serving,
    slowly,
    stalls,
    strong_etag,
)  # fmt: skip

SAT, MAP = "/train/sat/a_15.tiff", "/train/map/a_15.tif"
DATE = "Mon, 23 Nov 2026 05:15:00 GMT"
FETCH_IN_ANOTHER_PROCESS = """
import json, signal, sys
from pathlib import Path
from roads.params.download import DownloadParams
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" has it ignored
from roads.runtime.errors import exit_status
from roads.sources import http
from roads.sources.massachusetts import fetch
http.BACKOFF = 0.01
options = json.loads(sys.argv[1])
folders = {key: Path(options.pop(key)) for key in ("raw", "names", "cache")}
sys.exit(exit_status(lambda: fetch(**folders, params=DownloadParams.model_construct(**options))))
"""


def tiff(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF")
    return stream.getvalue()


def tile(seed: int, size: int = 64) -> tuple[bytes, bytes]:
    """An image of noise, and a map, as files."""
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return tiff(noise), tiff((noise[..., 0] > 200).astype(np.uint8) * 255)


def add_tile(server: TileServer, split: str, name: str, size: int = 64) -> None:
    image, map_ = tile(len(server.files), size)
    server.files |= {f"/{split}/sat/{name}.tiff": image, f"/{split}/map/{name}.tif": map_}


@pytest.fixture(autouse=True)
def _no_proxy_and_short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(http, "BACKOFF", 0.01)


@pytest.fixture
def server() -> Iterator[TileServer]:
    with serving() as server:
        add_tile(server, "train", "a_15")
        yield server


class Run:
    """Fetches a server's tiles, with options that keep the tests short."""

    def __init__(self, folder: Path):
        self.folder, self.raw = folder, folder / "raw"

    def options(self, server: TileServer, **changed: Any) -> dict[str, Any]:
        names = self.folder / "names.csv"
        if not names.exists():
            rows = [path.split("/") for path in server.files if "/sat/" in path]
            lines = [f"{row[1]},{row[3].removesuffix('.tiff')}" for row in rows]
            names.write_text("\n".join(["split,name", *lines]))
        return {
            "raw": self.raw,
            "names": names,
            "base_url": server.url,
            "limit": None,
            "connections": 2,
            "retries": 2,
            "timeout": 0.5,
            "allow_missing": False,
            "cache": self.folder / "cache",
        } | changed

    def __call__(self, server: TileServer, **changed: Any) -> list[Tile]:
        options = self.options(server, **changed)
        folders = {key: options.pop(key) for key in ("raw", "names", "cache")}
        return fetch(**folders, params=DownloadParams.model_construct(**options))

    def refusal(self, server: TileServer, **changed: Any) -> str:
        with pytest.raises(UserError) as error:
            self(server, **changed)
        assert "\n" not in str(error.value)
        return str(error.value)

    def start(self, server: TileServer, **changed: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [
                sys.executable, "-c", FETCH_IN_ANOTHER_PROCESS,
                json.dumps(self.options(server, **changed), default=str),
            ],
            cwd=ROOT, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def cached(self) -> list[str]:
        files = (self.folder / "cache").rglob("*")
        return sorted(file.name for file in files if file.is_file() and file.name != "lock")

    def check(self, server: TileServer, tiles: list[Tile]) -> None:
        """Every tile's files are in raw, are what the server has, and are described right."""
        assert tiles
        for tile in tiles:
            for file in (tile.image, tile.map):
                content = (self.raw / file.path).read_bytes()
                assert content == server.files[f"/{file.path}"]
                assert file.sha256 == hashlib.sha256(content).hexdigest()
                assert file.bytes == len(content)
            read_pair(self.raw, tile)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run(tmp_path)


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_tiles_come_once_and_are_linked(
    server: TileServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split, name in (("train", "b_15"), ("train", "c_15"), ("valid", "d_15"), ("test", "e_15")):
        add_tile(server, split, name)
    tiles = run(server, limit=2)
    assert [(tile.split, tile.name) for tile in tiles] == [
        ("train", "a_15"), ("train", "b_15"), ("valid", "d_15"), ("test", "e_15"),
    ]  # fmt: skip
    run.check(server, tiles)
    assert len(server.seen) == 8
    assert (run.raw / tiles[0].image.path).stat().st_nlink == 2

    shutil.rmtree(run.raw)  # as DVC does before it runs a stage
    server.seen.clear()
    assert run(server, limit=2) == tiles
    monkeypatch.setattr(os, "link", Mock(side_effect=OSError(errno.EXDEV, "another disk")))
    run.check(server, run(server, limit=2))
    assert (run.raw / tiles[0].image.path).stat().st_nlink == 1
    assert server.seen == []
    assert len(run(server)) == 5
    assert sorted(seen.path for seen in server.seen) == [
        "/train/map/c_15.tif", "/train/sat/c_15.tiff",
    ]  # fmt: skip


def test_two_addresses_do_not_mix(server: TileServer, run: Run) -> None:
    with serving() as other:
        other.files = {path: tiff(np.zeros((64, 64), np.uint8)) for path in (SAT, MAP)}
        run.check(server, run(server))
        run.check(other, run(other))
        run.check(server, run(server))
    assert len(server.seen) == 2


CUT = sends(stop=5000)
OTHER, SMALL = tiff(np.full((64, 64, 3), 7, np.uint8)), tiff(np.full((64, 64), 7, np.uint8))
WHOLE, REST = (None, None), ("bytes=5000-", strong_etag(tile(0)[0])["ETag"])


@pytest.mark.parametrize(
    ("version", "faults", "asked"),
    [
        (None, [sends()], [WHOLE]),
        (None, [chunked], [WHOLE]),
        # The connection breaks.
        (None, [stalls], [WHOLE, WHOLE]),
        (None, [CUT], [WHOLE, REST]),
        (None, [sends(stalls, stop=5000)], [WHOLE, REST]),
        (None, [sends(resets, stop=5000)], [WHOLE, REST]),
        # By what the rest is asked for.
        ({"ETag": '"x"', "Last-Modified": DATE}, [CUT], [WHOLE, ("bytes=5000-", '"x"')]),
        ({"ETag": 'W/"x"', "Last-Modified": DATE}, [CUT], [WHOLE, ("bytes=5000-", DATE)]),
        ({"Last-Modified": DATE}, [CUT], [WHOLE, ("bytes=5000-", DATE)]),
        ({"ETag": 'W/"x"'}, [CUT], [WHOLE, WHOLE]),
        ({}, [CUT], [WHOLE, WHOLE]),
        # What comes is not the rest.
        (None, [CUT, sends(body=OTHER)], [WHOLE, REST]),
        (None, [CUT, sends(body=OTHER, if_range=False)], [WHOLE, REST, WHOLE]),
        (None, [CUT, sends(body=SMALL, if_range=False)], [WHOLE, REST, WHOLE]),  # answers 416
        (None, [CUT, sends(ranges=False)], [WHOLE, REST]),
    ],
)
def test_an_interrupted_file_is_completed(
    server: TileServer,
    run: Run,
    version: dict[str, str] | None,
    faults: list[Fault],
    asked: list[tuple[str | None, str | None]],
) -> None:
    """`asked`: the values of Range and If-Range in the requests."""
    if version is not None:
        server.version = lambda content: version
    server.faults[SAT] = iter(faults)
    run.check(server, run(server))
    assert [(seen.range, seen.if_range) for seen in server.asked(SAT)] == asked


def test_a_download_resumes_an_earlier_run(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([sends(stop=3000), sends(stop=3000)])
    assert re.search(r"a_15 \(image: .* after 6,000 bytes\)", run.refusal(server, retries=1))
    run.check(server, run(server))
    assert [seen.range for seen in server.asked(SAT)][2:] == ["bytes=6000-"]
    assert len(server.asked(MAP)) == 1


def test_a_server_that_often_disconnects_is_not_given_up(server: TileServer, run: Run) -> None:
    add_tile(server, "train", "a_15", 1500)
    server.faults[SAT] = iter([sends(stop=1_200_000)] * 5)
    run.check(server, run(server, retries=1))


def test_a_slow_server_is_waited_for(server: TileServer, run: Run) -> None:
    server.faults[MAP] = iter([slowly()])  # 0.5 s in all
    run.check(server, run(server, retries=0, timeout=0.3))


LOGIN_PAGE = answers(200, b"<p>Log in", Content_Type="text/html; charset=utf-8")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "tries", "reason"),
    [
        (sends(extra=9), 2, "it changed while it was being downloaded"),
        (sends(extra=-9), 1, "is broken and cannot be decoded"),
        (half, 1, "is broken and cannot be decoded"),
        (LOGIN_PAGE, 1, "the server sent an HTML page in its place"),
        (answers(404), 1, "the server answered 404 Not Found"),
        (endless(404), 1, "the server answered 404 Not Found"),
        (answers(500), 2, "the server answered 500 Internal Server Error"),
        (answers(302, Location="ftp://127.0.0.1/x"), 1, "invalid address or answer: No conn"),
        (answers(302, Location="file:///etc/passwd"), 1, "invalid address or answer: No conn"),
        (answers(302, Location="http://[x"), 1, "invalid address or answer: Invalid IPv6 URL"),
        (answers(302, Location=SAT), 31, "invalid address or answer: Exceeded 30 redirects"),
        (endless(302, Location=SAT), 31, "invalid address or answer: Exceeded 30 redirects"),
        (stalls, 2, "no data for 0.5 s"),
        (sends(body=b"no picture"), 1, "is not a picture"),
        (sends(body=b""), 1, "is not a picture"),
    ],
)
def test_unavailable_files_are_refused(
    server: TileServer, run: Run, fault: Fault, tries: int, reason: str
) -> None:
    server.faults[SAT] = itertools.repeat(fault)
    start = time.monotonic()
    refusal = run.refusal(server, retries=1)
    assert time.monotonic() - start < 5
    assert refusal.startswith(f"1 of 1 tiles cannot be downloaded from {server.url}: a_15 (image: ")
    assert reason in refusal
    assert len(server.asked(SAT)) == tries
    assert not run.raw.exists()
    assert "a_15.tiff" not in run.cached()
    assert "a_15.tif" in run.cached()  # the map came, and is kept for the next run


@pytest.mark.parametrize("headers", [{}, {"Content-Length": "99999999999"}])
def test_endless_bodies_are_cut_off(
    server: TileServer, run: Run, monkeypatch: pytest.MonkeyPatch, headers: dict[str, str]
) -> None:
    monkeypatch.setattr(http, "MAX_BYTES", 100_000)
    server.faults[SAT] = iter([endless(200, **headers)])
    assert "it is longer than 100,000 bytes" in run.refusal(server)
    assert run.cached() == ["a_15.tif", "a_15.tif.json"]


def test_temporary_server_errors_are_retried(
    server: TileServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "MAX_WAIT", 0.2)
    server.faults[SAT] = iter([answers(500), answers(429, Retry_After="x")])
    server.faults[MAP] = iter([answers(503, Retry_After="100")])
    start = time.monotonic()
    run.check(server, run(server))
    assert 0.2 <= time.monotonic() - start < 100
    assert len(server.asked(MAP)) == 2


def test_pieces_that_do_not_fit_are_thrown_away(server: TileServer, run: Run) -> None:
    """A server may change its bytes and keep its ETag."""
    server.faults[SAT] = iter([sends(stop=5000)])
    run.refusal(server, retries=0)
    (part,) = run.folder.rglob("a_15.tiff.part")
    part.write_bytes(bytes(5000))
    assert "is not a picture" in run.refusal(server)
    run.check(server, run(server))
    assert [seen.range for seen in server.asked(SAT)] == [None, "bytes=5000-", None]


def test_redirects_to_another_host_are_followed(server: TileServer, run: Run) -> None:
    with serving() as other:
        other.files = dict(server.files)
        server.faults[SAT] = itertools.repeat(answers(302, Location=other.url + SAT))
        run.check(server, run(server))
        assert len(other.asked(SAT)) == 1


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_https_is_verified_and_does_not_become_http(
    server: TileServer, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = tmp_path / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    command += f" -keyout {certificate} -out -"
    made = subprocess.run(command.split(), capture_output=True, check=True)
    with certificate.open("ab") as stream:
        stream.write(made.stdout)
    with serving(certificate) as secure:
        secure.files = dict(server.files)
        assert "certificate verify failed" in run.refusal(secure, retries=0)
        assert secure.seen == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        secure.faults[SAT] = iter([answers(302, Location=server.url + SAT)])
        assert f"redirects it from HTTPS to '{server.url}" in run.refusal(secure)
        assert server.seen == []
        run.check(secure, run(secure))
        server.faults[SAT] = iter([answers(302, Location=secure.url + SAT)])
        run.check(server, run(server))


def test_missing_tiles_are_named(
    server: TileServer, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        add_tile(server, "valid", f"v{number:02}")
        del server.files[f"/valid/map/v{number:02}.tif"]
    told = (
        f"25 of 26 tiles cannot be downloaded from {server.url}: "
        f"{', '.join(f'v{number:02}' for number in range(20))} "
        "(map: the server answered 404 Not Found); and 5 more"
    )
    refusal = run.refusal(server)
    assert refusal.startswith(told)
    assert "download.allow_missing" in refusal
    tiles = run(server, allow_missing=True)
    assert [tile.name for tile in tiles] == ["a_15"]
    run.check(server, tiles)
    assert capsys.readouterr().err == f"warning: {told}\n"
    assert sorted(file.name for file in run.raw.rglob("*.*")) == ["a_15.tif", "a_15.tiff"]

    del server.files[MAP]  # with nothing at all it cannot go on
    refusal = run.refusal(server, allow_missing=True, cache=run.folder / "another")
    assert "26 of 26" in refusal
    assert "allow_missing" not in refusal


def test_image_and_map_of_different_sizes(server: TileServer, run: Run) -> None:
    small = tiff(np.zeros((32, 40), np.uint8))
    right, server.files[MAP] = server.files[MAP], small
    assert "a_15 (image 64×64, map 40×32 pixels)" in run.refusal(server)
    server.files[MAP] = right  # mended there, and so here
    run.check(server, run(server))


@pytest.mark.slow
def test_a_server_that_cannot_be_reached_is_given_up_soon(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, "BACKOFF", 0.1)  # 60 s for all
    with serving() as gone:
        for number in range(300):
            add_tile(gone, "train", f"t{number:03}", 2)
        run(gone, limit=1)
    start = time.monotonic()
    refusal = run.refusal(gone)
    assert time.monotonic() - start < 5
    assert f"299 of 300 tiles cannot be downloaded from {gone.url}: t001" in refusal
    assert refusal.count("Connection refused") == 1
    assert "and 279 more" in refusal
    assert [tile.name for tile in run(gone, allow_missing=True)] == ["t000"]


def test_a_damaged_cache_is_repaired(server: TileServer, run: Run) -> None:
    run(server)
    (image,) = run.folder.glob("cache/*/train/sat/a_15.tiff")
    (record,) = run.folder.glob("cache/*/train/map/a_15.tif.json")
    image.write_bytes(b"short")
    record.write_text("{")
    run.check(server, run(server))
    assert len(server.seen) == 4


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_ended_by_a_signal_and_started_again(
    server: TileServer, run: Run, sent: signal.Signals
) -> None:
    add_tile(server, "train", "b_15", 256)
    cut_file = "/train/sat/b_15.tiff"
    server.faults[cut_file] = iter([slowly(150_000)])
    server.faults[MAP] = itertools.repeat(answers(503, Retry_After="100"))  # not waited for
    process = run.start(server, timeout=60)
    wait_for(lambda: any(p.stat().st_size > 100_000 for p in run.folder.rglob("b_15.tiff.part")))
    process.send_signal(sent)
    process.communicate(timeout=30)
    assert process.returncode != 0
    assert not run.raw.exists()
    (part,) = run.folder.rglob("*.part")
    size = part.stat().st_size
    assert part.read_bytes() == server.files[cut_file][:size]
    server.faults.clear()
    run.check(server, run(server))
    assert server.asked(cut_file)[1].range == f"bytes={size}-"
    assert len(server.asked(SAT)) == 1
    assert all(".part" not in name for name in run.cached())


@pytest.mark.slow
def test_two_runs_at_once_fetch_each_file_once(
    server: TileServer, run: Run, tmp_path: Path
) -> None:
    add_tile(server, "train", "b_15")
    second, met = Run(tmp_path), threading.Event()
    second.raw = tmp_path / "raw2"

    def send_when_both_are_here(handler: Any) -> None:
        met.wait()
        handler.send_file()

    server.faults[MAP] = iter([send_when_both_are_here])
    processes = [run.start(server, timeout=60)]
    wait_for(lambda: bool(server.asked(MAP)))
    processes.append(second.start(server))
    assert processes[1].stderr is not None
    assert "waiting for another process" in processes[1].stderr.readline()
    met.set()
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert set(Counter(seen.path for seen in server.seen).values()) == {1}
    tiles = run(server)
    run.check(server, tiles)
    second.check(server, tiles)


def test_a_file_that_does_not_fit_on_the_disk(server: TileServer, run: Run) -> None:
    """A limit on the size of files stands for a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        refusal = run.refusal(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert re.search(r"cache/\S+: File too large. Downloads are kept", refusal)
    run.check(server, run(server))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "must begin with the line split,name"),
        ("split,name\n", "it has no rows"),
        ("split,name\ntrain,../../etc/passwd\n", "line 2: 'train,../../etc/passwd' should be"),
        ("split,name\ntrain,a b\n", "line 2"),
        ('split,name\ntrain,"a\n"\n', "should be one of"),
        ("split,name\ntrain,a\n../x,b\n", "line 3"),
        ("split,name\ntrain,a,b\n", "line 2"),
        ("split,name\ntrain,a\ntest,a\n", "line 3: duplicate name a"),
        ("split,name\ntrain,\udcff\n", "can't decode"),
    ],
)
def test_a_wrong_list_is_refused(
    server: TileServer, run: Run, tmp_path: Path, text: str, complaint: str
) -> None:
    names = tmp_path / "names.csv"
    names.write_bytes(os.fsencode(text))
    refusal = run.refusal(server)
    assert refusal.startswith(str(names))
    assert complaint in refusal
    assert server.seen == []
    assert "is missing" in run.refusal(server, names=tmp_path / "none.csv")


@pytest.mark.parametrize(
    "base_url",
    ["", "host/folder", "ftp://host/x", "file:///etc", "http://", "http://[x", "http://h:p/",
     "https://user:secret@host/", "https://host/?x=1"],
)  # fmt: skip
def test_a_wrong_address_is_refused(server: TileServer, run: Run, base_url: str) -> None:
    assert run.refusal(server, base_url=base_url).startswith("download.base_url is ")


def test_the_official_list() -> None:
    pairs = read_names(ROOT / "data" / "massachusetts_roads.csv")
    assert Counter(split for split, _ in pairs) == {"train": 1108, "valid": 14, "test": 49}
    assert pairs[0] == ("train", "10078660_15")
    first = read_names(ROOT / "data" / "massachusetts_roads.csv", limit=2)
    assert Counter(split for split, _ in first) == {"train": 2, "valid": 2, "test": 2}


def test_unfinished_downloads_are_removed_after_a_month(server: TileServer, run: Run) -> None:
    month = time.time() - 31 * 86_400
    folder = run.folder / "cache" / "another address" / "train"
    folder.mkdir(parents=True)
    for name in ("old.tiff.part", "old.tiff.part.json", "new.tiff.part", "whole.tiff"):
        (folder / name).write_bytes(b"{}")
        if not name.startswith("new"):
            os.utime(folder / name, (month, month))
    (run.folder / MARK).touch()
    run(server)
    assert {path.name for path in folder.iterdir()} == {"new.tiff.part", "whole.tiff"}
