"""Recipes: named sets of changed params, `recipes/NAME.yaml`, run as DVC experiments.

A recipe is a flat file of `section.key: value`. It always starts from the committed params.yaml,
so that the changes of successive recipes do not accumulate.
"""

import contextlib
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

import yaml

from roads.params.whole import Params
from roads.runtime.errors import UserError, excerpt
from roads.runtime.params import PARAMS_FILE, load_params, validated

FOLDER = Path("recipes")


def read_recipe(path: Path) -> dict[str, Any]:
    """The params that a recipe changes, for example `{"train.epochs": 3}`.

    Raises:
        UserError: the file is not a flat mapping of `section.key`.
    """
    recipe = load_params(path)
    if any(isinstance(value, dict) or not isinstance(key, str) for key, value in recipe.items()):
        raise UserError(f"{path} must hold lines such as `train.epochs: 3`, not sections")
    return recipe


def read_changes(words: Sequence[str]) -> dict[str, Any]:
    """`["train.epochs=3", "train.minutes=null"]` as a mapping.

    Raises:
        UserError: a word is not `section.key=value`.
    """
    changes = {}
    for word in words:
        key, sign, text = word.partition("=")
        value = _read_value(text)
        if not sign or not isinstance(value, bool | int | float | str | None):
            raise UserError(f"{word} is not a change of params.yaml such as train.epochs=3")
        changes[key] = value
    return changes


def _read_value(text: str) -> Any:
    """Parse YAML, but numbers as Python does: in YAML 1.1 010 is 8, 1:30 is 90, 1e-4 is text."""
    for number in (int, float):
        with contextlib.suppress(ValueError, OverflowError):
            if math.isfinite(value := number(text)):
                return value
    try:
        value = yaml.safe_load(text)
    except Exception:  # not YAML, or a date or nesting that Python cannot represent
        return text
    is_number = isinstance(value, int | float | date) and not isinstance(value, bool)
    return text if is_number else value


def changed_params(changes: Mapping[str, Any], path: Path = PARAMS_FILE) -> dict[str, Any]:
    """All of params.yaml with other values, for example `{"train.epochs": 3}`.

    Raises:
        UserError: there is no such key, or a value is refused.
    """
    params = load_params(path)
    validated(Params, params, path)
    for name, value in changes.items():
        section, _, key = name.partition(".")
        if key not in params.get(section, {}):
            raise UserError(f"{name} is not a key of params.yaml")
        params[section][key] = value
    validated(Params, params, path)
    return params


def run_recipe(name: str, words: Sequence[str], options: Sequence[str]) -> NoReturn:
    """Run a recipe as a DVC experiment; this process becomes `dvc exp run`.

    Args:
        name: of a file in recipes/.
        words: further changes, `section.key=value`; they override the recipe's.
        options: of `dvc exp run`, for example `--queue`.

    Raises:
        UserError: there is no such recipe or key, a value is refused, or params.yaml has
            uncommitted changes or is not in Git.
    """
    if not (FOLDER.is_dir() and Path("dvc.yaml").is_file()):
        raise UserError(f"{Path.cwd()} is not the project's folder: it has no dvc.yaml or recipes")
    file = FOLDER / f"{name}.yaml"
    if not file.is_file():
        names = ", ".join(sorted(path.stem for path in FOLDER.glob("*.yaml")))
        raise UserError(f"there is no recipe {name}. There are: {names}")
    committed = subprocess.run(["git", "show", f"HEAD:./{PARAMS_FILE}"], capture_output=True)
    if committed.returncode != 0:
        reason = " ".join(committed.stderr.decode(errors="replace").split())
        raise UserError(f"a recipe starts from the committed {PARAMS_FILE}. Git says: {reason}")
    if committed.stdout != PARAMS_FILE.read_bytes():
        os.utime(PARAMS_FILE)  # else Git may miss the change, see stage_status
        raise UserError(
            f"{PARAMS_FILE} has uncommitted changes, but a recipe starts from the committed "
            f"file. Commit them, or undo them: `git restore -SW {PARAMS_FILE}`"
        )
    changes = read_recipe(file) | read_changes(words)
    changed_params(changes)
    command = [sys.executable, "-m", "dvc", "exp", "run", *options]
    for key, value in changes.items():
        command += ["-S", _as_dvc_reads_it(key, value)]
    print(f"dvc {' '.join(command[3:])}", file=sys.stderr, flush=True)
    # The stages use this Python, even if its environment is not activated.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    os.execve(sys.executable, command, os.environ | {"PATH": path})


def _as_dvc_reads_it(name: str, value: Any) -> str:
    """The change as `dvc exp run -S` takes it.

    Raises:
        UserError: DVC would write another value into params.yaml.
    """
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        trial = Path(folder) / PARAMS_FILE
        trial.write_text("section: {key: null}\n")
        try:
            quoted = isinstance(value, str)
            text = "'" + value.replace("'", "\\'") + "'" if quoted else json.dumps(value)
            apply_overrides(trial, [f"section.key={text}"])
            arrived = load_params(trial)["section"]["key"]
            same = value == (float(arrived) if isinstance(value, float) else arrived)
        except Exception:  # DVC's parsers raise many types
            same = False
    if not same:
        raise UserError(f"DVC cannot set {name} to {excerpt(value)}. Edit and commit {PARAMS_FILE}")
    return f"{name}={text}"
