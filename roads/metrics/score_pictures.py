"""Pictures of what was scored, from the best to the worst: test crops, and whole tiles."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from roads.dataset.masks import road_mask
from roads.dataset.packs import CropPlace, PackReader
from roads.dataset.tiles import Tile, read_pair
from roads.metrics.counts import LEVELS, rank
from roads.metrics.crop_scores import CropScores
from roads.metrics.overlays import best_to_worst, draw_overlay
from roads.metrics.tile_scores import TileScores
from roads.params.binarize import BinarizeParams
from roads.prediction.inference import Predictor
from roads.runtime.arrays import Float32, Float64, Image8

PICTURED_ROAD = 0.01  # crops with a smaller fraction of road have extreme scores: no picture
PICTURED_TILES = 3  # the best, the median and the worst


def draw_crops(
    folder: Path,
    predictor: Predictor,
    pack: PackReader,
    places: dict[tuple[str, int], CropPlace],
    scores: CropScores,
    count: int,
) -> None:
    """Draw `count` test crops, evenly spread from the best Dice to the worst."""
    folder.mkdir()
    rows = _rows_worth_a_picture(scores.soft[:, 2], pack)
    dice = {row: rank(scores.each[row], "dice") for row in rows}
    for number, pick in enumerate(best_to_worst(dice, count), start=1):
        images, masks = pack.read("test", [pick.key])
        place = places["test", pick.key]
        draw_overlay(
            folder / _file_name(number, pick.word),
            images[0],
            masks[0, ..., 0] > 0,
            predictor(images)[0],
            scores.level / LEVELS,
            f"{pick.word.capitalize() or f'No. {pick.rank + 1}'} of {len(dice)} test crops: "
            f"Dice {_told(dice[pick.key])} (tile {place.tile}, top {place.top}, left {place.left})",
        )


def _rows_worth_a_picture(road_pixels: Float64, pack: PackReader) -> list[int]:
    """Test rows with enough road; if there are none, those with any; if none, all."""
    leasts = (PICTURED_ROAD * pack.size**2, 1, 0)
    rows = (np.flatnonzero(road_pixels >= least).tolist() for least in leasts)
    return next(filter(None, rows), [])


def draw_tiles(
    folder: Path,
    predict: Callable[[Image8], Float32],
    raw: Path,
    tiles: Sequence[Tile],
    scores: TileScores,
    binarize: BinarizeParams,
) -> None:
    """Draw the tiles with the best, the median and the worst IoU.

    They are predicted again: keeping all predictions until the ranks are known would take memory
    that grows with the number of tiles.

    Args:
        folder: is created.
        predict: (height, width, 3) uint8 → (height, width) probabilities.
        raw: where the tiles' files are.
        tiles: the scored tiles, in the order of `scores`.
        scores: of whole tiles.
        binarize: what is road in a map.
    """
    folder.mkdir()
    iou = {number: rank(tile.best, "iou") for number, tile in enumerate(scores.each)}
    for number, pick in enumerate(best_to_worst(iou, PICTURED_TILES), start=1):
        tile = tiles[pick.key]
        image, map_ = read_pair(raw, tile)
        draw_overlay(
            folder / _file_name(number, pick.word),
            image,
            road_mask(map_, binarize),
            predict(image),
            scores.level / LEVELS,
            f"{pick.word.capitalize()} of {len(tiles)} whole test tiles: "
            f"IoU {_told(iou[pick.key])} (tile {tile.name})",
            columns=2,
        )


def _told(score: float) -> str:
    return "not defined" if score < 0 else f"{score:.3f}"


def _file_name(number: int, word: str) -> str:
    """`dvc plots show` sorts them, and fails where one stem is a number and another is not."""
    return f"{number:02}_{word or 'between'}.png"
