"""`roads verify` on a small DVC repository whose files are damaged in turn."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roads.runtime.state import MARK
from roads.sources.cache import RECORD_SUFFIX
from tests.project import ROOT, run

PIPELINE = """
stages:
  make:
    cmd: mkdir made && echo one > made/one && echo two > made/two && echo 3 > number.json
    outs: [made]
    metrics: [{number.json: {cache: false}}]
  copy:
    cmd: cp made/one copy
    deps: [made]
    outs: [copy]
"""
USER = ("-c", "user.name=Tester", "-c", "user.email=tester@example.org")
ONE, TWO = "5bbf5a52328e7439ae6e719dfe712200", "c193497a1a06b2c72230e6146ff47080"  # md5sum


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    run(folder, "git", "init", "--quiet")
    run(folder, "dvc", "init", "--quiet")
    (folder / ".dvc/config").write_text((ROOT / ".dvc/config").read_text(encoding="utf-8"))
    (folder / "dvc.yaml").write_text(PIPELINE)
    run(folder, "dvc", "repro", "--quiet")
    return folder


@pytest.fixture
def repository(made: Path, tmp_path: Path) -> Path:
    run(tmp_path, "cp", "--archive", f"{made}/.", ".")  # hard links stay
    return tmp_path


def verify(repository: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "roads", "verify", *options],
        cwd=repository, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip


def cached(repository: Path, md5: str) -> Path:
    return repository / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def flip_a_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.write(content)
    path.chmod(0o444)


@pytest.mark.slow
def test_a_flipped_byte_is_named_and_quarantined(repository: Path) -> None:
    sound = verify(repository)
    assert (sound.returncode, sound.stderr) == (0, "")
    flip_a_byte(cached(repository, ONE))
    download = repository / ".dvc/roads/downloads/host/one.tiff"
    download.parent.mkdir(parents=True)
    download.hardlink_to(cached(repository, ONE))
    record = download.with_name(download.name + RECORD_SUFFIX)
    record.write_text(json.dumps({"sha256": "0" * 64}))
    (repository / ".dvc/roads" / MARK).touch()

    said = verify(repository)
    assert said.returncode == 1
    lines = said.stdout.splitlines()
    assert sum(line.startswith("damaged in the cache: ") for line in lines) == 1
    assert {line for line in lines if not line.startswith("damaged in the cache")} == {
        "differs from dvc.lock: copy (stage copy)",
        "differs from dvc.lock: made/one (stage make)",
        f"damaged download: {download}",
    }
    (line,) = said.stderr.splitlines()
    assert "make verify QUARANTINE=1" in line
    assert "dvc repro" in line
    assert verify(repository, "--quarantine").returncode == 0
    assert not download.exists()
    assert not (repository / "made/one").exists()
    run(repository, "dvc", "repro")
    assert (repository / "copy").read_text() == "one\n"
    assert verify(repository, "--all").returncode == 0


@pytest.mark.slow
def test_missing_files_are_named_and_created_again(repository: Path) -> None:
    cached(repository, TWO).unlink()
    (repository / "copy").unlink()
    said = verify(repository)
    assert said.returncode == 1
    assert said.stdout.splitlines() == [
        f"missing from the cache: made/two (stage make), {cached(repository, TWO)}",
        "missing from the workspace: copy (stage copy)",
    ]
    run(repository, "dvc", "repro")
    assert verify(repository).returncode == 0


@pytest.mark.slow
def test_a_broken_manifest_and_a_changed_workspace_are_named(repository: Path) -> None:
    (manifest,) = repository.glob(".dvc/cache/files/md5/*/*.dir")
    flip_a_byte(manifest)
    (repository / "number.json").write_text("4\n")
    said = verify(repository)
    assert said.returncode == 1
    assert said.stdout.splitlines() == [
        f"damaged in the cache: made (stage make), {manifest}",
        "differs from dvc.lock: number.json (stage make)",
    ]


@pytest.mark.slow
def test_other_commits_are_checked_on_request(repository: Path) -> None:
    other = cached(repository, "0" * 32)
    other.parent.mkdir()
    other.write_text("of another commit")
    assert verify(repository).returncode == 0
    said = verify(repository, "--all")
    assert said.stdout == f"damaged in the cache: no path of this commit, {other}\n"
    other.rename(other.with_name(".half.tmp"))
    assert verify(repository, "--quarantine").stdout.startswith("partial object")
    assert verify(repository, "--all").returncode == 0


@pytest.mark.slow
def test_a_file_that_dvc_does_not_know_is_named(repository: Path) -> None:
    (repository / "made/three").write_text("3")
    assert verify(repository).stdout == "not in dvc.lock: made/three (stage make)\n"


@pytest.mark.slow
@pytest.mark.parametrize("committed", [pytest.param(False, marks=pytest.mark.soak), True])
def test_after_a_power_failure_one_repair_gives_the_same_lock(
    repository: Path, committed: bool
) -> None:
    """What the last stage and DVC wrote is empty: outputs, objects of the cache, and dvc.lock."""
    if committed:
        run(repository, "git", "add", "dvc.lock")
        run(repository, "git", *USER, "commit", "--quiet", "--message=made")
    lock = repository / "dvc.lock"
    before = lock.read_text()
    rwlock = repository / ".dvc/tmp/rwlock"
    rwlock.touch()
    half = cached(repository, ONE).with_name(".half.tmp")
    half.touch()
    made = [repository / "copy", cached(repository, ONE), *repository.glob("made/*")]
    for path in (lock, rwlock, half, *made):
        path.chmod(0o644)
        path.write_bytes(b"")
    said = verify(repository, "--quarantine")
    assert said.returncode == 0, said.stderr
    assert "dvc.lock was damaged" in said.stderr
    run(repository, "dvc", "repro")
    assert lock.read_text() == before
    assert (repository / "copy").read_text() == "one\n"
    assert verify(repository).returncode == 0


@pytest.mark.slow
def test_a_truncated_lock_is_repaired(repository: Path) -> None:
    """As a kill while DVC writes it leaves it, after the last of these words."""
    lock = repository / "dvc.lock"
    before = lock.read_text()
    for word in ("size:", "md5: ", "stages:", "schema"):
        lock.write_text(before[: before.rindex(word) + len(word)])
        assert verify(repository, "--lock").stderr.startswith(
            "dvc.lock was damaged: replaced by an empty one"
        )
    told = run(repository, "dvc", "repro").stdout
    assert "is cached - skipping run" in told
    assert "Running stage 'copy'" not in told
    assert lock.read_text() == before
    assert verify(repository, "--lock").stderr == ""


RECORDS = ["", "[]", "{}", "[" * 100_000, '{"sha256": null}', '{"sha256": "as it came"}']


@pytest.mark.slow
def test_odd_records_of_downloads_are_named_and_quarantined(repository: Path) -> None:
    folder = repository / ".dvc/roads/downloads/host"
    folder.mkdir(parents=True)
    (repository / ".dvc/roads" / MARK).touch()
    odd = [folder / f"{index}.tiff{RECORD_SUFFIX}" for index in range(len(RECORDS))]
    for path, record in zip(odd, RECORDS, strict=True):
        path.with_name(path.name.removesuffix(RECORD_SUFFIX)).write_text("pixels")
        path.write_text(record)
    said = verify(repository, "--quarantine")
    assert (said.returncode, said.stderr) == (0, "")
    for path in odd:
        assert f"damaged record of a download: {path}\n" in said.stdout
    assert verify(repository).returncode == 0


@pytest.mark.slow
def test_damaged_files_of_one_name_are_all_kept(repository: Path) -> None:
    for host in ("a.org", "b.org"):
        download = repository / f".dvc/roads/downloads/{host}/train/sat/one.tiff"
        download.parent.mkdir(parents=True)
        download.write_text(host)
        record = download.with_name(download.name + RECORD_SUFFIX)
        record.write_text(json.dumps({"sha256": "0" * 64}))
    (repository / ".dvc/roads" / MARK).touch()
    assert verify(repository, "--quarantine").returncode == 0
    moved = (repository / ".dvc/roads/quarantine").rglob("*.tiff")
    assert sorted(path.read_text() for path in moved) == ["a.org", "b.org"]


def test_outside_the_project_the_message_says_what_is_missing(tmp_path: Path) -> None:
    said = verify(tmp_path)
    assert (said.returncode, said.stdout) == (1, "")
    assert said.stderr.startswith("error: this is not a DVC repository")
