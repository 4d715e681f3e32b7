"""The parts of `benchmarks.gpu_run` that import the project; each runs in its own process.

python -m benchmarks.gpu_work plan|prepare|measure|halve ARGUMENTS_AS_JSON
"""

import json
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.without_dvc import PROJECT, StagesAlone, tiles_from
from roads.dataset.grid import cut, window_corners
from roads.dataset.packs import PackReader, pack_writer
from roads.imagery.blank import blank_mask
from roads.imagery.pictures import read_image, read_map
from roads.models.backend import device_name, keras, resolve_precision, versions
from roads.models.unet import build_unet
from roads.models.weights import WEIGHTS_FILE, description_path, store_half
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.recipes import changed_params, read_changes, read_recipe
from roads.runtime.errors import UserError, exit_status
from roads.runtime.names import SPLITS
from roads.runtime.params import load_params, read_section
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.fit import fit

STEPS = 128  # to measure the speed


def plan(recipe: Path, changes: list[str], tiles: Path, commit: str) -> dict[str, Any]:
    """All params of a run, and the first part of its record.

    Raises:
        UserError: a key or the folder does not exist.
    """
    changed = read_recipe(recipe) | read_changes(changes)
    params = changed_params(changed | tiles_from(tiles))
    folder = PROJECT / params["train"]["weights_folder"]  # training runs in another folder
    params["train"]["weights_folder"] = str(folder)
    return {
        "params": params,
        "record": {
            "changes": {"download.source": "folder", **changed},
            "commit": commit or git_commit(),
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": {
                "python": platform.python_version(),
                "numpy": metadata.version("numpy"),
                **versions(),
            },
        },
    }


def git_commit() -> str | None:
    """The commit of this checkout, with `-dirty` if it was edited; None without Git."""
    words = shlex.split("git describe --always --dirty --abbrev=40 --exclude=*")
    try:
        answer = subprocess.run(words, cwd=PROJECT, capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return answer.stdout.strip() or None


def prepare(tiles: Path, work: Path) -> None:
    """Create `work/packed` with the pipeline's stages, or without them if one fails."""
    params = load_params(work / "params.yaml")
    packed = work / "packed"
    try:
        pipeline = StagesAlone(work / "pipeline")
        pipeline.run(params, last="pack-h5")
        made = pipeline.folder / "data/packed"
    except Exception as error:
        print(f"the data stages failed ({error}); the tiles are decoded without them", flush=True)
        made = work / "decoded"
        decode(tiles, made, params)
    packed.unlink(missing_ok=True)
    packed.symlink_to(made)
    with PackReader(packed) as pack:
        for split in SPLITS:
            print(f"{split}: {pack.rows(split)} crops of {pack.size} pixels", flush=True)


def decode(tiles: Path, packed: Path, params: Mapping[str, Any]) -> None:
    """Cut and pack tiles in folders `SPLIT/sat` and `SPLIT/map`, ignoring unreadable ones.

    As in the stages, every split has the tiles of its folder, and crops with a blank fraction above
    `crop.max_blank` are dropped.
    """
    crop, threshold = params["crop"], params["binarize"]["threshold"]
    size = crop["size"]
    found: dict[str, list[tuple[Any, Any]]] = {split: [] for split in SPLITS}
    for split in SPLITS:
        maps = {path.stem: path for path in sorted((tiles / split / "map").glob("*"))}
        for path in sorted((tiles / split / "sat").glob("*")):
            try:
                image = read_image(path)
                mask = (read_map(maps[path.stem]) > threshold).astype(np.uint8)
            except (UserError, KeyError) as error:
                print(f"{path} is ignored: {error}", flush=True)
                continue
            blank = blank_mask(image)
            height, width = mask.shape
            for top, left in window_corners(height, width, size, crop["stride"], crop["edge"]):
                if cut(blank, top, left, size).mean() <= crop["max_blank"]:
                    pair = cut(image, top, left, size), cut(mask, top, left, size)
                    found[split].append(pair)
    rows = {split: len(pairs) for split, pairs in found.items()}
    with pack_writer(packed, rows, size) as writer:
        for split, pairs in found.items():
            for image, mask in pairs:
                writer.append(split, image[None], mask[None])


class Timer(keras.callbacks.Callback):
    """Times STEPS steps after the first, then stops the training."""

    def __init__(self, batch_size: int):
        super().__init__()
        self.batch_size = batch_size
        self.first: int | None = None
        self.speed = 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        self.start = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        float((logs or {})["loss"])  # waits for the device
        now = time.monotonic()
        if self.first is None:
            self.first, self.first_call, self.since = batch, now - self.start, now
        elif batch - self.first >= STEPS:
            self.speed = (batch - self.first) * self.batch_size / (now - self.since)
            self.model.stop_training = True


def measure(packed: Path, report: Path) -> None:
    """Measure the windows per second of a training with params.yaml, and its first call."""
    train = read_section(TrainParams, "train")
    train = train.model_copy(
        update={"minutes": 1e6, "precision": resolve_precision(train.precision)}
    )
    unet, augmentation = read_section(UnetParams, "unet"), read_section(AugmentParams, "augment")
    timer = Timer(train.batch_size)
    with PackReader(packed) as pack, tempfile.TemporaryDirectory() as folder:
        blank = train.ignore_blank
        fit(
            build_unet(unet, train.precision, train.seed),
            CropBatches(
                pack, "train", train.batch_size, train.seed, ignore_blank=blank,
                augmentation=augmentation,
            ),
            CropBatches(pack, "valid", train.batch_size, ignore_blank=blank),
            train,
            backup=Backup(Path(folder), "measured"),
            callbacks=[timer],
        )  # fmt: skip
        values = {
            "windows_per_second": timer.speed,
            "first_call": timer.first_call,
            "window": augmentation.window or pack.size,
            "crops": pack.rows("train"),
            "device": device_name(),
        }
    report.write_text(json.dumps(values))


def halve(model: Path, to: Path) -> None:
    """Copy a net with kernels as float16."""
    to.mkdir(parents=True, exist_ok=True)
    store_half(model / WEIGHTS_FILE, to / WEIGHTS_FILE)
    name = description_path(model / WEIGHTS_FILE).name
    shutil.copyfile(model / name, to / name)


def main() -> None:
    verb, words = sys.argv[1:]
    arguments = json.loads(words)
    for name in arguments.keys() - {"changes", "commit"}:
        arguments[name] = Path(arguments[name])
    verbs: dict[str, Callable[..., Any]] = {
        "plan": plan, "prepare": prepare, "measure": measure, "halve": halve,
    }  # fmt: skip
    answer = verbs[verb](**arguments)
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    sys.exit(exit_status(main))
