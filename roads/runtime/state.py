"""Where half-finished work lives: outside DVC's outputs, which DVC deletes before a stage runs."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

STATE_VARIABLE = "ROADS_STATE"
KEPT = 30 * 24 * 3600  # seconds that half-finished work is kept without being touched
MARK = ".made-by-roads"  # in a root that was made here: in no other is anything removed


def state_folder(kind: str) -> Path:
    """An absolute folder for `kind` ("downloads", "training"), shared by all experiments.

    It is `$ROADS_STATE/kind` where that variable is set, else beside DVC's cache (which
    experiments in temporary folders share), else in `.roads` here, on a machine without DVC.
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
    """The files of a state folder, at any depth, that nothing has written to for KEPT.

    None of a folder that had content of somebody else's when it was named in $ROADS_STATE.
    """
    for path in folder.rglob(pattern) if (folder.parent / MARK).exists() else ():
        try:
            age = time.time() - path.stat().st_mtime
        except FileNotFoundError:
            continue  # another process has just removed it
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
