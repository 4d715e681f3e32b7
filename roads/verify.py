"""Finds damage that DVC does not notice, since it checks out cached files without reading them.

Every object in DVC's cache that dvc.lock refers to is hashed and compared with its name, the
workspace is compared with dvc.lock, and each download with its hash on arrival. Nothing is changed
unless `--quarantine` is given: it moves damaged files away, so that DVC recreates them.

A kill while DVC writes dvc.lock, or a power cut, can leave it empty or truncated. It is then
restored from Git, and later results from DVC's run cache.
"""

import contextlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from roads.parallel.pool import worker_count
from roads.runtime.errors import UserError, ascii_controls
from roads.runtime.files import file_hash, replacing
from roads.runtime.progress import progress
from roads.runtime.state import MARK, dvc_cache, state_folder
from roads.sources.cache import PART_SUFFIX, RECORD_SUFFIX

MAKE_AGAIN = (
    "`dvc repro` recreates damaged and missing files (or `dvc pull`, from a remote; "
    "`dvc checkout` if they are missing only in the workspace)"
)
WAY_OUT = f"`make verify QUARANTINE=1` moves damaged files away; then {MAKE_AGAIN}."
RWLOCK = Path(".dvc/tmp/rwlock")
LOCK_FILE, PIPELINE_FILE = Path("dvc.lock"), Path("dvc.yaml")
Inode = tuple[int, int]
MANIFEST = ".dir"  # suffix of objects that list a folder's files
SHA256 = re.compile(r"[0-9a-f]{64}")
MD5 = re.compile(r"[0-9a-f]{32}(\.dir)?")
NO_STAGES = b"schema: '2.0'\nstages: {}\n"  # a dvc.lock
EMPTY = "d41d8cd98f00b204e9800998ecf8427e"  # the MD5 of no bytes


@dataclass(frozen=True)
class Expected:
    """A file that dvc.lock says is in the workspace."""

    stage: str
    path: Path
    md5: str
    cached: bool


@dataclass
class Findings:
    """Problems, one line each, and the files that `--quarantine` moves away."""

    lines: list[str] = field(default_factory=list)
    damaged: list[Path] = field(default_factory=list)
    looked_at: int = 0


def verify(cache: Path, downloads: Path, whole_cache: bool = False) -> Findings:
    """Check the hashes of the files in dvc.lock and of the downloads.

    Args:
        cache: DVC's cache.
        downloads: the folder of the downloads.
        whole_cache: also check the objects of other commits and experiments.

    Raises:
        UserError: dvc.lock or dvc.yaml is missing or damaged.
    """
    objects = cache / "files" / "md5"
    found = Findings()
    expected = list(_expected(objects, found))
    owners = {_object(objects, file.md5): file for file in reversed(expected) if file.cached}
    paths = set(owners)
    if whole_cache:
        paths |= {path for path in objects.glob("??/*") if len(path.stem) == 30}
    sound = set()  # the inodes of sound files; the workspace and the downloads are links to them
    for path, md5 in _hashed(sorted(paths), "md5", "DVC's cache"):
        found.looked_at += 1
        owner = owners.get(path)
        place = f"{owner.path} (stage {owner.stage})" if owner else "no path of this commit"
        if md5 is None:
            found.lines.append(f"missing from the cache: {place}, {path}")
        elif md5 != path.parent.name + path.name.removesuffix(MANIFEST):
            found.lines.append(f"damaged in the cache: {place}, {path}")
            found.damaged.append(path)
        else:
            sound.add(_inode(path))
    for path in sorted(objects.glob("??/[!.]*")):  # of any commit: a power cut can empty new files
        if path not in paths and path.stat().st_size == 0 and path.parent.name + path.name != EMPTY:
            found.lines.append(f"empty in the cache: {path}")
            found.damaged.append(path)
    for path in sorted(objects.glob("??/.*.tmp")):  # left if DVC was stopped while writing
        found.lines.append(f"partial object, from a full disk or a kill: {path}")
        found.damaged.append(path)
    _look_at_workspace(expected, objects, sound, found)
    _look_at_downloads(downloads, sound, found)
    return found


def _expected(objects: Path, found: Findings) -> Iterator[Expected]:
    """The files of all outputs; for a folder, its manifest and the files listed in it."""
    try:
        stages = yaml.safe_load(LOCK_FILE.read_text(encoding="utf-8"))["stages"]
        declared = yaml.safe_load(PIPELINE_FILE.read_text(encoding="utf-8"))["stages"]
        outs = [
            Expected(name, Path(out["path"]), out["md5"], out["path"] not in _uncached(declared))
            for name, stage in stages.items()
            for out in stage.get("outs", ())
        ]
    except FileNotFoundError as error:
        raise UserError(
            f"{error.filename} is missing: run `dvc repro`, or `git restore` it"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"{LOCK_FILE} or {PIPELINE_FILE} is damaged: `make repro` repairs the first, "
            f"`git restore {PIPELINE_FILE}` the second"
        ) from None
    for out in outs:
        yield out
        if not out.md5.endswith(MANIFEST):
            continue
        try:
            entries = json.loads(_object(objects, out.md5).read_bytes())
            files = [(PurePosixPath(entry["relpath"]), entry["md5"]) for entry in entries]
        except (OSError, ValueError, KeyError, TypeError):
            continue  # a damaged manifest is found by its own hash
        known = {out.path / path for path, _ in files}
        for path, md5 in files:
            yield Expected(out.stage, out.path / path, md5, True)
        for file in sorted(out.path.rglob("*")):
            if file.is_file() and file not in known:
                found.lines.append(f"not in dvc.lock: {file} (stage {out.stage})")


def _uncached(declared: dict[str, Any]) -> set[str]:
    """The outputs that are in Git, not in DVC's cache."""
    return {
        path
        for stage in declared.values()
        for out in [*stage.get("outs", ()), *stage.get("metrics", ()), *stage.get("plots", ())]
        if isinstance(out, dict)
        for path, options in out.items()
        if options.get("cache") is False
    }


def _look_at_workspace(
    expected: Sequence[Expected], objects: Path, sound: set[Inode], found: Findings
) -> None:
    unread = {}
    for file in expected:
        if file.md5.endswith(MANIFEST):
            continue
        if not file.path.is_file():
            found.lines.append(f"missing from the workspace: {file.path} (stage {file.stage})")
        elif _inode(file.path) not in sound:
            unread[file.path] = file
    for path, md5 in _hashed(list(unread), "md5", "workspace"):
        file = unread[path]
        if md5 == file.md5:
            continue
        found.lines.append(f"differs from dvc.lock: {path} (stage {file.stage})")
        cached = _object(objects, file.md5)
        if cached in found.damaged and path.samefile(cached):
            found.damaged.append(path)


def _look_at_downloads(downloads: Path, sound: set[Inode], found: Findings) -> None:
    """Compare finished downloads with their SHA-256 when they were first decoded."""
    told: dict[Path, str] = {}
    records = downloads.rglob(f"*{RECORD_SUFFIX}") if (downloads.parent / MARK).exists() else ()
    for record in sorted(records):
        file = record.with_name(record.name.removesuffix(RECORD_SUFFIX))
        ours = record.is_file() and file.suffix != PART_SUFFIX and file.is_file()
        if ours and _inode(file) not in sound:
            try:
                sha256 = json.loads(record.read_bytes())["sha256"]
                if not SHA256.fullmatch(sha256):
                    raise ValueError
                told[file] = sha256
            except (ValueError, KeyError, TypeError, RecursionError):
                found.looked_at += 1
                found.lines.append(f"damaged record of a download: {record}")
                found.damaged.append(record)
    for path, sha256 in _hashed(list(told), "sha256", "downloads"):
        found.looked_at += 1
        if sha256 != told[path]:
            found.lines.append(f"damaged download: {path}")
            found.damaged.append(path)


def _hashed(paths: Sequence[Path], algorithm: str, title: str) -> Iterator[tuple[Path, str | None]]:
    """Each path with the hash of its file, or None if it is missing."""

    def digest(path: Path) -> str | None:
        return file_hash(path, algorithm) if path.exists() else None

    with ThreadPoolExecutor(worker_count()) as pool:
        yield from zip(paths, progress(pool.map(digest, paths), title, len(paths)), strict=True)


def _object(objects: Path, md5: str) -> Path:
    return objects / md5[:2] / md5[2:]


def _inode(path: Path) -> Inode:
    status = path.stat()
    return status.st_dev, status.st_ino


def repair_lock() -> None:
    """If dvc.lock is empty or truncated, replace it by the committed one, or one without stages."""
    if not LOCK_FILE.exists() or _is_sound(LOCK_FILE):
        return
    command = ["git", "show", f"HEAD:./{LOCK_FILE}"]
    committed = b""
    with contextlib.suppress(FileNotFoundError, subprocess.CalledProcessError):
        committed = subprocess.run(command, capture_output=True, check=True).stdout
    with replacing(LOCK_FILE) as partial:
        partial.write_bytes(committed or NO_STAGES)
    done = "restored from the last commit" if committed else "replaced by an empty one"
    print(
        f"{LOCK_FILE} was damaged: {done}. `dvc repro` restores later results from the run cache",
        file=sys.stderr,
    )


def _is_sound(lock: Path) -> bool:
    """Whether dvc.lock is complete: each stage has its command, and each file its hash."""
    try:
        stages = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"].values()
        files = [file for s in stages for file in [*s.get("deps", ()), *s.get("outs", ())]]
        params = [section for s in stages for section in s.get("params", {}).values()]
        return (
            all(s["cmd"] for s in stages)
            and all(MD5.fullmatch(file["md5"]) for file in files)
            and all(isinstance(file.get(n, 0), int) for file in files for n in ("size", "nfiles"))
            and all(values is not None for section in params for values in section.values())
        )
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError, AttributeError):
        return False


def look_for_damage(whole_cache: bool, quarantine: bool) -> None:
    """`roads verify`: print the problems found, one line each.

    Args:
        whole_cache: also check the objects of other commits and experiments.
        quarantine: repair dvc.lock, and move damaged files away, so that DVC recreates them.

    Raises:
        UserError: problems were found and not fixed, or this is not a DVC repository.
    """
    if quarantine:
        repair_lock()
    cache = dvc_cache()
    if cache is None:
        raise UserError("this is not a DVC repository, or DVC is not installed: run `make verify`")
    found = verify(cache, state_folder("downloads"), whole_cache)
    if RWLOCK.exists() and RWLOCK.stat().st_size == 0:
        found.lines.append(f"empty: {RWLOCK}, which DVC writes around every stage")
        found.damaged.append(RWLOCK)
    for line in found.lines:
        print(ascii_controls(line))
    if not found.lines:
        print(f"no damage found in {found.looked_at} files of DVC's cache and the downloads")
        return
    if not quarantine:
        raise UserError(f"{len(found.lines)} problems found. {WAY_OUT}")
    if found.damaged:
        to = Path(tempfile.mkdtemp(dir=state_folder("quarantine")))
        for number, path in enumerate(found.damaged):
            shutil.move(path, to / f"{number}_{path.name}")
        print(f"the damaged files were moved to {to}")
    print(f"{MAKE_AGAIN}.")
