"""Label notes: boxes in which a person found the label wrong, so that their pixels do not count."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from roads.dataset.tiles import check_known, read_by_hand, read_tiles
from roads.imagery.pictures import read_map
from roads.runtime.arrays import Bool
from roads.runtime.errors import UserError, excerpt

NOTES_COLUMNS = ("name", "top", "left", "bottom", "right", "reason")


class Box(NamedTuple):
    """Rows [top, bottom) and columns [left, right) of a tile or a crop, in pixels."""

    top: int
    left: int
    bottom: int
    right: int

    def within(self, top: int, left: int, side: int) -> "Box | None":
        """The part in the crop (side, side) at a corner, in its pixels; None if there is none."""
        box = Box(*np.subtract(self, (top, left, top, left)).clip(0, side).tolist())
        return box if box.top < box.bottom and box.left < box.right else None


Notes = dict[str, list[Box]]  # by the name of the tile


def read_notes(path: Path, raw: Path) -> Notes:
    """Read the boxes to ignore of each tile.

    Args:
        path: CSV of NOTES_COLUMNS, written by hand.
        raw: the tiles as downloaded.

    Raises:
        UserError: the file is missing or no such CSV, a tile is not in `raw`, or a box is empty or
            not within its tile.
    """
    rows = read_by_hand(path, NOTES_COLUMNS)
    tiles = {tile.name: tile for tile in read_tiles(raw)} if rows else {}
    check_known(path, [row["name"] for _, row in rows], tiles, raw)
    notes: Notes = {}
    sizes: dict[str, tuple[int, ...]] = {}
    for line, row in rows:
        name, values = row["name"], [row[column] for column in NOTES_COLUMNS[1:5]]
        if not all(value.isdecimal() and len(value) < 10 for value in values):
            raise UserError(
                f"{path}, line {line}: {excerpt(','.join(values))} are not four whole numbers of "
                "pixels: top, left, bottom, right"
            )
        box = Box(*map(int, values))
        if name not in sizes:
            sizes[name] = read_map(raw / tiles[name].map.path).shape
        height, width = sizes[name]
        if not (box.top < box.bottom <= height and box.left < box.right <= width):
            raise UserError(
                f"{path}, line {line}: the box {','.join(values)} (top, left, bottom, right) is "
                f"empty or not within {name}, which has {height} rows and {width} columns"
            )
        notes.setdefault(name, []).append(box)
    return notes


def ignored_pixels(boxes: Sequence[Box], shape: tuple[int, ...]) -> Bool:
    """Which pixels of a tile, (height, width), lie in a box."""
    ignored = np.zeros(shape, np.bool_)
    for top, left, bottom, right in boxes:
        ignored[top:bottom, left:right] = True
    return ignored
