"""Makes a release of trained weights: a folder in models/released/ with their scores and card.

    python -m benchmarks.release RUN --name NAME --tiles FOLDER --work FOLDER

RUN is what `benchmarks.recipe_runs` packed of a run: the weights, their description and
`record.json`. Kernels are stored as float16, which halves the file; the weights so stored are then
scored by the last stage, without and with flips and turns, on the tiles and on a small sample.
What a net may not be released for is told before: too large a file, or scores that moved.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.model_card import model_card
from benchmarks.without_dvc import PROJECT, StagesAlone, changed_params, tiles_from
from roads.errors import UserError, exit_status
from roads.files import replacing_folder, write_json
from roads.road_maps import file_hash
from roads.weights import (
    RELEASED,
    SCORES_FILE,
    WEIGHTS_FILE,
    description_path,
    read_description,
)

LARGEST = 20_000_000  # bytes
MOVED = 0.001  # the most that float16 may change the IoU of whole tiles
TRAINING = ("unet", "augment", "train")  # sections that only a training reads
SAMPLE: dict[str, Any] = {
    "sample.size": 512,
    "sample.train": 1,
    "sample.valid": 2,
    "sample.test": 2,
}


def store_half(weights: Path, to: Path) -> None:
    """Copy a `.weights.h5` file, its arrays of two axes and more rounded to float16.

    Biases and what belongs to normalization stay float32: they are few, and variances may be
    smaller than float16 can say. Keras reads both into float32.
    """
    with h5py.File(weights) as source, h5py.File(to, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                copied = target.require_group(name)
            else:
                values = item[()]
                copied = target.create_dataset(
                    name, data=values.astype(np.float16) if values.ndim > 1 else values
                )
            copied.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)


def evaluation(changes: Mapping[str, Any], nets: Path, name: str) -> dict[str, Any]:
    """The params that only score the net `name` in the folder `nets`, on a run's data."""
    kept = {key: value for key, value in changes.items() if key.split(".")[0] not in TRAINING}
    return changed_params(
        kept
        | {
            "train.epochs": 0,
            "train.weights_folder": str(nets.resolve()),
            "train.initial_weights": name,
            "evaluate.overlays": 0,
        }
    )


def score(
    changes: Mapping[str, Any], tiles: Mapping[str, Any], nets: Path, name: str, work: Path
) -> dict[str, Any]:
    """What the last stage says of a net: on the tiles, with flips and turns, and on the sample."""
    pipeline = StagesAlone(work / "tiles")
    found: dict[str, Any] = {}
    for tta in (True, False):
        pipeline.run(evaluation({**changes, **tiles, "evaluate.tta": tta}, nets, name))
        found = pipeline.metrics("test") | ({"tta": found} if found else {})
    sample = StagesAlone(work / "sample")
    sample.run(evaluation(SAMPLE, nets, name))
    return found | {"sample": sample.metrics("test"), "data": pipeline.metrics("data")}


def release(run: Path, name: str, tiles: Path, work: Path) -> Path:
    """Store, score and describe; returns the released folder.

    Raises:
        UserError: a file is missing or too large, a stage failed, or float16 moved the scores.
    """
    record = json.loads((run / "record.json").read_text(encoding="utf-8"))
    # Stages are run again where params differ, so other weights need another folder.
    half = work / "nets" / file_hash(run / WEIGHTS_FILE, "md5") / name
    half.mkdir(parents=True, exist_ok=True)
    weights = half / WEIGHTS_FILE
    store_half(run / WEIGHTS_FILE, weights)
    if weights.stat().st_size > LARGEST:
        raise UserError(
            f"{weights} has {weights.stat().st_size:,} bytes: a release has at most {LARGEST:,}"
        )
    shutil.copyfile(run / description_path(weights).name, description_path(weights))
    trained = json.loads((run / "test.json").read_text(encoding="utf-8"))
    if "tiles" not in trained:
        raise UserError(
            f"{run}/test.json has no scores of whole tiles, and a release is known by them"
        )
    scores = score(record["changes"], tiles_from(tiles), half.parent, name, work)
    tta = bool(record["changes"].get("evaluate.tta"))
    before, after = (found["tiles"]["iou"] for found in (trained, scores["tta"] if tta else scores))
    if abs(after - before) > MOVED:
        raise UserError(
            f"whole tiles' IoU is {after} with float16 weights and was {before} in {run}/test.json"
        )
    with replacing_folder(PROJECT / RELEASED / name) as folder:
        for path in (weights, description_path(weights)):
            shutil.copyfile(path, folder / path.name)
        write_json(folder / SCORES_FILE, scores)
        card = model_card(name, read_description(weights), record, scores, weights.stat().st_size)
        (folder / "README.md").write_text(card, encoding="utf-8")
    return PROJECT / RELEASED / name


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder with weights, description and record.json")
    parser.add_argument("--name", required=True, help="of the release")
    parser.add_argument("--tiles", type=Path, required=True, help="folder of image and map pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for all that is made")
    arguments = parser.parse_args()
    print(release(arguments.run, arguments.name, arguments.tiles, arguments.work))


if __name__ == "__main__":
    sys.exit(exit_status(main))
