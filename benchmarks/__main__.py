"""Run the measurements, and write their table into benchmarks/README.md: `make bench`.

Each leaves a JSON file in benchmarks/results/, so that the table can be made again (`--parts`
with nothing behind it) and a part measured again alone (`--parts torch`).
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.table import RESULTS, write_table

PARTS = ("data", "plain", "dvc", "train", "predict", "torch")


def commands(part: str, tiles: list[int], torch_python: Path) -> dict[str, list[str]]:
    """The JSON files that a part leaves, and what makes each."""
    if part == "data":
        rounds = {True: "--rounds=3", False: "--rounds=7"}
        return {
            f"data_{count}": ["data_stages", f"--tiles={count}", rounds[count > 20]]
            for count in tiles
        }
    lines = {
        "plain": ["plain_files"],
        "dvc": ["dvc_commands"],
        "train": ["train_feed"],
        "predict": ["tile_prediction"],
        "torch": ["plain_torch", f"--python={torch_python}"],
    }
    return {part: lines[part]}


def main() -> None:
    options = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    options.add_argument("--tiles", type=int, nargs="+", default=[8, 108])
    options.add_argument("--parts", nargs="*", choices=PARTS, default=PARTS)
    options.add_argument("--torch", type=Path, default=Path(".venv-bench/bin/python"))
    options.add_argument("--scratch", type=Path, help="folder on the disk to measure")
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="roads-bench-", dir=arguments.scratch) as scratch:
        for part in arguments.parts:
            for name, line in commands(part, arguments.tiles, arguments.torch).items():
                print(f"== {name}", flush=True)
                module, *words = line
                command = [sys.executable, "-m", f"benchmarks.{module}", *words]
                command += [f"--json={RESULTS / name}.json", f"--scratch={scratch}"]
                if subprocess.run(command).returncode != 0:
                    sys.exit(f"{' '.join(command)} failed")
    write_table()


if __name__ == "__main__":
    main()
