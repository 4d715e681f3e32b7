"""Pictures of some of the scored test crops and whole tiles.

Their choice does not depend on the scores, and files are named by place, so that
`dvc plots diff` shows the same places of two experiments side by side.
"""

import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np

from roads.dataset.masks import road_mask
from roads.dataset.packs import CropPlace, PackReader
from roads.dataset.tiles import Tile, read_pair
from roads.metrics.counts import LEVELS, rank
from roads.metrics.crop_scores import CropScores
from roads.metrics.overlays import draw_overlay
from roads.metrics.tile_scores import TileScores
from roads.params.binarize import BinarizeParams
from roads.prediction.inference import Predictor
from roads.runtime.arrays import Float32, Float64, Image8

PICTURED_ROAD = 0.01  # crops with a smaller fraction of road have extreme scores: no picture
PICTURED_TILES = 3


def draw_crops(
    folder: Path,
    predictor: Predictor,
    pack: PackReader,
    places: dict[tuple[str, int], CropPlace],
    scores: CropScores,
    count: int,
) -> None:
    """Draw `count` test crops, evenly spaced among those with enough road."""
    folder.mkdir()
    rows, which = _rows_worth_a_picture(scores.soft[:, 2], pack)
    dice = {row: rank(scores.each[row], "dice") for row in rows}
    for row in spaced(rows, count):
        images, masks = pack.read("test", [row])
        place = places["test", row]
        draw_overlay(
            folder / f"{file_name(place.tile)}_top{place.top}_left{place.left}.png",
            images[0],
            masks[0, ..., 0] > 0,
            predictor(images)[0],
            scores.level / LEVELS,
            f"Tile {place.tile}, top {place.top}, left {place.left}: "
            f"Dice {_ranked(dice[row], dice.values())} test crops{which}",
        )


def _rows_worth_a_picture(road_pixels: Float64, pack: PackReader) -> tuple[list[int], str]:
    """Test rows with enough road, else those with any, else all; and words that say which."""
    leasts = {PICTURED_ROAD * pack.size**2: f" with at least {PICTURED_ROAD:.0%} road"}
    for least, which in (leasts | {1: " with road"}).items():
        if (road_pixels >= least).any():
            return np.flatnonzero(road_pixels >= least).tolist(), which
    return list(range(len(road_pixels))), ""


def draw_tiles(
    folder: Path,
    predict: Callable[[Image8], Float32],
    raw: Path,
    tiles: Sequence[Tile],
    scores: TileScores,
    binarize: BinarizeParams,
) -> None:
    """Predict a few tiles again, evenly spaced among those with road, and draw them.

    Args:
        folder: created for the pictures.
        predict: (height, width, 3) uint8 → (height, width) probabilities.
        raw: where the tiles' files are.
        tiles: the scored tiles, in the order of `scores`.
        scores: of whole tiles.
        binarize: the threshold that makes a map a mask.
    """
    folder.mkdir()
    iou = [rank(tile.best, "iou") for tile in scores.each]
    with_road = [number for number, tile in enumerate(scores.each) if tile.road > 0]
    for number in spaced(with_road or range(len(tiles)), PICTURED_TILES):
        tile = tiles[number]
        image, map_ = read_pair(raw, tile)
        draw_overlay(
            folder / f"tile_{file_name(tile.name)}.png",  # DVC fails if some are plain numbers
            image,
            road_mask(map_, binarize),
            predict(image),
            scores.level / LEVELS,
            f"Tile {tile.name}: IoU {_ranked(iou[number], iou)} whole test tiles",
            columns=2,
        )


def spaced(items: Sequence[int], count: int) -> list[int]:
    """`count` of the items, evenly spaced, or all if there are fewer.

    >>> spaced(range(100), 4)
    [12, 37, 62, 87]
    """
    count = min(count, len(items))
    return [items[(2 * place + 1) * len(items) // (2 * count)] for place in range(count)]


def _ranked(score: float, scores: Collection[float]) -> str:
    told = "not defined" if score < 0 else f"{score:.3f}"
    return f"{told}, rank {1 + sum(other > score for other in scores)} of {len(scores)}"


def file_name(tile: str) -> str:
    """A tile's name without characters that have a meaning in URLs."""
    return re.sub(r"[^\w.-]", "_", tile)
