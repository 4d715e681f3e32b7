"""Tables of crops: position, split and pixel counts of each."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from roads.runtime.files import read_csv, table_of, write_csv
from roads.runtime.names import SPLITS, sound_name

CROPS_FILE = "index.csv"
IMAGE_FOLDER = "sat"
MAP_FOLDER = "map"
CROP_COLUMNS = ("tile", "split", "page", "top", "left", "blank", "dropped")

PIXELS_FILE = "pixels.csv"
PIXELS_COLUMNS = ("tile", "page", "grey", "road")


@dataclass(frozen=True)
class Crop:
    """A window of a tile; (`top`, `left`) is its first pixel."""

    tile: str  # the tile's name
    split: str  # train, valid or test; empty if the crop was dropped before it was assigned
    page: int  # in the tile's stacks, from 0; -1 if the crop was dropped
    top: int
    left: int
    blank: float  # fraction of missing imagery
    dropped: str  # why it was dropped; empty if it was kept

    @property
    def kept(self) -> bool:
        return not self.dropped


def write_crops(path: Path, crops: Iterable[Crop]) -> None:
    """Write the index of crops, in the given order."""
    rows = (
        (c.tile, c.split, c.page if c.kept else "", c.top, c.left, f"{c.blank:.4f}", c.dropped)
        for c in crops
    )
    write_csv(path, CROP_COLUMNS, rows)


def read_crops(path: Path) -> list[Crop]:
    """All crops of an index, kept and dropped.

    Raises:
        UserError: the index is missing or damaged.
    """
    with table_of("crop", path):
        rows = (row.values() for _, row in read_csv(path, CROP_COLUMNS))
        crops = [
            Crop(tile, split, int(page or -1), int(top), int(left), float(blank), dropped)
            for tile, split, page, top, left, blank, dropped in rows
        ]
        if not (all(map(_possible, crops)) and _in_order(crops)):
            raise ValueError
    return crops


def _possible(crop: Crop) -> bool:
    return (
        sound_name(crop.tile)
        and (crop.split in SPLITS or (crop.split == "" and not crop.kept))
        and crop.kept == (crop.page >= 0)
        and min(crop.top, crop.left) >= 0
        and 0 <= crop.blank <= 1
    )


def _in_order(crops: Iterable[Crop]) -> bool:
    """Whether each tile's pages are numbered from 0, in the order of its stacks."""
    pages: Counter[str] = Counter()
    for crop in crops:
        if crop.kept:
            if crop.page != pages[crop.tile]:
                return False
            pages[crop.tile] += 1
    return True


def kept_crops(path: Path) -> list[Crop]:
    """The kept crops of an index, in its order: by tile, then by page."""
    return [crop for crop in read_crops(path) if crop.kept]


def read_pixels(path: Path) -> dict[tuple[str, int], tuple[int, int]]:
    """The numbers of (grey, road) pixels of every crop, by (tile, page).

    Raises:
        UserError: the table is missing or damaged.
    """
    with table_of("binarize", path):
        rows = (row.values() for _, row in read_csv(path, PIXELS_COLUMNS))
        return {(tile, int(page)): (int(grey), int(road)) for tile, page, grey, road in rows}
