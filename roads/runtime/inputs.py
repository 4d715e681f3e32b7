"""Checks that a stage's inputs do not change while it runs, so that dvc.lock is right.

DVC hashes code, data and params when a stage ends. If params.yaml was edited or another branch
checked out during training, dvc.lock and the run cache would pair the new values with results of
the old ones.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from roads.runtime.errors import UserError, excerpt
from roads.runtime.params import PARAMS_FILE, load_params

PIPELINE_FILE = Path("dvc.yaml")
IGNORED = re.compile(r"__pycache__|.*\.pyc|.*\.egg-info|\..*\.sw.|.*~")
NAMED = 3  # changes listed in a message

Marks = dict[Path, tuple[int, int, int]]


class ChangedError(UserError):
    """An input changed while the stage ran; training progress is kept."""


@dataclass(frozen=True)
class Inputs:
    """The inputs of a stage at one moment.

    Attributes:
        stage: its name in dvc.yaml.
        params: the sections and keys that it reads.
        files: size, modification time and inode of each file among its deps.
    """

    stage: str
    params: Mapping[str, Any]
    files: Marks

    def check_unchanged(self) -> None:
        """Compare with the inputs as they are now.

        Raises:
            ChangedError: something changed.
        """
        try:
            now = seen(self.stage)
        except UserError as error:
            raise ChangedError(f"changed while the stage {self.stage} ran: {error}") from None
        changes = [
            f"{PARAMS_FILE}: {key} was {excerpt(before)} and is now {excerpt(after)}"
            for key, before, after in _differences(self.params, now.params)
        ]
        changes += [
            f"{path} was changed" if path in now.files else f"{path} was removed"
            for path, mark in self.files.items()
            if now.files.get(path) != mark
        ]
        changes += [f"{path} was added" for path in now.files if path not in self.files]
        if changes:
            more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
            raise ChangedError(
                f"changed while the stage {self.stage} ran: {'; '.join(changes[:NAMED])}{more}. "
                f"Run `dvc repro` again with the values you want"
            )


def seen(stage: str) -> Inputs:
    """Record the inputs of a stage of dvc.yaml in the current folder.

    Raises:
        UserError: dvc.yaml or params.yaml cannot be read.
    """
    try:
        declared = yaml.safe_load(PIPELINE_FILE.read_text(encoding="utf-8"))["stages"][stage]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        raise UserError(
            f"{PIPELINE_FILE} no longer has the stage {stage}. `git restore` it"
        ) from None
    values = load_params()
    params = {name: _value(values, name) for name in declared.get("params", ())}
    files: Marks = {}
    for dep in declared.get("deps", ()):
        for path in _files(Path(_filled_in(dep, values))):
            status = path.stat()
            files[path] = (status.st_size, status.st_mtime_ns, status.st_ino)
    return Inputs(stage, params, files)


def _filled_in(path: str, values: Mapping[str, Any]) -> str:
    """Replace `${section.key}` in a path, as DVC does."""
    return re.sub(r"\$\{(\w+\.\w+)\}", lambda match: str(_value(values, match[1])), path)


def _value(values: Mapping[str, Any], name: str) -> Any:
    """A section of params.yaml, or a `section.key`; None if there is none."""
    section, _, key = name.partition(".")
    found = values.get(section)
    if not key:
        return found
    return found.get(key) if isinstance(found, dict) else None


def _files(path: Path) -> Iterator[Path]:
    """A file, or all files of a folder except those in .dvcignore."""
    for file in [path, *path.rglob("*")]:
        if file.is_file() and not any(map(IGNORED.fullmatch, file.relative_to(path).parts)):
            yield file


def _differences(before: Any, after: Any, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Keys of params whose values differ, with both values."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for name in {**before, **after}:
            inner = f"{key}.{name}" if key else str(name)
            yield from _differences(before.get(name), after.get(name), inner)
    elif before != after or type(before) is not type(after):
        yield key, before, after
