"""Small tiles for tests, made on the spot."""

from pathlib import Path

import numpy as np
from PIL import Image

from roads.dataset.tiles import Tile, stored_file, stored_path, write_tiles
from roads.runtime.arrays import Image8

RNG_SEED = 7


def picture(height: int, width: int, seed: int = RNG_SEED) -> Image8:
    """A noisy (height, width, 3) image with nothing white in it."""
    return np.random.default_rng(seed).integers(20, 200, (height, width, 3), np.uint8)


def road_map(height: int, width: int, every: int = 64) -> Image8:
    """A (height, width) map with a vertical 7-pixel road in every so many columns."""
    map_ = np.zeros((height, width), np.uint8)
    for left in range(every // 2, width, every):
        map_[:, left : left + 7] = 255
    return map_


def save_tile(raw: Path, name: str, split: str, image: Image8, map_: Image8) -> Tile:
    """Store a pair in `raw` as the download stage would."""
    stored = []
    for kind, pixels, suffix in (("sat", image, ".tiff"), ("map", map_, ".tif")):
        path = stored_path(split, kind, name, suffix)
        (raw / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(raw / path)
        stored.append(stored_file(raw, path))
    return Tile(name, split, image=stored[0], map=stored[1])


def save_tiles(raw: Path, size: int = 128, train: int = 3, valid: int = 1, test: int = 1) -> None:
    """A whole small `data/raw`; tile n has the noise of seed n."""
    tiles: list[Tile] = []
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        for number in range(count):
            seed = len(tiles)
            image = picture(size, size, seed)
            tiles.append(save_tile(raw, f"{split}{number}", split, image, road_map(size, size)))
    write_tiles(raw, tiles)
