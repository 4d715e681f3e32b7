"""What a stage reads must not change while it runs, or dvc.lock would name what did not run.

DVC hashes code, data and params when a stage ends. A person who edits params.yaml or switches the
branch during a training would get a dvc.lock, and an entry of the run cache, with the new values
beside the results of the old ones.
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
NAMED = 3  # changes told at once

Marks = dict[Path, tuple[int, int, int]]


class ChangedError(UserError):
    """Something that the stage read is not as it was; what was trained so far is kept."""


@dataclass(frozen=True)
class Inputs:
    """What a stage reads, as it is now.

    Attributes:
        stage: its name in dvc.yaml.
        params: the sections and keys that it reads.
        files: size, time of the last change and inode of each file among its deps.
    """

    stage: str
    params: Mapping[str, Any]
    files: Marks

    def check_unchanged(self) -> None:
        """Look again.

        Raises:
            ChangedError: something is not as it was.
        """
        try:
            now = seen(self.stage)
        except UserError as error:
            raise ChangedError(f"changed while the stage {self.stage} ran: {error}") from None
        changes = [
            f"{PARAMS_FILE}: {key} was {excerpt(before)}, and is {excerpt(after)} now"
            for key, before, after in _differences(self.params, now.params)
        ]
        changes += [
            f"{path} is another file now" if path in now.files else f"{path} is gone"
            for path, mark in self.files.items()
            if now.files.get(path) != mark
        ]
        changes += [f"{path} is new" for path in now.files if path not in self.files]
        if changes:
            more = f"; and {len(changes) - NAMED} more" if len(changes) > NAMED else ""
            raise ChangedError(
                f"changed while the stage {self.stage} ran: {'; '.join(changes[:NAMED])}{more}. "
                f"Run `dvc repro` again, with the values that you want"
            )


def seen(stage: str) -> Inputs:
    """What the stage of dvc.yaml, in the current folder, reads.

    Raises:
        UserError: dvc.yaml or params.yaml cannot be read.
    """
    try:
        declared = yaml.safe_load(PIPELINE_FILE.read_text(encoding="utf-8"))["stages"][stage]
    except (OSError, ValueError, yaml.YAMLError, KeyError, TypeError):
        raise UserError(
            f"{PIPELINE_FILE} does not have the stage {stage} any more. `git restore` it"
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
    """The path with `${section.key}` replaced, as DVC does it."""
    return re.sub(r"\$\{(\w+\.\w+)\}", lambda match: str(_value(values, match[1])), path)


def _value(values: Mapping[str, Any], name: str) -> Any:
    """A section of params.yaml, or a `section.key`; None where there is none."""
    section, _, key = name.partition(".")
    found = values.get(section)
    if not key:
        return found
    return found.get(key) if isinstance(found, dict) else None


def _files(path: Path) -> Iterator[Path]:
    """A file, or the files of a folder but those that .dvcignore leaves out."""
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
