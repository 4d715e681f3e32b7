"""Check that a run of the pipeline made the same data as the committed dvc.lock says."""

import subprocess
import sys
from pathlib import Path

import yaml

# A model and its scores depend on the processor, and pictures for people on fonts; data does not.
DATA = ("data/raw", "data/handpicked.csv", "data/crops", "data/masks", "data/packed")


def hashes(lock: str) -> dict[str, str]:
    """Path → MD5 of the data outputs in a dvc.lock."""
    stages = yaml.safe_load(lock)["stages"].values()
    outs = {out["path"]: out["md5"] for stage in stages for out in stage.get("outs", ())}
    return {path: outs[path] for path in DATA}


def main() -> int:
    committed = subprocess.run(
        ["git", "show", "HEAD:dvc.lock"], check=True, capture_output=True, text=True
    ).stdout
    expected, found = hashes(committed), hashes(Path("dvc.lock").read_text(encoding="utf-8"))
    differing = [path for path in DATA if expected[path] != found[path]]
    for path in differing:
        print(f"{path}: {found[path]}, but dvc.lock in Git says {expected[path]}", file=sys.stderr)
    if not differing:
        print(f"the same bytes as the committed dvc.lock: {', '.join(DATA)}")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
