"""Where half-finished work lives: outside DVC's outputs, which DVC deletes before a stage runs."""

import os
import subprocess
import sys
from pathlib import Path

STATE_VARIABLE = "ROADS_STATE"


def state_folder(kind: str) -> Path:
    """An absolute folder for `kind` ("downloads", "training"), shared by all experiments.

    It is `$ROADS_STATE/kind` where that variable is set, else beside DVC's cache (which
    experiments in temporary folders share), else in `.roads` here, on a machine without DVC.
    """
    named = os.environ.get(STATE_VARIABLE)
    root = Path(named) if named else _beside_dvc_cache()
    folder = (root / kind).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _beside_dvc_cache() -> Path:
    if not Path(".dvc").is_dir():
        return Path(".roads")
    command = [sys.executable, "-m", "dvc", "cache", "dir"]
    answer = subprocess.run(command, capture_output=True, text=True)
    if answer.returncode != 0:
        return Path(".roads")
    return Path(answer.stdout.strip()).parent / "roads"
