"""The project read as text, and copies of it to run."""

import ast
import os
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
STAGES = ["download", "handpick-filter", "crop", "binarize", "pack-h5", "train", "evaluate"]

# Not on a GPU machine that has JAX and what README.md has one bring there.
ABSENT_ON_GPU_MACHINE = ("dvc", "dvclive", "tensorflow", "rasterio", "dask", "distributed")

# A whole run of the pipeline in seconds.
SMALL: dict[str, dict[str, Any]] = {
    "sample": {"size": 256, "train": 3, "valid": 1, "test": 1},
    "handpick": {"max_blank": 1.0},
    "crop": {"size": 64, "stride": 64, "max_blank": 1.0},
    "unet": {"filters": 2, "depth": 3},
    "train": {"epochs": 2, "precision": "float32"},
    "evaluate": {"batch_size": 2, "overlays": 2, "window": 64, "overlap": 16},
}


def pipeline() -> dict[str, Any]:
    """dvc.yaml as it stands."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "dvc.yaml").read_text(encoding="utf-8"))
    return loaded


def params() -> dict[str, dict[str, Any]]:
    """params.yaml as it stands."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "params.yaml").read_text(encoding="utf-8"))
    return loaded


def code_blocks(page: Path) -> list[str]:
    """The indented blocks of a page of documentation, without their indent."""
    blocks = re.findall(r"(?:^    .+\n)+", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [textwrap.dedent(block) for block in blocks]


def stage_module(stage: str) -> str:
    """The file of a stage: `pack-h5` is in `stages/pack_h5.py`."""
    return f"stages/{stage.replace('-', '_')}.py"


def imported_modules(path: str, found: set[str] | None = None) -> set[str]:
    """The project's files that a file imports, itself included, however deep."""
    found = set() if found is None else found
    if path in found:
        return found
    found.add(path)
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            file = f"{name.replace('.', '/')}.py"
            if (ROOT / file).is_file():
                imported_modules(file, found)
    return found


def copy_project(to: Path) -> Path:
    """A Git repository of the tracked files, with the small parameters, committed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file() and not name.startswith(("tests/", "models/released/")):
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, to / name)
    (to / "dvc.lock").unlink(missing_ok=True)
    shutil.copytree(ROOT / "models/released", to / "models/released")
    changed = params()
    for section, values in SMALL.items():
        changed[section] |= values
    write_params(to, changed)
    run(to, "git", "init", "--quiet", "--initial-branch=main")
    run(to, "git", "config", "user.name", "Tester")
    run(to, "git", "config", "user.email", "tester@example.org")
    run(to, "git", "add", "--all")
    run(to, "git", "commit", "--quiet", "--message=start")
    return to


def hide(packages: Sequence[str], folder: Path) -> str:
    """A new folder for PYTHONPATH: a Python that has it finds none of these packages."""
    folder.mkdir()
    text = f"import sys\nsys.modules.update(dict.fromkeys({packages!r}))\n"
    (folder / "sitecustomize.py").write_text(text, encoding="utf-8")
    return str(folder)


def write_params(project: Path, values: dict[str, Any]) -> None:
    text = yaml.safe_dump(values, sort_keys=False)
    (project / "params.yaml").write_text(text, encoding="utf-8")


def run(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in a copy of the project to its end."""
    answer = subprocess.run(
        command, cwd=project, env=_environment(), capture_output=True, text=True, timeout=1800
    )
    if check and answer.returncode != 0:
        raise AssertionError(f"{' '.join(command)}:\n{answer.stdout}\n{answer.stderr}")
    return answer


def start(project: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command in a process group of its own, its output to be read line by line."""
    return subprocess.Popen(
        command,
        cwd=project,
        env=_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )


def _environment() -> dict[str, str]:
    """This process's, with the interpreter's own folder in front, no GPU, and Keras on JAX.

    On JAX a training stage starts in half the time that it takes on TensorFlow.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "jax"}
