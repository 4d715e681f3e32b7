"""Compares a PNG file for each crop and mask, as in most public code, with stacks and packs.

Seconds to write them, number of files, bytes, seconds of `dvc add` and `dvc checkout`, and crops
read per second in random order.
"""

import functools
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.data_stages import AIMED_AT, ROOT, Stages, by_tile, timed
from benchmarks.report import parser, save, scratch
from benchmarks.tiles import raw_tiles
from roads.dataset.crops import Crop
from roads.dataset.packs import PackReader
from roads.dataset.tiles import Tile, read_pair, read_tiles
from roads.parallel.pool import in_order

READS = 1000  # crops
OURS, PLAIN = ["data/crops", "data/masks", "data/packed"], ["images", "masks"]


def save_pngs(raw: Path, out: Path, size: int, job: tuple[Tile, list[Crop]]) -> None:
    """Write a tile's crops and masks as separate files."""
    tile, crops = job
    image, map_ = read_pair(raw, tile)
    for crop in crops:
        window = np.s_[crop.top : crop.top + size, crop.left : crop.left + size]
        name = f"{tile.name}_{crop.page:02}.png"
        Image.fromarray(image[window]).save(out / "images" / name)
        Image.fromarray(map_[window] > 100).save(out / "masks" / name)


def write_plain(stages: Stages, out: Path) -> None:
    """Write all crops and masks as PNG files, without stacks in between."""
    for kind in PLAIN:
        (out / kind).mkdir(parents=True)
    members = by_tile(stages.crops)
    jobs = [(tile, members[tile.name]) for tile in read_tiles(stages.raw) if tile.name in members]
    list(in_order(functools.partial(save_pngs, stages.raw, out, stages.size), jobs, "PNG"))


def dvc_seconds(repository: Path, folders: list[str]) -> dict[str, float]:
    """Seconds of `dvc add` and `dvc checkout` of folders, in a new DVC repository."""

    def dvc(*words: str) -> float:
        command = [sys.executable, "-m", "dvc", *words, "--quiet"]
        return timed(lambda: subprocess.run(command, cwd=repository, check=True))

    subprocess.run(["git", "init", "--quiet"], cwd=repository, check=True)
    dvc("init")
    shutil.copyfile(ROOT / ".dvc/config", repository / ".dvc/config")
    add = dvc("add", *folders)
    for folder in folders:
        shutil.rmtree(repository / folder)
    return {"add": add, "checkout": dvc("checkout")}


def size_of(root: Path, folders: list[str]) -> dict[str, int]:
    """The number of files and MiB in folders."""
    files = [path for folder in folders for path in (root / folder).rglob("*") if path.is_file()]
    return {"files": len(files), "mib": round(sum(path.stat().st_size for path in files) / 2**20)}


def reads_per_second(stages: Stages, plain: Path) -> dict[str, float]:
    """Crops with their masks read per second in random order, from packs and from PNG files."""
    draw = np.random.default_rng(0)
    with PackReader(stages.packed) as pack:
        rows = draw.integers(0, pack.rows("train"), READS)
        pack.read("train", rows)
        start = time.perf_counter()
        for first in range(0, READS, 16):
            pack.read("train", rows[first : first + 16])
        packed = READS / (time.perf_counter() - start)
    names = sorted(path.name for path in (plain / "images").iterdir())
    chosen = [names[number] for number in draw.integers(0, len(names), READS // 4)]
    start = time.perf_counter()
    for name in chosen:
        for kind in PLAIN:
            with Image.open(plain / kind / name) as picture:
                np.asarray(picture)
    return {"packed": packed, "png": len(chosen) / (time.perf_counter() - start)}


def measure(folder: Path, count: int) -> dict[str, Any]:
    """Measure both formats on the same tiles, one after the other."""
    stages, plain = Stages(folder / "stacked", raw_tiles(folder, count)), folder / "plain"
    ours = {stage: timed(work) for stage, work in stages.work.items()}
    plain_seconds = timed(lambda: write_plain(stages, plain))
    reads = reads_per_second(stages, plain)
    values = {
        "tiles": count,
        "ours": {
            "seconds": round(sum(ours[stage] for stage in AIMED_AT), 2),
            **size_of(stages.folder, OURS),
            **dvc_seconds(stages.folder, OURS),
            "reads": round(reads["packed"]),
        },
        "plain": {
            "seconds": round(plain_seconds, 2),
            **size_of(plain, PLAIN),
            **dvc_seconds(plain, PLAIN),
            "reads": round(reads["png"]),
        },
    }
    for folder_ in (stages.folder, plain):
        shutil.rmtree(folder_)
    return values


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--tiles", type=int, default=64)
    arguments = options.parse_args()
    with scratch(arguments) as folder:
        values = measure(folder, arguments.tiles)
    print(values)
    save(arguments, values)


if __name__ == "__main__":
    main()
