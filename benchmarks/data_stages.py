"""What the data stages cost above what nobody can avoid.

The floor of a stage decodes each of its inputs once and writes each byte of its outputs once,
with the same libraries, in the same number of processes, and does nothing else. Stage and floor
take turns in one process, so that whatever else runs on the machine slows both. Then every
stage is run as `dvc repro` runs it, for the time that starting Python, importing and starting
processes take, and for the memory of the largest process (files that it maps included).
"""

import contextlib
import functools
import os
import re
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
import psutil
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
from roads.runtime.params import PARAMS_FILE, read_section
from stages.binarize import binarize
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from stages.pack_h5 import pack_h5

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("handpick-filter", "crop", "binarize", "pack-h5")
AIMED_AT = STAGES[1:]  # the target is for these together


class Paths:
    """Where the stages of one measurement read and write."""

    def __init__(self, folder: Path, raw: Path):
        self.folder, self.raw = folder, raw
        self.handpicked, self.sheet = folder / "handpicked.csv", folder / "sheet.png"
        self.crops, self.masks = folder / "crops", folder / "masks"
        self.packed, self.metrics = folder / "packed", folder / "data.json"
        self.floor = folder / "floor"

    def commands(self) -> dict[str, list[str]]:
        """Each stage's command line, as in dvc.yaml but for the paths."""
        picks = ROOT / "data/handpicks.csv"
        words = {
            "handpick-filter": f"handpick_filter --raw {self.raw} --picks {picks} "
            f"--out {self.handpicked} --sheet {self.sheet}",
            "crop": f"crop --raw {self.raw} --handpicked {self.handpicked} --out {self.crops}",
            "binarize": f"binarize --crops {self.crops} --out {self.masks}",
            "pack-h5": f"pack_h5 --crops {self.crops} --masks {self.masks} "
            f"--handpicked {self.handpicked} --out {self.packed} --metrics {self.metrics}",
        }
        return {
            stage: [sys.executable, "-m", *f"stages.{line}".split()]
            for stage, line in words.items()
        }

    def stages(self) -> dict[str, Callable[[], None]]:
        """Each stage as a function, with the params of params.yaml."""
        picks = ROOT / "data/handpicks.csv"
        section = functools.partial(read_section, path=ROOT / PARAMS_FILE)
        handpick, cut = section(HandpickParams, "handpick"), section(CropParams, "crop")
        split, pack = section(SplitParams, "split"), section(PackParams, "pack")
        threshold = section(BinarizeParams, "binarize")
        return {
            "handpick-filter": lambda: handpick_filter(
                self.raw, picks, self.handpicked, self.sheet, handpick
            ),
            "crop": lambda: crop(self.raw, self.handpicked, self.crops, cut, split),
            "binarize": lambda: binarize(self.crops, self.masks, threshold),
            "pack-h5": lambda: pack_h5(
                self.crops, self.masks, self.handpicked, self.packed, self.metrics, pack
            ),
        }

    def remove_outputs(self, stage: str) -> None:
        """Remove what an earlier round of a stage has made."""
        outputs = {"crop": self.crops, "binarize": self.masks, "pack-h5": self.packed}
        if stage in outputs:
            shutil.rmtree(outputs[stage], ignore_errors=True)

    def floors(self) -> dict[str, Callable[[], None]]:
        """What each stage cannot do without; run after the stage, whose outputs it repeats."""
        return {
            "handpick-filter": self._floor_handpick,
            "crop": self._floor_crop,
            "binarize": self._floor_binarize,
            "pack-h5": self._floor_pack,
        }

    def _floor_handpick(self) -> None:
        list(in_order(functools.partial(decode_pair, self.raw), read_tiles(self.raw), "floor"))

    def _floor_crop(self) -> None:
        members = by_tile(self.crops)
        tiles = [tile for tile in read_tiles(self.raw) if tile.name in members]
        size = read_section(CropParams, "crop", ROOT / PARAMS_FILE).size
        for kind in (IMAGE_FOLDER, MAP_FOLDER):
            (self.floor / kind).mkdir(parents=True)
        work = functools.partial(cut_pair, self.raw, self.floor, size)
        list(in_order(work, [(tile, members[tile.name]) for tile in tiles], "floor"))

    def _floor_binarize(self) -> None:
        self.floor.mkdir()
        work = functools.partial(threshold_stack, self.crops / MAP_FOLDER, self.floor)
        list(in_order(work, list(by_tile(self.crops)), "floor"))

    def _floor_pack(self) -> None:
        self.floor.mkdir()
        for name, folder in ((IMAGES_FILE, self.crops / IMAGE_FOLDER), (MASKS_FILE, self.masks)):
            with h5py.File(self.packed / name) as like, h5py.File(self.floor / name, "w") as pack:
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
    """Decode both files of a tile, and write its crops where the stage found them."""
    tile, crops = job
    for kind, file in ((IMAGE_FOLDER, tile.image), (MAP_FOLDER, tile.map)):
        with Image.open(raw / file.path) as picture:
            pixels = np.asarray(picture)
        cuts = [pixels[c.top : c.top + size, c.left : c.left + size] for c in crops]
        write_stack(out / kind / f"{tile.name}.tif", cuts)


def threshold_stack(maps: Path, out: Path, tile: str) -> None:
    """Decode the pages of a map stack, and write as many one-bit pages."""
    write_stack(out / f"{tile}.tif", [page > 100 for page in read_stack(maps / f"{tile}.tif")])


def timed(work: Callable[[], None]) -> float:
    os.sync()  # else it waits for the disk to take what the one before it wrote
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def run_command(command: list[str], folder: Path) -> tuple[float, float]:
    """Seconds and MiB of the largest process of a stage, run in a folder with params.yaml."""
    start = time.perf_counter()
    process = psutil.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    peak = 0.0
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            peak = max(peak, *map(peak_mib, [process, *process.children(recursive=True)]))
        time.sleep(0.02)
    if process.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, peak


def peak_mib(process: psutil.Process) -> float:
    """The most memory that a process has held since it started its program; 0 once it ended."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    found = re.search(r"VmHWM:\s+(\d+) kB", text)
    return int(found[1]) / 1024 if found else 0.0


def measure(folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Seconds of every stage, its floor and its command; ratios round by round."""
    paths = Paths(folder / f"stages{count}", raw_tiles(folder, count))
    paths.folder.mkdir()
    shutil.copyfile(ROOT / PARAMS_FILE, paths.folder / PARAMS_FILE)
    commands = {stage: run_command(line, paths.folder) for stage, line in paths.commands().items()}
    stages, floors = paths.stages(), paths.floors()
    seconds: dict[str, list[float]] = {stage: [] for stage in STAGES}
    least: dict[str, list[float]] = {stage: [] for stage in STAGES}
    for number in range(rounds + 1):
        for stage in STAGES:
            paths.remove_outputs(stage)  # as DVC does before a stage
            whole = timed(stages[stage])
            floor = timed(floors[stage])
            shutil.rmtree(paths.floor, ignore_errors=True)
            if number > 0:  # the first starts the worker processes
                seconds[stage].append(whole)
                least[stage].append(floor)
    totals = [
        sum(seconds[stage][number] for stage in AIMED_AT)
        / sum(least[stage][number] for stage in AIMED_AT)
        for number in range(rounds)
    ]
    shutil.rmtree(paths.folder)
    return {
        "tiles": count,
        "rounds": rounds,
        "ratio": round(statistics.median(totals), 3),
        "stages": {
            stage: {
                "seconds": round(statistics.median(seconds[stage]), 3),
                "floor_seconds": round(statistics.median(least[stage]), 3),
                "ratio": round(
                    statistics.median(
                        a / b for a, b in zip(seconds[stage], least[stage], strict=True)
                    ),
                    3,
                ),
                "command_seconds": round(commands[stage][0], 3),
                "peak_mib": round(commands[stage][1]),
            }
            for stage in STAGES
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
