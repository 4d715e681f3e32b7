"""Releases trained weights: creates a folder in models/released/ with their scores and card.

    python -m benchmarks.release NET --record record.json --name NAME --tiles FOLDER --work FOLDER
    make cards FOLDER=FOLDER    # scores all releases again

NET is a folder with weights and their description, such as `last/` or `best/` from
`benchmarks.gpu_run`, which writes `record.json` next to them. Kernels are stored as float16, which
halves the file. The stored weights are calibrated on the validation crops of the tiles, and then
scored by the last stage, without and with flips and turns, on the tiles and on a small sample.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.model_card import model_card
from benchmarks.without_dvc import PROJECT, StagesAlone, tiles_from
from roads.dataset.packs import PackReader
from roads.models.weights import (
    RELEASED,
    SCORES_FILE,
    WEIGHTS_FILE,
    description_path,
    load_model,
    read_description,
    store_half,
)
from roads.recipes import changed_params
from roads.runtime.errors import UserError, exit_status
from roads.runtime.files import file_hash, replacing_folder, write_json
from roads.training.batches import CropBatches
from roads.training.calibration import fit_temperature

RECORD_FILE = "record.json"  # next to released weights: how they were trained
PACK, PACKED = "pack-h5", "data/packed"
SCORES, COUNTS = "metrics/test/scores.json", f"{PACKED}/counts.json"  # outputs of stages
LARGEST = 20_000_000  # bytes
TRAINING = ("unet", "augment", "train")  # sections that only training uses
SAMPLE: dict[str, Any] = {
    "sample.size": 512,
    "sample.train": 1,
    "sample.valid": 2,
    "sample.test": 2,
}


def evaluation(changes: Mapping[str, Any], nets: Path, name: str) -> dict[str, Any]:
    """The params to score the net `name` in the folder `nets` on a run's data."""
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
    """The scores of a net on the tiles, without and with flips and turns, and on the sample."""
    pipeline = StagesAlone(work / "tiles")
    found: dict[str, Any] = {}
    for tta in (True, False):
        pipeline.run(evaluation({**changes, **tiles, "evaluate.tta": tta}, nets, name))
        found = pipeline.read_json(SCORES) | ({"tta": found} if found else {})
    sample = StagesAlone(work / "sample")
    sample.run(evaluation(SAMPLE, nets, name))
    counts = pipeline.read_json(COUNTS)
    return found | {"sample": sample.read_json(SCORES), "data": counts}


def calibrate(
    weights: Path, changes: Mapping[str, Any], tiles: Mapping[str, Any], work: Path
) -> None:
    """Fit the temperature in the description of weights to the validation crops of the tiles."""
    pipeline = StagesAlone(work / "tiles")
    pipeline.run(evaluation({**changes, **tiles}, weights.parent.parent, weights.parent.name), PACK)
    net, description = load_model(weights)
    with PackReader(pipeline.folder / PACKED) as pack:
        ignore_blank = description.training["ignore_blank"]
        temperature = fit_temperature(net, CropBatches(pack, "valid", 4, ignore_blank=ignore_blank))
    description = description.model_copy(update={"temperature": temperature})
    write_json(description_path(weights), description.model_dump(mode="json"))


def release(net: Path, recorded: Path, name: str, tiles: Path, work: Path) -> Path:
    """Store, score and describe weights; returns the released folder.

    Raises:
        UserError: a file is missing or too large, or a stage failed.
    """
    try:
        record = json.loads(recorded.read_text(encoding="utf-8"))
        digest = file_hash(net / WEIGHTS_FILE, "md5")
    except FileNotFoundError as error:
        raise UserError(f"{error.filename} is missing") from None
    # Stages run again only if params differ, so other weights need another folder.
    half = work / "nets" / digest / name
    half.mkdir(parents=True, exist_ok=True)
    weights = half / WEIGHTS_FILE
    store_half(net / WEIGHTS_FILE, weights)
    if weights.stat().st_size > LARGEST:
        raise UserError(
            f"{weights} has {weights.stat().st_size:,} bytes: a release may have {LARGEST:,}"
        )
    shutil.copyfile(net / description_path(weights).name, description_path(weights))
    calibrate(weights, record["changes"], tiles_from(tiles), work)
    scores = score(record["changes"], tiles_from(tiles), half.parent, name, work)
    if "tiles" not in scores:
        raise UserError("there are no scores of whole tiles, which a release needs")
    with replacing_folder(PROJECT / RELEASED / name) as folder:
        for path in (weights, description_path(weights)):
            shutil.copyfile(path, folder / path.name)
        write_json(folder / RECORD_FILE, record)
        write_card(folder, name, record, scores)
    return PROJECT / RELEASED / name


def write_card(
    folder: Path, name: str, record: Mapping[str, Any], scores: Mapping[str, Any]
) -> None:
    """Write the scores and the card of the weights in `folder`."""
    weights = folder / WEIGHTS_FILE
    card = model_card(name, read_description(weights), record, scores, weights.stat().st_size)
    write_json(folder / SCORES_FILE, scores)
    (folder / "README.md").write_text(card, encoding="utf-8")


def score_again(tiles: Path, work: Path) -> None:
    """Score every released net, and rewrite its scores and card."""
    nets = PROJECT / RELEASED
    for recorded in sorted(nets.glob(f"*/{RECORD_FILE}")):
        name, record = recorded.parent.name, json.loads(recorded.read_text(encoding="utf-8"))
        scores = score(record["changes"], tiles_from(tiles), nets, name, work)
        write_card(recorded.parent, name, record, scores)
        print(recorded.parent)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "net", type=Path, nargs="?", help="folder with weights and their description; without one, "
        "all releases are scored again",
    )  # fmt: skip
    parser.add_argument("--record", type=Path, help="record.json of the run")
    parser.add_argument("--name", help="of the release")
    parser.add_argument("--tiles", type=Path, required=True, help="folder of image and map pairs")
    parser.add_argument("--work", type=Path, required=True, help="folder for intermediate files")
    args = parser.parse_args()
    if args.net is None:
        score_again(args.tiles, args.work)
    elif args.record is None or args.name is None:
        parser.error("a release needs --record and --name")
    else:
        print(release(args.net, args.record, args.name, args.tiles, args.work))


if __name__ == "__main__":
    sys.exit(exit_status(main))
