"""Tiles: an aerial image and its road map with the same name, and the table of all tiles."""

from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path, PurePosixPath

from roads.imagery.pictures import read_image_and_map
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, excerpt, one_line
from roads.runtime.files import file_hash, read_csv, table_of, write_csv
from roads.runtime.names import SPLITS, some, sound_name

TILES_FILE = "tiles.csv"


@dataclass(frozen=True)
class StoredFile:
    """A file of `data/raw`: path relative to it, size in bytes, SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Tile:
    """An image and its map as downloaded, with the split of their folder."""

    name: str
    split: str
    image: StoredFile
    map: StoredFile


TILE_COLUMNS = (
    "name", "split", "sat", "sat_bytes", "sat_sha256", "map", "map_bytes", "map_sha256",
)  # fmt: skip


def stored_path(split: str, kind: str, name: str, suffix: str) -> str:
    """The path of a tile's file in `data/raw`, for example `train/sat/10078660_15.tiff`."""
    return f"{split}/{kind}/{name}{suffix}"


def stored_file(raw: Path, path: str) -> StoredFile:
    """The size and hash of the file at `raw / path`."""
    return StoredFile(path, (raw / path).stat().st_size, file_hash(raw / path, "sha256"))


def write_tiles(raw: Path, tiles: list[Tile]) -> None:
    """Write `tiles.csv`, sorted by split and name."""
    ordered = sorted(tiles, key=lambda tile: (SPLITS.index(tile.split), tile.name))
    rows = ((t.name, t.split, *astuple(t.image), *astuple(t.map)) for t in ordered)
    write_csv(raw / TILES_FILE, TILE_COLUMNS, rows)


def read_tiles(raw: Path) -> list[Tile]:
    """The tiles of `tiles.csv`, in its order.

    Raises:
        UserError: the table is missing, or was not written by the download stage.
    """
    table = raw / TILES_FILE
    with table_of("download", table):
        tiles = [
            Tile(
                name=row["name"],
                split=row["split"],
                image=StoredFile(row["sat"], int(row["sat_bytes"]), row["sat_sha256"]),
                map=StoredFile(row["map"], int(row["map_bytes"]), row["map_sha256"]),
            )
            for _, row in read_csv(table, TILE_COLUMNS)
        ]
        if not all(map(_lies_in_its_place, tiles)) or len({t.name for t in tiles}) < len(tiles):
            raise ValueError
    return tiles


def read_by_hand(path: Path, columns: Sequence[str]) -> list[tuple[int, dict[str, str]]]:
    """As `read_csv`, for a table in Git that people edit, with a column `name`.

    Raises:
        UserError: the file is missing, is no such table, or a name cannot be that of a tile.
    """
    try:
        rows = read_csv(path, columns)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it: `git restore {path}`") from None
    except ValueError as error:
        raise UserError(
            f"{path} is not a CSV file of {','.join(columns)} in UTF-8: {one_line(error)}"
        ) from None
    for line, row in rows:
        if not sound_name(row["name"]):
            raise UserError(
                f"{path}, line {line}: {excerpt(row['name'])} is not the name of a tile"
            )
    return rows


def check_known(path: Path, names: Collection[str], known: Collection[str], raw: Path) -> None:
    """Raise a UserError if `path`, written by hand, names tiles that are not in `raw`."""
    unknown = sorted({*names}.difference(known))
    if unknown:
        raise UserError(
            f"{path} names tiles that are not in {raw}: {some(unknown)}. "
            "Correct the names or remove the lines."
        )


def _lies_in_its_place(tile: Tile) -> bool:
    return (
        sound_name(tile.name)
        and tile.split in SPLITS
        and all(
            file.path == stored_path(tile.split, kind, tile.name, PurePosixPath(file.path).suffix)
            for kind, file in (("sat", tile.image), ("map", tile.map))
        )
    )


def read_pair(raw: Path, tile: Tile) -> tuple[Image8, Image8]:
    """Decode a tile's image and map.

    Raises:
        UserError: as `read_image_and_map`.
    """
    return read_image_and_map(raw / tile.image.path, raw / tile.map.path)
