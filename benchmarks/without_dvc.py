"""Runs the stages of dvc.yaml in a folder of their own, on a machine that may have no DVC.

A stage whose parameters, code and predecessors are those of its last run is not run again. There
is no cache beyond that: it is for a measurement that repeats the pipeline with other parameters,
and for a GPU machine without DVC.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from roads.errors import UserError
from roads.files import write_json
from roads.params import load_params
from roads.state import STATE_VARIABLE

PROJECT = Path(__file__).resolve().parent.parent
RECORD = "stages.json"  # what each stage was last run with


def changed_params(changes: Mapping[str, Any]) -> dict[str, Any]:
    """The project's params.yaml with other values, for example `{"train.epochs": 3}`.

    Raises:
        UserError: there is no such key.
    """
    params = load_params(PROJECT / "params.yaml")
    for name, value in changes.items():
        section, _, key = name.partition(".")
        if key not in params.get(section, {}):
            raise UserError(f"{name} is not a key of params.yaml")
        params[section][key] = value
    return params


class StagesAlone:
    """The pipeline in `folder`, which may exist from an earlier run."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
        code = sorted([*PROJECT.glob("roads/**/*.py"), *PROJECT.glob("stages/*.py")])
        self.code = _digest(*(path.read_bytes() for path in code))
        for kind in ("data", "models"):
            for path in subprocess.check_output(
                ["git", "ls-files", kind], cwd=PROJECT, text=True
            ).splitlines():
                (self.folder / path).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(PROJECT / path, self.folder / path)

    def run(self, params: Mapping[str, Any], last: str = "evaluate") -> None:
        """Run the stages up to `last` with these params; skip what would only repeat itself.

        Raises:
            UserError: a stage failed; it has said why.
        """
        (self.folder / "params.yaml").write_text(yaml.safe_dump(dict(params)))
        record = self.folder / RECORD
        done = json.loads(record.read_text()) if record.exists() else {}
        key = self.code
        for name, stage in self.stages.items():
            read = [params[section][leaf] for section, leaf in map(_split, stage["params"])]
            key = _digest(key.encode(), stage["cmd"].encode(), json.dumps(read).encode())
            if done.get(name) != key:
                self._run(name, stage)
                done[name] = key
                write_json(record, done)
            if name == last:
                return

    def metrics(self, name: str) -> dict[str, Any]:
        """`metrics/NAME.json`."""
        values: dict[str, Any] = json.loads((self.folder / f"metrics/{name}.json").read_text())
        return values

    def _run(self, name: str, stage: Mapping[str, Any]) -> None:
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path = self.folder / (out if isinstance(out, str) else next(iter(out)))
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)
        _, *arguments = shlex.split(stage["cmd"])
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
            STATE_VARIABLE: str(self.folder / "state"),
        }
        command = [sys.executable, *arguments]
        if subprocess.run(command, cwd=self.folder, env=environment).returncode != 0:
            raise UserError(f"the stage {name} failed in {self.folder}")


def _split(name: str) -> tuple[str, str]:
    section, _, leaf = name.partition(".")
    return section, leaf


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
