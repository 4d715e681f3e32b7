"""Whole tiles to evaluate on: which ones, their images and their roads."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from roads.dataset.crops import CROPS_FILE, read_crops
from roads.dataset.handpicked import kept_names
from roads.dataset.masks import road_mask
from roads.dataset.tiles import Tile, read_pair, read_tiles
from roads.params.binarize import BinarizeParams
from roads.runtime.arrays import Bool, Image8
from roads.runtime.names import SPLITS
from roads.runtime.progress import progress


@dataclass(frozen=True)
class WholeTiles:
    """The kept tiles of each split, and the names of the dropped test tiles."""

    train: list[Tile]
    valid: list[Tile]
    test: list[Tile]
    dropped: list[str]


def find_whole_tiles(raw: Path, handpicked: Path, crops: Path, by: str) -> WholeTiles:
    """Find the tiles of each split.

    Args:
        raw: the tiles as downloaded.
        handpicked: the table of which tiles were kept.
        crops: has the index of crops.
        by: how tiles were split. `official` is by a tile's folder, even if the tile is too small
            for a crop. `tile` is by the index of crops; tiles without crops, such as dropped ones,
            are in no split. Under `crop` no tile belongs to a single split.

    Raises:
        UserError: a table is missing or damaged.
    """
    tiles, kept = read_tiles(raw), kept_names(handpicked)
    if by == "official":
        splits = {tile.name: tile.split for tile in tiles}
    else:
        splits = {crop.tile: crop.split for crop in read_crops(crops / CROPS_FILE)}
    tiles = [tile for tile in tiles if tile.name in kept]
    by_split = {s: [tile for tile in tiles if splits.get(tile.name) == s] for s in SPLITS}
    return WholeTiles(
        **by_split,
        dropped=sorted(
            name for name, split in splits.items() if split == "test" and name not in kept
        ),
    )


def read_labelled(
    raw: Path, tiles: Sequence[Tile], binarize: BinarizeParams, title: str
) -> Iterator[tuple[Tile, Image8, Bool]]:
    """Yield each tile with its image (height, width, 3) and its road (height, width).

    Only one tile is in memory at a time. A progress bar is shown on a terminal.
    """
    for tile in progress(tiles, title):
        image, map_ = read_pair(raw, tile)
        yield tile, image, road_mask(map_, binarize)
