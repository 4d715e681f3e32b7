"""Runs the measurements and writes their tables to benchmarks/README.md: `make bench`.

Each part writes JSON files to benchmarks/results/, so one part can be measured again
(`--parts torch`), or only the page be rewritten (`--parts` without a name).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import RESULTS, write_table

PARTS = ("data", "plain", "dvc", "train", "predict", "torch")


def commands(tiles: list[int], torch_python: Path) -> dict[str, dict[str, list[str]]]:
    """For each part, the names of its JSON files and the command for each."""
    return {
        "data": {
            f"data_{count}": [
                "data_stages", f"--tiles={count}", f"--rounds={3 if count > 20 else 7}",
            ]
            for count in tiles
        },
        "plain": {"plain": ["plain_files"]},
        "dvc": {"dvc": ["dvc_commands"]},
        "train": {"train": ["train_feed"]},
        "predict": {"predict": ["tile_prediction"]},
        "torch": {"torch": ["plain_torch", f"--python={torch_python}"]},
    }  # fmt: skip


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--tiles", type=int, nargs="+", default=[8, 108])
    options.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    options.add_argument("--torch", type=Path, default=Path(".venv-bench/bin/python"))
    options.add_argument("--scratch", type=Path, help="folder on the disk to measure")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="roads-bench-", dir=arguments.scratch) as scratch:
        for part in arguments.parts:
            for name, line in commands(arguments.tiles, arguments.torch)[part].items():
                print(f"== {name}", flush=True)
                module, *words = line
                command = [sys.executable, "-m", f"benchmarks.{module}", *words]
                command += [f"--json={RESULTS / name}.json", f"--scratch={scratch}"]
                if subprocess.run(command).returncode != 0:
                    sys.exit(f"{' '.join(command)} failed")
    write_table()


if __name__ == "__main__":
    main()
