"""Measures DVC's commands in a copy of the project: the sample's 12 tiles, a tiny net.

Seconds of the first `dvc repro`, of one without changes, of an experiment that only reruns
evaluate, and of binarize and pack-h5 in one that changes binarize.threshold.
"""

import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

from benchmarks.data_stages import timed
from benchmarks.report import parser, save, scratch
from tests.project import copy_project, params, run, write_params

TINY: dict[str, dict[str, Any]] = {  # net and training; tiles and crops are the default
    "unet": {"filters": 2, "depth": 3},
    "train": {"epochs": 1},
    "evaluate": {"overlays": 0},
}


def measure(folder: Path, rounds: int) -> dict[str, Any]:
    project = copy_project(folder / "project")
    changed = params()
    for section, values in TINY.items():
        changed[section] |= values
    write_params(project, changed)

    def seconds(*words: str) -> float:
        return round(timed(lambda: run(project, sys.executable, "-m", "dvc", *words)), 2)

    values = {"first": seconds("repro")}
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message=first run")
    values["nothing"] = statistics.median(seconds("repro") for _ in range(rounds))
    values["evaluate"] = seconds("exp", "run", "-S", "evaluate.overlap=64")
    values["threshold"] = seconds("exp", "run", "-S", "binarize.threshold=120", "pack-h5")
    shutil.rmtree(project)
    return values


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rounds", type=int, default=3)
    arguments = options.parse_args()
    with scratch(arguments) as folder:
        values = measure(folder, arguments.rounds)
    print(values)
    save(arguments, values)


if __name__ == "__main__":
    main()
