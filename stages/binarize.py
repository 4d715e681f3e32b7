"""binarize: threshold the crops' maps into 0/1 masks.

The result is `data/masks`: one one-bit TIFF stack per tile, with the same pages as in `data/crops`,
and `pixels.csv`, the numbers of grey and road pixels of every crop.
"""

import functools
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from roads.dataset.crops import CROPS_FILE, MAP_FOLDER, PIXELS_COLUMNS, PIXELS_FILE, kept_crops
from roads.dataset.masks import road_mask
from roads.dataset.stacks import read_stack, write_stack
from roads.parallel.pool import in_order
from roads.params.binarize import BinarizeParams
from roads.params.whole import read_params
from roads.runtime.errors import UserError
from roads.runtime.files import replacing_folder, write_csv
from roads.runtime.names import some
from roads.runtime.stage import stage_paths, stage_status


def binarize(crops: Path, masks: Path, params: BinarizeParams) -> None:
    """Threshold the map stacks of `crops` into the folder `masks`; pixels above it are road.

    Raises:
        UserError: no pixel of any map is above the threshold, or all are, or a stack is broken.
    """
    pages = Counter(crop.tile for crop in kept_crops(crops / CROPS_FILE))
    tiles = sorted(pages)
    if not tiles:
        raise UserError(f"{crops / CROPS_FILE} names no crops. Run `dvc repro -f crop`.")
    with replacing_folder(masks) as folder:
        work = functools.partial(
            _binarize_tile, crops.absolute() / MAP_FOLDER, folder.absolute(), params
        )
        counts = list(in_order(work, tiles, "binarize"))
        for tile, count in zip(tiles, counts, strict=True):
            if len(count.rows) != pages[tile]:
                raise UserError(
                    f"{crops / MAP_FOLDER / tile}.tif has {len(count.rows)} pages, and "
                    f"{CROPS_FILE} names {pages[tile]}. Run `dvc repro -f crop`."
                )
        brightest = max(count.brightest for count in counts)
        if brightest <= params.threshold:
            raise UserError(
                f"no map has a road: their brightest pixel is {brightest}, and "
                f"binarize.threshold is {params.threshold}. "
                + ("Set it below the value of a road." if brightest else "Maps are white on black.")
            )
        rows = [row for count in counts for row in count.rows]
        if sum(row[3] for row in rows) == sum(count.pixels for count in counts):
            raise UserError(
                f"every pixel of every map is road: all are above binarize.threshold "
                f"{params.threshold}. Maps are white roads on black"
            )
        write_csv(folder / PIXELS_FILE, PIXELS_COLUMNS, rows)
    dim = [t for t, c in zip(tiles, counts, strict=True) if 0 < c.brightest <= params.threshold]
    if dim:
        print(
            f"binarize: {len(dim)} of {len(tiles)} maps are not empty, but have no pixel above "
            f"binarize.threshold {params.threshold}, so no road: {some(dim)}. "
            "If road is 1 in some maps and 255 in others, set it to 0",
            file=sys.stderr,
        )
    light = [
        tile
        for tile, count in zip(tiles, counts, strict=True)
        if sum(row[3] for row in count.rows) > count.pixels / 2
    ]
    if light:
        print(
            f"binarize: {len(light)} of {len(tiles)} maps are more than half road: {some(light)}. "
            "Maps are white roads on black: are these inverted?",
            file=sys.stderr,
        )
    pixels = sum(count.pixels for count in counts)
    grey = sum(row[2] for row in rows)
    road = sum(row[3] for row in rows)
    print(
        f"binarize: {len(rows)} masks; {road / pixels:.2%} of their pixels are road, "
        f"{grey / pixels:.2%} of the maps' pixels were grey",
        file=sys.stderr,
    )


@dataclass(frozen=True)
class TileCounts:
    """Counts of one tile's maps: a row of `pixels.csv` per crop, and totals."""

    rows: list[tuple[str, int, int, int]]
    pixels: int
    brightest: int


def _binarize_tile(maps: Path, masks: Path, params: BinarizeParams, tile: str) -> TileCounts:
    pages, rows, pixels, brightest = [], [], 0, 0
    for number, page in enumerate(read_stack(maps / f"{tile}.tif")):
        mask = road_mask(page, params)
        grey = np.count_nonzero((page != 0) & (page != 255))
        pages.append(mask)
        rows.append((tile, number, int(grey), int(np.count_nonzero(mask))))
        pixels += page.size
        brightest = max(brightest, int(page.max()))
    if pages:
        write_stack(masks / f"{tile}.tif", pages)
    return TileCounts(rows, pixels, brightest)


def main() -> None:
    paths = stage_paths(__doc__, "crops", "out")
    params = read_params()
    binarize(paths.crops, paths.out, params.binarize)


if __name__ == "__main__":
    sys.exit(stage_status(main))
