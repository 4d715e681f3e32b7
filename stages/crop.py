"""crop: cut the kept tiles into square crops, and assign every crop to a split.

The result is `data/crops`: stacks `sat/NAME.tif` and `map/NAME.tif` with one page per kept crop,
never resized, and `index.csv`, which lists every window with its position, split, blank fraction
and, if it was dropped, why.
"""

import functools
import sys
from pathlib import Path

from roads.dataset.crops import CROPS_FILE, IMAGE_FOLDER, MAP_FOLDER, Crop, write_crops
from roads.dataset.grid import cut, window_corners
from roads.dataset.handpicked import kept_names
from roads.dataset.splits import split_crops
from roads.dataset.stacks import write_stack
from roads.dataset.tiles import Tile, read_pair, read_tiles
from roads.imagery.blank import blank_mask
from roads.parallel.pool import in_order
from roads.params.crop import CropParams
from roads.params.split import SplitParams
from roads.params.whole import read_params
from roads.runtime.arrays import Image8
from roads.runtime.files import replacing_folder
from roads.runtime.names import some
from roads.runtime.stage import stage_paths, stage_status


def crop(raw: Path, handpicked: Path, crops: Path, params: CropParams, split: SplitParams) -> None:
    """Cut the tiles that `handpicked` keeps into the folder `crops`.

    Raises:
        UserError: a picture is broken, or a split would have no crops.
    """
    keep = kept_names(handpicked)
    tiles = [tile for tile in read_tiles(raw) if tile.name in keep]
    with replacing_folder(crops) as folder:
        for kind in (IMAGE_FOLDER, MAP_FOLDER):
            (folder / kind).mkdir()
        work = functools.partial(_cut_tile, raw.absolute(), folder.absolute(), params)
        cuts = list(in_order(work, tiles, "crop"))
        too_small = [tile.name for tile, found in zip(tiles, cuts, strict=True) if not found]
        windows = split_crops([window for found in cuts for window in found], split)
        write_crops(folder / CROPS_FILE, windows)
    if too_small:
        print(
            f"crop: {len(too_small)} tiles have no crops because they are smaller than "
            f"{params.size} pixels: {some(too_small)}",
            file=sys.stderr,
        )
    kept = sum(window.kept for window in windows)
    print(f"crop: {kept} of {len(windows)} crops kept", file=sys.stderr)


def _cut_tile(raw: Path, folder: Path, params: CropParams, tile: Tile) -> list[Crop]:
    """Write one tile's stacks; return its windows, with the split of its folder."""
    image, map_ = read_pair(raw, tile)
    blank = blank_mask(image)
    windows: list[Crop] = []
    images: list[Image8] = []
    maps: list[Image8] = []
    height, width = image.shape[:2]
    for top, left in window_corners(height, width, params.size, params.stride, params.edge):
        missing = float(cut(blank, top, left, params.size).mean())
        dropped = "blank" if missing > params.max_blank else ""
        windows.append(Crop(tile.name, tile.split, len(images), top, left, missing, dropped))
        if not dropped:
            images.append(cut(image, top, left, params.size))
            maps.append(cut(map_, top, left, params.size))
    if images:
        write_stack(folder / IMAGE_FOLDER / f"{tile.name}.tif", images)
        write_stack(folder / MAP_FOLDER / f"{tile.name}.tif", maps)
    return windows


def main() -> None:
    paths = stage_paths(__doc__, "raw", "handpicked", "out")
    params = read_params()
    crop(paths.raw, paths.handpicked, paths.out, params.crop, params.split)


if __name__ == "__main__":
    sys.exit(stage_status(main))
