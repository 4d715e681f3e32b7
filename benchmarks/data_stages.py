"""Compares the time of the data stages with an unavoidable minimum.

The floor of a stage only decodes each input once and writes each byte of its outputs once, with the
same libraries and number of processes. Stage and floor take turns in one process, so other load on
the machine slows both. Each stage is also run as in `dvc repro`, to measure the time for starting
Python, imports and worker processes, and the memory of the largest process (with mapped files).
"""

import functools
import os
import shlex
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml
from PIL import Image

from benchmarks.report import parser, save, scratch
from benchmarks.tiles import raw_tiles
from roads.dataset.crops import CROPS_FILE, IMAGE_FOLDER, MAP_FOLDER, Crop, kept_crops
from roads.dataset.packs import IMAGES_FILE, MASKS_FILE
from roads.dataset.stacks import read_stack, write_stack
from roads.dataset.tiles import Tile, read_tiles
from roads.parallel.pool import in_order
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.handpick import HandpickParams
from roads.params.pack import PackParams
from roads.params.split import SplitParams
from roads.runtime.names import SPLITS
from roads.runtime.params import read_section
from stages.binarize import binarize
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from stages.pack_h5 import pack_h5

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("handpick-filter", "crop", "binarize", "pack-h5")
AIMED_AT = STAGES[1:]  # the target is for these together

# Runs a command, and prints the peak KiB of its largest process.
PEAK = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


class Stages:
    """The data stages with the params of params.yaml, in a folder with the project's layout.

    Attributes:
        work: each stage's function.
        floor: the minimal work; to be called after the stage, because it repeats its outputs.
        out: each stage's output.
    """

    def __init__(self, folder: Path, raw: Path):
        self.folder, self.raw, data = folder, raw, folder / "data"
        for inside in (data, folder / "metrics"):
            inside.mkdir(parents=True)
        (data / "raw").symlink_to(raw)
        for name in ("params.yaml", "data/handpicks.csv", "data/label_notes.csv"):
            shutil.copyfile(ROOT / name, folder / name)
        self.crops, self.masks, self.packed = data / "crops", data / "masks", data / "packed"
        picks, handpicked = data / "handpicks.csv", data / "handpicked.csv"
        section = functools.partial(read_section, path=folder / "params.yaml")
        handpick, cut = section(HandpickParams, "handpick"), section(CropParams, "crop")
        split, pack = section(SplitParams, "split"), section(PackParams, "pack")
        threshold = section(BinarizeParams, "binarize")
        self.size = cut.size
        self.out = dict(zip(STAGES, (handpicked, self.crops, self.masks, self.packed), strict=True))
        self.work: dict[str, Callable[[], None]] = {
            "handpick-filter": lambda: handpick_filter(
                raw, picks, handpicked, folder / "sheet.png", handpick
            ),
            "crop": lambda: crop(raw, handpicked, self.crops, cut, split),
            "binarize": lambda: binarize(self.crops, self.masks, threshold),
            "pack-h5": lambda: pack_h5(
                self.crops, self.masks, handpicked, {}, self.packed, folder / "data.json", pack
            ),
        }
        self.floor: dict[str, Callable[[Path], None]] = {
            "handpick-filter": self._floor_handpick,
            "crop": self._floor_crop,
            "binarize": self._floor_binarize,
            "pack-h5": self._floor_pack,
        }

    def run_command(self, stage: str) -> tuple[float, float]:
        """Run a stage's command from dvc.yaml; returns seconds, and MiB of its largest process."""
        line = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"][stage]["cmd"]
        words = [sys.executable, *shlex.split(line)[2:]]  # exec python
        start = time.perf_counter()
        answer = subprocess.run(
            [sys.executable, "-c", PEAK, *words], cwd=self.folder, check=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE,
        )  # fmt: skip
        return time.perf_counter() - start, int(answer.stdout) / 1024

    def _floor_handpick(self, out: Path) -> None:
        list(in_order(functools.partial(decode_pair, self.raw), read_tiles(self.raw), "floor"))

    def _floor_crop(self, out: Path) -> None:
        members = by_tile(self.crops)
        tiles = [tile for tile in read_tiles(self.raw) if tile.name in members]
        for kind in (IMAGE_FOLDER, MAP_FOLDER):
            (out / kind).mkdir()
        work = functools.partial(cut_pair, self.raw, out, self.size)
        list(in_order(work, [(tile, members[tile.name]) for tile in tiles], "floor"))

    def _floor_binarize(self, out: Path) -> None:
        work = functools.partial(threshold_stack, self.crops / MAP_FOLDER, out)
        list(in_order(work, list(by_tile(self.crops)), "floor"))

    def _floor_pack(self, out: Path) -> None:
        for name, folder in ((IMAGES_FILE, self.crops / IMAGE_FOLDER), (MASKS_FILE, self.masks)):
            with h5py.File(self.packed / name) as like, h5py.File(out / name, "w") as pack:
                for split in SPLITS:
                    pack.create_dataset(split, like[split].shape, np.uint8)
                filled = dict.fromkeys(SPLITS, 0)
                for tile, crops in by_tile(self.crops).items():
                    split, first = crops[0].split, filled[crops[0].split]
                    filled[split] = first + len(crops)
                    stack = np.stack(list(read_stack(folder / f"{tile}.tif")), dtype=np.uint8)
                    pack[split][first : filled[split]] = stack.reshape(-1, *pack[split].shape[1:])


def by_tile(crops: Path) -> dict[str, list[Crop]]:
    """The kept crops of each tile, in the order of their pages."""
    members: dict[str, list[Crop]] = {}
    for one in kept_crops(crops / CROPS_FILE):
        members.setdefault(one.tile, []).append(one)
    return members


def decode_pair(raw: Path, tile: Tile) -> None:
    """Decode both files of a tile."""
    for file in (tile.image, tile.map):
        with Image.open(raw / file.path) as picture:
            picture.load()


def cut_pair(raw: Path, out: Path, size: int, job: tuple[Tile, Sequence[Crop]]) -> None:
    """Decode both files of a tile, and write the crops that the stage kept."""
    tile, crops = job
    for kind, file in ((IMAGE_FOLDER, tile.image), (MAP_FOLDER, tile.map)):
        with Image.open(raw / file.path) as picture:
            pixels = np.asarray(picture)
        cuts = [pixels[c.top : c.top + size, c.left : c.left + size] for c in crops]
        write_stack(out / kind / f"{tile.name}.tif", cuts)


def threshold_stack(maps: Path, out: Path, tile: str) -> None:
    """Decode the pages of a map stack, and write them as one-bit pages."""
    write_stack(out / f"{tile}.tif", [page > 100 for page in read_stack(maps / f"{tile}.tif")])


def timed(work: Callable[[], None]) -> float:
    os.sync()  # so the writes of the previous work are not counted
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Seconds of every stage, its floor and its command; ratios are taken per round."""
    stages = Stages(folder / f"stages{count}", raw_tiles(folder, count))
    commands = {stage: stages.run_command(stage) for stage in STAGES}
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    least: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for _ in range(rounds + 1):
        for stage in STAGES:
            shutil.rmtree(stages.out[stage], ignore_errors=True)  # as DVC does before a stage
            seconds[stage].append(timed(stages.work[stage]))
            out = stages.folder / "floor"
            out.mkdir()
            least[stage].append(timed(functools.partial(stages.floor[stage], out)))
            shutil.rmtree(out)
    shutil.rmtree(stages.folder)

    def of(*some: str) -> dict[str, float]:
        """Medians over stages together, without the first round, which starts worker processes."""
        whole, floor = (
            [sum(times) for times in zip(*(found[stage][1:] for stage in some), strict=True)]
            for found in (seconds, least)
        )
        ratios = [one / other for one, other in zip(whole, floor, strict=True)]
        values = {"seconds": whole, "floor_seconds": floor, "ratio": ratios}
        return {name: round(statistics.median(each), 3) for name, each in values.items()}

    return {
        "tiles": count,
        "rounds": rounds,
        "ratio": of(*AIMED_AT)["ratio"],
        "stages": {
            stage: of(stage) | {"command_seconds": round(taken, 3), "peak_mib": round(peak)}
            for stage, (taken, peak) in commands.items()
        },
    }


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tiles", type=int, default=8)
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    with scratch(arguments) as folder:
        values = measure(folder, arguments.tiles, arguments.rounds)
    for stage, found in values["stages"].items():
        print(stage, found)
    print(f"{arguments.tiles} tiles: {values['ratio']} times the floor ({', '.join(AIMED_AT)})")
    save(arguments, values)


if __name__ == "__main__":
    main()
