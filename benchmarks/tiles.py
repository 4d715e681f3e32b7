"""Any number of tiles to measure with: eight generated ones, repeated under other names."""

from dataclasses import replace
from pathlib import Path

from roads.dataset.tiles import Tile, read_tiles, write_tiles
from roads.sources import sample

SIZE = 1500  # pixels
GENERATED = {"train": 6, "valid": 1, "test": 1}


def raw_tiles(scratch: Path, count: int) -> Path:
    """A folder like `data/raw` with `count` tiles, as hard links; a multiple of eight is best."""
    base = scratch / "generated"
    if not base.exists():
        base.mkdir(parents=True)
        write_tiles(base, sample.fetch(base, seed=1, size=SIZE, **GENERATED))
    generated = read_tiles(base)
    raw = scratch / f"raw{count}"
    tiles = [
        _linked(base, raw, generated[number % len(generated)], number) for number in range(count)
    ]
    write_tiles(raw, tiles)
    return raw


def _linked(base: Path, raw: Path, tile: Tile, number: int) -> Tile:
    stored = []
    for file in (tile.image, tile.map):
        path = Path(file.path)
        copy = path.with_stem(f"{number:05}_15")
        (raw / copy).parent.mkdir(parents=True, exist_ok=True)
        (raw / copy).unlink(missing_ok=True)
        (raw / copy).hardlink_to(base / path)
        stored.append(replace(file, path=str(copy)))
    return Tile(f"{number:05}_15", tile.split, *stored)
