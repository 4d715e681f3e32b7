"""Runs the stages of dvc.yaml in another folder, without DVC.

A stage is skipped if its parameters, code and predecessors have not changed since its last run;
there is no other cache. This is for measurements that repeat the pipeline with other parameters,
and for GPU machines without DVC.
"""

import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from roads.runtime.errors import UserError
from roads.runtime.files import write_json
from roads.runtime.stage import STAGE_VARIABLE
from roads.runtime.state import STATE_VARIABLE

PROJECT = Path(__file__).resolve().parent.parent
RECORD = "runs.json"  # the key of each stage's last run

# Inputs of stages that are in Git; everything else in data/ and models/ is DVC's.
GIVEN = (
    "data/handpicks.csv",
    "data/label_notes.csv",
    "data/massachusetts_roads.csv",
    "data/own",
    "models/encoders",
    "models/released",
)


def tiles_from(folder: Path) -> dict[str, Any]:
    """The params for tiles from a folder.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"--tiles: there is no folder {folder}")
    return {"download.source": "folder", "download.folder": str(folder.resolve())}


class StagesAlone:
    """The pipeline in `folder`, which may exist from an earlier run."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()
        self.stages = yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"]
        given = [path for name in GIVEN for path in _files(PROJECT / name)]
        for path in given:
            copy = self.folder / path.relative_to(PROJECT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
        code = sorted([*PROJECT.glob("roads/**/*.py"), *PROJECT.glob("stages/*.py")])
        self.inputs = _digest(*(path.read_bytes() for path in [*code, *given]))

    def keys(self, params: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """The name of each stage, and a hash of everything that its outputs depend on."""
        key = self.inputs
        for name, stage in self.stages.items():
            read = [params[name.partition(".")[0]] for name in stage["params"]]
            key = _digest(f"{key} {stage['cmd']} {json.dumps(read)}".encode())
            yield name, key

    def run(self, params: Mapping[str, Any], last: str = "evaluate") -> None:
        """Run the stages up to `last` with these params, except those that are up to date.

        Raises:
            UserError: a stage failed, after printing the reason.
        """
        (self.folder / "params.yaml").write_text(yaml.safe_dump(dict(params)))
        path = self.folder / RECORD
        record: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        for name, key in self.keys(params):
            if record.pop(name, None) != key:
                write_json(path, record)  # so that a killed stage runs again
                self._run(name)
            record[name] = key
            write_json(path, record)
            if name == last:
                return

    def read_json(self, path: str) -> dict[str, Any]:
        """A JSON file that a stage wrote."""
        values: dict[str, Any] = json.loads((self.folder / path).read_text(encoding="utf-8"))
        return values

    def _run(self, name: str) -> None:
        stage = self.stages[name]
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path = self.folder / (out if isinstance(out, str) else next(iter(out)))
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(True)
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join([str(PROJECT), os.environ.get("PYTHONPATH", "")]),
            STATE_VARIABLE: str(self.folder / "state"),
            STAGE_VARIABLE: name,  # the stage then ends if this process does
        }
        command = [sys.executable, *shlex.split(stage["cmd"])[2:]]  # exec python
        if subprocess.run(command, cwd=self.folder, env=environment).returncode != 0:
            raise UserError(f"the stage {name} failed in {self.folder}")


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())


def _digest(*parts: bytes) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.hexdigest()
