"""Trains recipes, one after another, on a GPU machine that needs neither DVC nor a network.

For each of RUNS, or those named by `--only`, the pipeline runs on the tiles with JAX, and OUT gets
`NAME.tar.gz`: the scores, the curves, the weights, and `record.json`, which says what was run, on
what, and how long it took.

    python -m benchmarks.recipe_runs --tiles FOLDER --work FOLDER --out FOLDER

Killed at any moment, the same command goes on: runs that are finished are not repeated, nor are
stages, and a training goes on after its last epoch. All it needs for that is in WORK. Archives go
to OUT at each call, so that OUT may be emptied.
"""

import argparse
import json
import math
import os
import platform
import shlex
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.without_dvc import PROJECT, StagesAlone, changed_params, settings, tiles_from
from roads.errors import UserError, exit_status
from roads.files import replacing, write_json

BACKEND = "jax"
ALWAYS = {"evaluate.overlays": 0}  # pictures of the tiles stay behind

BEST: dict[str, Any] = {
    "handpick.max_blank": 1.0,
    "crop.size": 512,
    "crop.stride": 247,  # (1500 - 512) / 4: five crops in a row cover a tile
    "crop.max_blank": 0.5,
    "unet.filters": 32,
    "unet.encoder": "residual",
    "augment.window": 256,
    "augment.brightness": 0.1,
    "augment.contrast": 0.2,
    "augment.gamma": 0.2,
    "augment.saturation": 0.1,
    "train.ignore_blank": True,
    "train.loss": "bce_dice",
    "train.optimizer": "adamw",
    "train.learning_rate": 0.001,
    "train.warmup_epochs": 1.0,
    "train.clip_norm": 1.0,
    "train.ema": 0.999,
    "train.schedule": "cosine",
    "train.batch_size": 16,
    "train.monitor": "iou",
    "train.early_stopping_patience": 0,
    "train.epochs": 200,
    "evaluate.tta": True,
}

# The article's recipe, as README.md has it.
ARTICLE: dict[str, Any] = {
    "crop.edge": "pad",
    "crop.max_blank": 1,
    "split.by": "crop",
    "split.test": 0.2,
    "split.valid": 0.08,
    "pack.min_road": 0.01,
    "pack.min_road_everywhere": True,
    "unet.momentum": 0.99,
    "unet.dropout": 0.1,
    "augment.flips": False,
    "augment.turns": False,
    "train.loss": "soft_dice",
    "train.learning_rate": 0.0001,
    "train.batch_size": 16,
    "train.epochs": 100,
    "train.schedule": "plateau",
}

# In the order they are run. Neighbours with the same crops share the data stages.
RUNS: dict[str, dict[str, Any]] = {
    "best": BEST,
    "plain-encoder": BEST | {"unet.encoder": "plain"},
    "cldice": BEST | {"train.cldice_weight": 0.2},
    "filters-16": BEST | {"unet.filters": 16},
    "article": ARTICLE,
}

# What goes into an archive: the name there, and where it is in the pipeline's folder.
KEPT = {
    "data.json": "metrics/data.json",
    "train.json": "metrics/train.json",
    "test.json": "metrics/test.json",
    "unet.json": "models/unet.json",
    "unet.weights.h5": "models/unet.weights.h5",
    "curves": "metrics/train/plots/metrics",
    "test": "metrics/test",
}


def perform(name: str, changes: Mapping[str, Any], work: Path, commit: str | None) -> Path:
    """Run the pipeline, unless the same run was finished before.

    Args:
        name: of the run.
        changes: its params that are not those of params.yaml.
        work: keeps the pipeline's folder and the archives.
        commit: the project's, for the record; by default Git is asked.

    Returns:
        the archive of what came out.

    Raises:
        UserError: a stage failed.
    """
    pipeline = StagesAlone(work / "pipeline")
    params = changed_params(changes)
    *_, (_, key) = pipeline.keys(params)
    archive = work / "finished" / f"{name}-{key[:16]}.tar.gz"
    if archive.exists():
        say(f"{name} is finished already")
        return archive
    say(f"{name} begins, or goes on")
    pipeline.run(params)
    write_json(pipeline.folder / "record.json", record(pipeline, changes, commit))
    pack(name, pipeline.folder, archive)
    say(f"{name} is finished")
    return archive


def record(pipeline: StagesAlone, changes: Mapping[str, Any], commit: str | None) -> dict[str, Any]:
    """What was run, on what, when, and how long each stage took in seconds, all tries together."""
    net = json.loads((pipeline.folder / "models/unet.json").read_text())
    crops = pipeline.metrics("data")["train"]["crops"]
    return {
        "command": command(changes),
        "changes": {name: value for name, value in changes.items() if name != "download.folder"},
        "commit": commit or git_commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": net["device"],
        "versions": {
            "python": platform.python_version(),
            "numpy": metadata.version("numpy"),
            **net["versions"],
        },
        "crops_trained_on": crops * pipeline.metrics("train")["epochs"],
        "seconds": pipeline.seconds(),
    }


def command(changes: Mapping[str, Any]) -> str:
    """The run as an experiment of DVC, the folder of the tiles left open."""
    named = {**changes, "download.folder": "/absolute/path"}
    words = [
        f"-S {name}={value if isinstance(value, str) else json.dumps(value)}"
        for name, value in named.items()
    ]
    return f"KERAS_BACKEND={BACKEND} dvc exp run {' '.join(words)}"


def git_commit() -> str | None:
    """The commit of this checkout, with `-dirty` if it was edited; None where Git is missing."""
    words = shlex.split("git describe --always --dirty --abbrev=40 --exclude=*")
    try:
        answer = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def pack(name: str, folder: Path, archive: Path) -> None:
    """Put KEPT and the record of a finished run into an archive, as the folder `name`.

    Only tables of folders are taken, no pictures: they show tiles that may not be passed on.
    """
    with replacing(archive) as partial, tarfile.open(partial, "w:gz") as stream:
        for arcname, path in {**KEPT, "record.json": "record.json"}.items():
            whole = folder / path
            files = [whole] if whole.is_file() else [*whole.rglob("*.tsv"), *whole.rglob("*.csv")]
            for file in files:
                stream.add(file, Path(name, arcname, file.relative_to(whole)))


def hand_over(name: str, archive: Path, out: Path, limit: int | None) -> None:
    """Copy an archive into `out`, in files of at most `limit` bytes: `NAME.tar.gz.00` and so on."""
    whole = archive.read_bytes()
    if limit is None or len(whole) <= limit:
        parts = {f"{name}.tar.gz": whole}
    else:
        starts = range(0, len(whole), limit)
        parts = {
            f"{name}.tar.gz.{place:02}": whole[start : start + limit]
            for place, start in enumerate(starts)
        }
    for file, part in parts.items():
        with replacing(out / file) as partial:
            partial.write_bytes(part)


def say(text: str) -> None:
    print(f"{datetime.now(UTC):%H:%M:%S} {text}", flush=True)


def main() -> None:
    start = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", type=Path, required=True, help="folder of image and map pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    parser.add_argument("--out", type=Path, required=True, help="folder that gets the archives")
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS), metavar="NAME")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--minutes", type=float, default=math.inf, help="then begin no other run")
    parser.add_argument("--part", type=float, metavar="MIB", help="no file in OUT is larger")
    parser.add_argument("--commit", help="of the project, where there is no Git to ask")
    arguments = parser.parse_args()
    common = ALWAYS | tiles_from(arguments.tiles) | settings(" ".join(arguments.changes))
    runs = {name: RUNS[name] | common for name in arguments.only}
    for changes in runs.values():
        changed_params(changes)  # a wrong key is told before hours are spent
    os.environ |= {
        "KERAS_BACKEND": BACKEND,
        "JAX_COMPILATION_CACHE_DIR": str(arguments.work.resolve() / "compiled"),
    }
    limit = int(arguments.part * 2**20) if arguments.part else None
    failed = []
    for name, changes in runs.items():
        if time.monotonic() - start > 60 * arguments.minutes:
            say(f"{name} is left for another call")
            continue
        try:
            archive = perform(name, changes, arguments.work, arguments.commit)
        except UserError as error:  # the others need not suffer for it
            say(f"{name} failed: {error}")
            failed.append(name)
        else:
            hand_over(name, archive, arguments.out, limit)
    if failed:
        raise UserError(f"not finished: {', '.join(failed)}")


if __name__ == "__main__":
    sys.exit(exit_status(main))
