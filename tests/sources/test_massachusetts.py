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
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from roads.dataset.tiles import Tile, read_pair
from roads.runtime.errors import UserError
from roads.sources.http import Downloader, RefusedError
from roads.sources.massachusetts import fetch, read_names
from tests.project import ROOT
from tests.sources import tile_server
from tests.sources.tile_server import TileServer, serving

SAT, MAP = "/train/sat/a_15.tiff", "/train/map/a_15.tif"
DATE = "Mon, 23 Nov 2026 05:15:00 GMT"
FETCH_IN_ANOTHER_PROCESS = """
import json, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's "&" has it ignored
from roads.runtime.errors import exit_status
from roads.sources.massachusetts import fetch
options = json.loads(sys.argv[1])
folders = {key: Path(options.pop(key)) for key in ("raw", "names", "cache")}
sys.exit(exit_status(lambda: fetch(**folders, **options)))
"""


def tiff(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "TIFF")
    return stream.getvalue()


def add_tile(server: TileServer, split: str, name: str, size: int = 64) -> None:
    noise = np.random.default_rng(len(server.files)).integers(0, 256, (size, size, 3), np.uint8)
    server.files[f"/{split}/sat/{name}.tiff"] = tiff(noise)
    server.files[f"/{split}/map/{name}.tif"] = tiff((noise[..., 0] > 200).astype(np.uint8) * 255)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "*")


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
            "backoff": 0.01,
        } | changed

    def __call__(self, server: TileServer, **changed: Any) -> list[Tile]:
        return fetch(**self.options(server, **changed))

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


def test_tiles_come_once_and_are_linked(server: TileServer, run: Run) -> None:
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


@pytest.mark.parametrize(
    "fault", [tile_server.cut(5000), tile_server.reset(5000), tile_server.stall(5000)]
)
def test_goes_on_where_it_was_cut(server: TileServer, run: Run, fault: tile_server.Fault) -> None:
    server.faults[SAT] = iter([fault])
    run.check(server, run(server))
    etag = f'"{hashlib.md5(server.files[SAT]).hexdigest()}"'
    assert [seen.range for seen in server.asked(SAT)] == [None, "bytes=5000-"]
    assert server.asked(SAT)[1].if_range == etag


def test_goes_on_from_an_earlier_run(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([tile_server.cut(3000), tile_server.cut(3000)])
    assert "a_15 (image: it ended after 6,000 of 12," in run.refusal(server, retries=1)
    run.check(server, run(server))
    assert [seen.range for seen in server.asked(SAT)][2:] == ["bytes=6000-"]
    assert len(server.asked(MAP)) == 1


def test_a_server_that_cuts_often_is_not_given_up(server: TileServer, run: Run) -> None:
    add_tile(server, "train", "a_15", 1500)
    server.faults[SAT] = iter([tile_server.cut(1_200_000)] * 5)
    run.check(server, run(server, retries=1))


@pytest.mark.parametrize(
    "fault",
    [
        tile_server.stall(),
        tile_server.drip,
        tile_server.drip_headers,
        tile_server.continue_endlessly,
        tile_server.drip_chunk,
    ],
)
def test_a_stall_is_ended(server: TileServer, run: Run, fault: tile_server.Fault) -> None:
    server.faults[SAT] = iter([fault])
    start = time.monotonic()
    run.check(server, run(server))
    assert time.monotonic() - start < 3


def test_a_file_in_chunks_is_taken(server: TileServer, run: Run) -> None:
    server.faults[SAT] = itertools.repeat(tile_server.chunked)
    run.check(server, run(server, retries=0))
    assert len(server.asked(SAT)) == 1


def test_a_slow_server_is_waited_for(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([tile_server.slowly])
    run.check(server, run(server, retries=0))


@pytest.mark.parametrize(
    ("version", "asked"),
    [
        ({"ETag": '"x"', "Last-Modified": DATE}, ("bytes=5000-", '"x"')),
        ({"ETag": 'W/"x"', "Last-Modified": DATE}, ("bytes=5000-", DATE)),
        ({"Last-Modified": DATE}, ("bytes=5000-", DATE)),
        ({"ETag": 'W/"x"'}, (None, None)),
        ({}, (None, None)),
    ],
)
def test_goes_on_only_where_the_version_can_be_told(
    server: TileServer, run: Run, version: dict[str, str], asked: tuple[str | None, str | None]
) -> None:
    server.version = lambda content: version
    server.faults[SAT] = iter([tile_server.cut(5000)])
    run.check(server, run(server))
    again = server.asked(SAT)[1]
    assert (again.range, again.if_range) == asked


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (tile_server.misstate(+9), "it ended after"),
        (tile_server.misstate(-9), "is broken and cannot be decoded"),
        (tile_server.without_length, "is broken and cannot be decoded"),
        (tile_server.html, "the server sent an HTML page in its place"),
        (tile_server.status(404), "the server answered 404 Not Found"),
        (tile_server.status(500), "the server answered 500 Internal Server Error"),
        (tile_server.status(302, Location="ftp://127.0.0.1/x"), "redirects it to 'ftp://"),
        (tile_server.status(302, Location="file:///etc/passwd"), "redirects it to 'file://"),
        (tile_server.status(302, Location="http://[x"), "wrong address"),
        (tile_server.status(302, Location=SAT), "redirects it more than 5 times"),
        (tile_server.stall(), "no answer in 0.5 s"),
        (tile_server.replaced(b"no picture"), "is not a picture"),
        (tile_server.replaced(b""), "is not a picture"),
        (tile_server.endless(302, Location=SAT), "redirects it more than 5 times"),
        (tile_server.endless(404), "404"),
    ],
)
def test_what_cannot_be_had_is_refused(
    server: TileServer, run: Run, fault: tile_server.Fault, reason: str
) -> None:
    server.faults[SAT] = itertools.repeat(fault)
    refusal = run.refusal(server)
    assert refusal.startswith(f"1 of 1 tiles cannot be had from {server.url}: a_15 (image: ")
    assert reason in refusal
    assert not run.raw.exists()
    assert "a_15.tiff" not in run.cached()
    assert "a_15.tif" in run.cached()  # the map came, and is kept for the next run


def test_endless_bodies_are_cut_off(server: TileServer, tmp_path: Path) -> None:
    server.faults["/x"] = itertools.repeat(tile_server.endless(200))
    server.faults["/y"] = itertools.repeat(
        tile_server.endless(200, **{"Content-Length": "99999999999"})
    )
    server.files["/z"] = bytes(100_001)
    downloader = Downloader(
        server.url, connections=1, retries=0, timeout=1, backoff=0, max_bytes=100_000
    )
    for path in "xyz":
        with pytest.raises(RefusedError, match="it is longer than 100,000 bytes"):
            downloader.fetch(path, tmp_path / path, lambda part: part)
    assert list(tmp_path.iterdir()) == []
    downloader.stop()


def test_server_errors_pass(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([tile_server.status(500), tile_server.status(429, Retry_After="x")])
    server.faults[MAP] = iter([tile_server.status(503, Retry_After="1")])
    start = time.monotonic()
    run.check(server, run(server))
    assert time.monotonic() - start >= 1
    assert len(server.asked(MAP)) == 2


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_is_begun_anew(server: TileServer, run: Run, if_range: bool) -> None:
    other = tiff(np.full((64, 64, 3), 7, np.uint8))
    assert len(other) == len(server.files[SAT])
    server.faults[SAT] = iter(
        [tile_server.cut(5000), tile_server.replaced(other, if_range=if_range)]
    )
    run.check(server, run(server))
    assert server.asked(SAT)[1].range == "bytes=5000-"


def test_a_file_that_shrinks_is_begun_anew(server: TileServer, run: Run) -> None:
    small = tiff(np.full((64, 64), 7, np.uint8))
    server.faults[SAT] = iter(
        [tile_server.cut(9000), tile_server.replaced(small, if_range=False)]  # answers 416
    )
    run.check(server, run(server))


def test_a_server_without_ranges_sends_the_whole(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([tile_server.cut(5000), tile_server.without_ranges])
    run.check(server, run(server))


def test_pieces_that_do_not_fit_are_fetched_whole(server: TileServer, run: Run) -> None:
    """A server may change its bytes and keep its ETag."""
    server.faults[SAT] = iter([tile_server.cut(5000)])
    run.refusal(server, retries=0)
    (part,) = run.folder.rglob("a_15.tiff.part")
    part.write_bytes(bytes(5000))
    run.check(server, run(server))
    assert [seen.range for seen in server.asked(SAT)] == [None, "bytes=5000-", None]


def test_redirects_to_another_host_are_followed(server: TileServer, run: Run) -> None:
    with serving() as other:
        other.files = dict(server.files)
        server.faults[SAT] = itertools.repeat(tile_server.status(302, Location=other.url + SAT))
        run.check(server, run(server))
        assert len(other.asked(SAT)) == 1


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not here")
    path = tmp_path_factory.mktemp("tls") / "certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    command += f" -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -keyout {path} -out -"
    made = subprocess.run(command.split(), capture_output=True, check=True)
    with path.open("ab") as stream:
        stream.write(made.stdout)
    return path


def test_certificates_are_verified(
    server: TileServer, run: Run, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(certificate) as secure:
        secure.files = dict(server.files)
        assert "certificate verify failed" in run.refusal(secure, retries=0)
        assert secure.seen == []
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
        run.check(secure, run(secure))


def test_https_does_not_become_http(
    server: TileServer, run: Run, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    with serving(certificate) as secure:
        secure.files = dict(server.files)
        secure.faults[SAT] = iter([tile_server.status(302, Location=server.url + SAT)])
        assert "the server redirects it to 'http://" in run.refusal(secure)
        assert server.seen == []
        server.faults[SAT] = iter([tile_server.status(302, Location=secure.url + SAT)])
        run.check(server, run(server))


def test_missing_tiles_are_told_by_name(
    server: TileServer, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(25):
        add_tile(server, "valid", f"v{number:02}")
        del server.files[f"/valid/map/v{number:02}.tif"]
    told = (
        f"25 of 26 tiles cannot be had from {server.url}: "
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


def test_nothing_at_all_is_an_error_even_if_some_may_be_missing(
    server: TileServer, run: Run
) -> None:
    del server.files[MAP]
    assert "allow_missing" not in run.refusal(server, allow_missing=True)


def test_image_and_map_of_different_sizes(server: TileServer, run: Run) -> None:
    small = tiff(np.zeros((32, 40), np.uint8))
    right, server.files[MAP] = server.files[MAP], small
    assert "a_15 (image 64×64, map 40×32 pixels)" in run.refusal(server)
    server.files[MAP] = right  # mended there, and so here
    run.check(server, run(server))


def test_a_server_that_cannot_be_reached_is_given_up_soon(run: Run) -> None:
    with serving() as gone:
        for number in range(300):
            add_tile(gone, "train", f"t{number:03}", 2)
        run(gone, limit=1)
    start = time.monotonic()
    refusal = run.refusal(gone, backoff=0.2)
    assert time.monotonic() - start < 5
    assert f"299 of 300 tiles cannot be had from {gone.url}: t001" in refusal
    assert refusal.count("Connection refused") == 1
    assert "and 279 more" in refusal
    assert [tile.name for tile in run(gone, allow_missing=True)] == ["t000"]


def test_a_damaged_cache_mends_itself(server: TileServer, run: Run) -> None:
    run(server)
    (image,) = run.folder.glob("cache/*/train/sat/a_15.tiff")
    (record,) = run.folder.glob("cache/*/train/map/a_15.tif.json")
    image.write_bytes(b"short")
    record.write_text("{")
    run.check(server, run(server))
    assert len(server.seen) == 4


def test_copied_where_links_cannot_reach(
    server: TileServer, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def link(*paths: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", link)
    tiles = run(server)
    run.check(server, tiles)
    assert (run.raw / tiles[0].image.path).stat().st_nlink == 1


def test_killed_and_started_again(server: TileServer, run: Run) -> None:
    add_tile(server, "train", "b_15", 256)
    cut_file = "/train/sat/b_15.tiff"
    server.faults[cut_file] = iter([tile_server.stall(150_000)])
    process = run.start(server, connections=1, timeout=60)
    wait_for(lambda: any(p.stat().st_size > 100_000 for p in run.folder.rglob("b_15.tiff.part")))
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not run.raw.exists()
    (part,) = run.folder.rglob("*.part")
    size = part.stat().st_size
    assert part.read_bytes() == server.files[cut_file][:size]
    before = [seen.path for seen in server.seen]
    assert before == [SAT, MAP, cut_file]

    run.check(server, run(server, connections=1))
    after = server.seen[3:]
    assert [(seen.path, seen.range) for seen in after] == [
        (cut_file, f"bytes={size}-"), ("/train/map/b_15.tif", None),
    ]  # fmt: skip
    assert all(".part" not in name for name in run.cached())


def test_interrupted_at_the_keyboard(server: TileServer, run: Run) -> None:
    server.faults[SAT] = iter([tile_server.drip])
    server.faults[MAP] = itertools.repeat(tile_server.status(503, Retry_After="100"))
    process = run.start(server, timeout=60)
    wait_for(lambda: len(server.seen) == 2)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)  # the server asks for 100
    assert process.returncode != 0
    assert set(run.cached()) <= {"a_15.tiff.part", "a_15.tiff.part.json"}
    server.faults.clear()
    run.check(server, run(server))


def test_two_runs_at_once_fetch_each_file_once(
    server: TileServer, run: Run, tmp_path: Path
) -> None:
    for number in range(8):
        add_tile(server, "train", f"t{number}")
    server.faults[MAP] = iter([tile_server.status(503, Retry_After="2")])  # so that both meet
    second = Run(tmp_path)
    second.raw = tmp_path / "raw2"
    processes = [run.start(server), second.start(server)]
    errors = [process.communicate(timeout=30)[1] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    assert "waiting for another process" in "".join(errors)
    assert set(Counter(seen.path for seen in server.seen if seen.path != MAP).values()) == {1}
    tiles = run(server)
    run.check(server, tiles)
    second.check(server, tiles)


def test_a_file_that_the_disk_does_not_take(server: TileServer, run: Run) -> None:
    """A limit on the size of files stands for a disk that is full."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))
    try:
        refusal = run.refusal(server)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert re.search(r"cache/\S+: File too large. What came is kept", refusal)
    run.check(server, run(server))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "should be a CSV file with the columns split,name"),
        ("split,name\n", "and some rows"),
        ("name,split\na,train\n", "should be a CSV file with the columns split,name"),
        ("split,name\ntrain,../../etc/passwd\n", "line 2: 'train,../../etc/passwd' should be"),
        ("split,name\ntrain,/etc/passwd\n", "line 2"),
        ("split,name\ntrain,..\n", "line 2"),
        ("split,name\ntrain,a b\n", "line 2"),
        ('split,name\ntrain,"a\n"\n', "line 2"),
        ("split,name\ntrain,a\n../x,b\n", "line 3"),
        ("split,name\ntrain,a,b\n", "line 2"),
        ("split,name\ntrain\n", "line 2"),
        ("split,name\ntrain,a\ntest,a\n", "line 3: a is there twice"),
        ("split,name\ntrain,\udcff\n", "should be a CSV file"),
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
    names.unlink()
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


def test_half_files_that_nobody_came_back_for_go_after_a_month(
    server: TileServer, run: Run
) -> None:
    month = time.time() - 31 * 86_400
    folder = run.folder / "cache" / "another address" / "train"
    folder.mkdir(parents=True)
    for name in ("old.tiff.part", "old.tiff.part.json", "new.tiff.part", "whole.tiff"):
        (folder / name).write_bytes(b"{}")
        if not name.startswith("new"):
            os.utime(folder / name, (month, month))
    run(server)
    assert {path.name for path in folder.iterdir()} == {"new.tiff.part", "whole.tiff"}
