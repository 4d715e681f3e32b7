"""Measures what each part of a training recipe gains on real tiles: the table in docs/recipes.md.

Every rung adds one part, and is trained on the same number of crops of the same tiles with the same
seed, the first and the last rung with three seeds. Scores are of whole test tiles. Finished runs
are not repeated, so after a kill the same command continues:

    python -m benchmarks.ladder --tiles /absolute/path --work /tmp/ladder --crops 3354

`-S unet.filters=8`, which may be repeated, changes every rung. `--jobs 2` runs two at a time; limit
the cores of each (`TF_NUM_INTRAOP_THREADS=1`, `ROADS_WORKERS=1`). `--only-last` runs the last rung
and the replacements in it, each with three seeds.
"""

import argparse
import concurrent.futures
import functools
import json
import queue
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.without_dvc import StagesAlone, tiles_from
from roads.recipes import changed_params, read_changes
from roads.runtime.errors import exit_status
from roads.runtime.files import write_json

SEEDS: Sequence[int] = (0, 1, 2)  # for the first and the last rung; the others use only the first
FIRST = (
    "train.loss=soft_dice train.learning_rate=1e-4 train.batch_size=16 train.schedule=constant "
    "unet.dropout=0.1 augment.flips=false augment.turns=false"
)
ALWAYS = "train.early_stopping_patience=0"  # every rung trains on all its crops

# Each adds its parameters to those of all previous rungs.
RUNGS = {
    "the article's net, loss, rate and batch": FIRST,
    "learning rate decaying from ten times that to 0": (
        "train.learning_rate=1e-3 train.schedule=cosine"
    ),
    "batches of 4: more steps": "train.batch_size=4",
    "cross-entropy added to Dice": "train.loss=bce_dice",
    "no dropout": "unet.dropout=0.0",
    "flips and turns": "augment.flips=true augment.turns=true",
    "colours": (
        "augment.brightness=0.1 augment.contrast=0.2 augment.gamma=0.2 augment.saturation=0.2"
    ),
    "windows at random positions": "crop.size=512 crop.stride=494 augment.window=256",
    "missing imagery not counted": "train.ignore_blank=true",
    "AdamW, warm-up, clipping": (
        "train.optimizer=adamw train.warmup_epochs=0.5 train.clip_norm=1.0"
    ),
    "averaged weights": "train.ema=0.99",
    "flips and turns when predicting": "evaluate.tta=true",
}

# Each replaces something in the last rung.
INSTEAD = {
    "weighted cross-entropy": "train.loss=weighted_bce",
    "clDice added": "train.cldice_weight=0.5",
    "residual blocks": "unet.encoder=residual",
    # Rises for 30 % of 12 epochs: those of `--crops 4788` and the 399 crops of 46 tiles.
    "one-cycle rates": "train.warmup_epochs=3.6 train.learning_rate=3e-3",
    "batches of 8": "train.batch_size=8 train.learning_rate=1.4e-3",
    "windows of 384 pixels": "augment.window=384",
}


def runs(only_last: bool) -> list[tuple[str, str, dict[str, Any], Sequence[int]]]:
    """The name, added parameters, all parameters, and seeds of each rung."""
    rows: list[tuple[str, str, dict[str, Any], Sequence[int]]] = []
    total = read_changes(ALWAYS.split())
    for name, added in RUNGS.items():
        total = total | read_changes(added.split())
        ends = name in (next(iter(RUNGS)), next(reversed(RUNGS)))
        rows.append((name, added, total, SEEDS if ends else SEEDS[:1]))
    for name, change in INSTEAD.items():
        seeds = SEEDS if only_last else SEEDS[:1]
        rows.append((name, change, total | read_changes(change.split()), seeds))
    return rows[len(RUNGS) - 1 :] if only_last else rows


def score(
    work: Path,
    crops: int,
    folders: "queue.Queue[Path]",
    name: str,
    changes: Mapping[str, Any],
    seed: int,
) -> dict[str, Any]:
    """Train and evaluate one rung with one seed, or read the result of an earlier run.

    Args:
        work: the folder of results.
        crops: the number of 256×256 pixels to train on, rounded to whole epochs.
        folders: free folders to run in; one is taken, then put back.
        name, changes, seed: of the rung.
    """
    result = work / "results" / f"{re.sub('[^a-z]+', '-', name.lower())}-{seed}.json"
    facts: dict[str, Any] = {"changes": {**changes, "train.seed": seed}, "crops": crops}
    if result.exists():
        earlier: dict[str, Any] = json.loads(result.read_text())
        if earlier["facts"] == facts:
            return earlier
    folder = folders.get()
    try:
        pipeline = StagesAlone(folder)
        params = changed_params(facts["changes"])
        pipeline.run(params, last="pack-h5")
        rows = pipeline.read_json("metrics/data.json")["train_crops"]
        side = params["augment"]["window"] or params["crop"]["size"]
        params["train"]["epochs"] = max(1, round(crops * (256 / side) ** 2 / rows))
        pipeline.run(params)
        test = pipeline.read_json("metrics/test.json")
        best = pipeline.read_json("metrics/train.json")["best_epoch"]
    finally:
        folders.put(folder)
    values = {
        "facts": facts,
        "epochs": params["train"]["epochs"],
        "crops_an_epoch": rows,
        "best_epoch": best,
        "iou": test["tile_iou"],
        "break_even": test["break_even"],
    }
    write_json(result, values)
    return values


def table(rows: Sequence[tuple[str, str, Sequence[Mapping[str, Any]]]]) -> str:
    """The rungs as a Markdown table, with mean and range over seeds."""
    lines = [
        "| rung | parameters | strict IoU | relaxed break-even |",
        "|---|---|---|---|",
    ]
    for name, added, results in rows:
        cells = [_cell([result[key] for result in results]) for key in ("iou", "break_even")]
        lines.append(f"| {name} | `{added}` | {cells[0]} | {cells[1]} |")
    return "\n".join(lines) + "\n"


def _cell(values: Sequence[float]) -> str:
    mean = f"{sum(values) / len(values):.3f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.3f} to {max(values):.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiles", type=Path, required=True, help="folder of image and map pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and results")
    parser.add_argument(
        "--crops", type=int, default=22360, help="crops of 256×256 to train on, per rung"
    )
    parser.add_argument("--only-last", action="store_true", help="the last rung, three seeds each")
    parser.add_argument("--jobs", type=int, default=1, help="parallel runs")
    parser.add_argument("-S", dest="changes", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    common = tiles_from(arguments.tiles) | read_changes(arguments.changes)
    folders: queue.Queue[Path] = queue.Queue()
    for job in range(arguments.jobs):
        folders.put(arguments.work / f"job-{job}")
    run = functools.partial(score, arguments.work, arguments.crops, folders)
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        rungs = [
            (name, added, [pool.submit(run, name, changes | common, seed) for seed in seeds])
            for name, added, changes, seeds in runs(arguments.only_last)
        ]
        try:
            rows = [(name, added, [one.result() for one in each]) for name, added, each in rungs]
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a rerun continues from the stored results
            raise
    print(table(rows))


if __name__ == "__main__":
    sys.exit(exit_status(main))
