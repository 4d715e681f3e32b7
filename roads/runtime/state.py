"""Folders for unfinished work, outside DVC's outputs, which DVC deletes before a stage runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STATE_VARIABLE = "ROADS_STATE"
KEPT = 30 * 24 * 3600  # seconds that unfinished work is kept after its last change
MARK = ".made-by-roads"  # marks a root created by us; nothing is removed from any other


def state_folder(kind: str) -> Path:
    """An absolute folder for `kind` ("downloads", "training"), shared by all experiments.

    It is `$ROADS_STATE/kind` if that variable is set, else next to DVC's cache (which
    experiments in temporary folders share), or in `.roads` here without DVC.
    """
    named = os.environ.get(STATE_VARIABLE)
    root = Path(named) if named else _beside(dvc_cache())
    folder = (root / kind).resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    if not any(folder.parent.iterdir()):
        (folder.parent / MARK).touch()
    folder.mkdir(exist_ok=True)
    return folder


def stale(folder: Path, pattern: str) -> Iterator[Path]:
    """The files of a state folder, at any depth, unchanged for KEPT seconds.

    Yields none if $ROADS_STATE names a folder that already had other content.
    """
    for path in folder.rglob(pattern) if (folder.parent / MARK).exists() else ():
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # another process just removed it
        if age > KEPT:
            yield path


def dvc_cache() -> Path | None:
    """The absolute folder of DVC's cache; None outside a DVC repository, or without DVC."""
    if not Path(".dvc").is_dir():
        return None
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    answer = subprocess.run(command, capture_output=True, text=True)
    return Path(answer.stdout.strip()) if answer.returncode == 0 else None


def _beside(cache: Path | None) -> Path:
    return cache.parent / "roads" if cache else Path(".roads")
