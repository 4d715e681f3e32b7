"""pack-h5: pack crops and masks into two HDF5 files.

The result is `data/packed`: `images.h5` and `masks.h5`, each with datasets `train`, `valid` and
`test` of matching rows; `rows.csv`, which says which crop each row is; and `counts.json`, what was
kept and dropped so far, and why. Where `data/label_notes.csv` has boxes in crops, `masks.h5` has
them too. `metrics/data.json` has the number of crops of each split.
"""

import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roads.dataset.crops import CROPS_FILE, IMAGE_FOLDER, PIXELS_FILE, Crop, read_crops, read_pixels
from roads.dataset.handpicked import read_verdicts
from roads.dataset.label_notes import Notes, read_notes
from roads.dataset.packs import COUNTS_FILE, IMAGE_CHANNELS, ROWS_COLUMNS, ROWS_FILE, pack_writer
from roads.dataset.stacks import read_stack
from roads.params.pack import PackParams
from roads.params.whole import read_params
from roads.runtime.arrays import Image8, Int64
from roads.runtime.errors import UserError
from roads.runtime.files import write_csv, write_json
from roads.runtime.names import SPLITS
from roads.runtime.progress import progress
from roads.runtime.stage import stage_paths, stage_status

CROPS_AT_ONCE = 256  # in memory; a tile may have thousands

Pixels = Mapping[tuple[str, int], tuple[int, int]]


def pack_h5(
    crops: Path,
    masks: Path,
    handpicked: Path,
    notes: Notes,
    packed: Path,
    metrics: Path,
    params: PackParams,
) -> None:
    """Pack the crops of `crops` and the masks of `masks` into the folder `packed`.

    Args:
        crops, masks: stacks of crops and of their masks.
        handpicked: the table of which tiles were kept.
        notes: the boxes to ignore of each tile.
        packed: the folder to fill.
        metrics: the JSON file of the numbers of crops.
        params: which crops are left out.

    Raises:
        UserError: a stack is broken, or `pack.min_road` leaves a split without crops.
    """
    index = read_crops(crops / CROPS_FILE)
    pixels = read_pixels(masks / PIXELS_FILE)
    kept = [crop for crop in index if crop.kept]
    if not kept or not {(crop.tile, crop.page) for crop in kept} <= pixels.keys():
        raise UserError(
            f"{crops / CROPS_FILE} and {masks / PIXELS_FILE} do not match. "
            "Run `dvc repro -f binarize`."
        )
    side = _crop_side(crops / IMAGE_FOLDER, kept[0].tile)
    area = side**2
    chosen = [c for c in kept if _road_enough(c.split, pixels[c.tile, c.page][1], area, params)]
    rows = Counter(crop.split for crop in chosen)
    for split in SPLITS:
        if not rows[split]:
            raise UserError(f"pack.min_road={params.min_road:g} leaves no {split} crops")

    # One process: copying pages into the packs costs less than sending them between processes.
    by_tile = [list(group) for _, group in itertools.groupby(chosen, lambda crop: crop.tile)]
    numbered = _numbered(chosen)
    boxes = _ignored(numbered, notes, side)
    with pack_writer(packed, rows, side, boxes) as writer:
        for group in progress(by_tile, "pack-h5"):
            for block, images, roads in _read_tile(crops / IMAGE_FOLDER, masks, group, side):
                for split in SPLITS:
                    places = [place for place, crop in enumerate(block) if crop.split == split]
                    writer.append(split, images[places], roads[places])
    write_csv(packed / ROWS_FILE, ROWS_COLUMNS, numbered)
    write_json(packed / COUNTS_FILE, _counts(handpicked, index, chosen, pixels, area))
    write_json(metrics, {f"{split}_crops": rows[split] for split in SPLITS})
    counts = ", ".join(f"{rows[split]} {split}" for split in SPLITS)
    print(f"pack-h5: {counts} crops", file=sys.stderr)
    if notes:
        touched = len({(split, row) for split, row, *_ in boxes.tolist()})
        print(f"pack-h5: label notes cover parts of {touched} crops", file=sys.stderr)


def _road_enough(split: str, road: int, area: int, params: PackParams) -> bool:
    """Whether a crop has enough road to be packed.

    The measure is the article's: road pixels per background pixel. It normally applies to training
    only, because a test set without empty crops inflates scores.
    """
    if split != "train" and not params.min_road_everywhere:
        return True
    return road >= params.min_road * (area - road)


def _crop_side(images: Path, tile: str) -> int:
    for page in read_stack(images / f"{tile}.tif"):
        return len(page)
    raise UserError(f"{images / tile}.tif has no page. Run `dvc repro -f crop`.")


def _read_tile(
    images: Path, masks: Path, crops: Sequence[Crop], side: int
) -> Iterator[tuple[Sequence[Crop], Image8, Image8]]:
    """Yield the chosen crops of one tile and their 0/1 masks, up to CROPS_AT_ONCE at a time.

    Yields:
        n crops, (n, side, side, 3) uint8 and (n, side, side) uint8.
    """
    name, pages = f"{crops[0].tile}.tif", {crop.page for crop in crops}
    pictures = _read_pages(images / name, pages, (side, side, IMAGE_CHANNELS), "crop")
    roads = _read_pages(masks / name, pages, (side, side), "binarize")
    for start in range(0, len(crops), CROPS_AT_ONCE):
        block = crops[start : start + CROPS_AT_ONCE]
        picture_block, road_block = (
            np.stack(list(itertools.islice(source, len(block))), dtype=np.uint8)
            for source in (pictures, roads)
        )
        yield block, picture_block, road_block


def _read_pages(
    path: Path, pages: set[int], shape: tuple[int, ...], stage: str
) -> Iterator[Image8 | NDArray[np.bool_]]:
    found = 0
    for number, page in enumerate(read_stack(path)):
        if number in pages and page.shape == shape:
            found += 1
            yield page
    if found < len(pages):
        raise UserError(
            f"{path} does not have the pages that {CROPS_FILE} names. Run `dvc repro -f {stage}`."
        )


def _numbered(crops: Sequence[Crop]) -> list[tuple[str, int, str, int, int, int]]:
    """A line of `rows.csv` per crop: its split, its row in that dataset, and its source."""
    numbers = {split: itertools.count() for split in SPLITS}
    return [(c.split, next(numbers[c.split]), c.tile, c.page, c.top, c.left) for c in crops]


def _ignored(
    numbered: Sequence[tuple[str, int, str, int, int, int]], notes: Notes, side: int
) -> Int64:
    """The boxes of all crops, as packed."""
    boxes = [
        (SPLITS.index(split), row, *box)
        for split, row, tile, _, top, left in numbered
        for note in notes.get(tile, ())
        if (box := note.within(top, left, side))
    ]
    return np.array(boxes, np.int64).reshape(-1, 6)


def _counts(
    handpicked: Path, index: Sequence[Crop], chosen: Sequence[Crop], pixels: Pixels, area: int
) -> dict[str, Any]:
    """The contents of `counts.json`."""
    verdicts = read_verdicts(handpicked).values()
    tiles = Counter((keep, why.startswith("by hand")) for keep, why in verdicts)
    kept_tiles = tiles[True, False] + tiles[True, True]
    kept = sum(crop.kept for crop in index)
    return {
        "tiles": {
            "found": len(verdicts),
            "kept": kept_tiles,
            "dropped_blank": tiles[False, False],
            "dropped_by_hand": tiles[False, True],
            "kept_by_hand": tiles[True, True],
            "smaller_than_a_crop": kept_tiles - len({crop.tile for crop in index}),
        },
        "crops": {
            "cut": len(index),
            "dropped_blank": len(index) - kept,
            "dropped_little_road": kept - len(chosen),
            "packed": len(chosen),
        },
    } | {split: _split_counts(split, chosen, pixels, area) for split in SPLITS}


def _split_counts(split: str, chosen: Sequence[Crop], pixels: Pixels, area: int) -> dict[str, Any]:
    members = [crop for crop in chosen if crop.split == split]
    counts = [pixels[crop.tile, crop.page] for crop in members]
    total = area * len(members)
    return {
        "tiles": len({crop.tile for crop in members}),
        "crops": len(members),
        "grey": round(sum(grey for grey, _ in counts) / total, 6),
        "road": round(sum(road for _, road in counts) / total, 6),
    }


def main() -> None:
    paths = stage_paths(__doc__, "crops", "masks", "handpicked", "notes", "raw", "out", "metrics")
    params = read_params()
    pack_h5(
        paths.crops,
        paths.masks,
        paths.handpicked,
        read_notes(paths.notes, paths.raw),
        paths.out,
        paths.metrics,
        params.pack,
    )


if __name__ == "__main__":
    sys.exit(stage_status(main))
