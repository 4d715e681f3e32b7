"""evaluate: score the trained U-Net on the test crops.

The result is `metrics/test.json`, Dice and IoU first; and a folder with the precision-recall
curve and pictures of test crops from the best to the worst.
"""

import argparse
import csv
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from roads.errors import UserError, exit_status
from roads.files import replacing_folder, write_csv, write_json
from roads.inference import Predictor, predict_split
from roads.overlays import best_to_worst, draw_overlay
from roads.packs import PackReader
from roads.params import Section, read_section
from roads.scores import (
    CURVE_COLUMNS,
    HALF,
    LEVELS,
    Counts,
    LevelCounts,
    article_dice,
    article_iou,
    count_each,
    curve_rows,
    soft_sums,
    to_levels,
)
from roads.weights import load_model

CURVE_FILE = "precision_recall.csv"
CROPS_FOLDER = "crops"
PICTURED_ROAD = 0.01  # a crop with less road than this makes an extreme score, and no picture

Predictions = Iterable[tuple[NDArray[np.float32], NDArray[np.bool_]]]


class EvaluateParams(Section):
    """`evaluate:` in params.yaml."""

    batch_size: int = Field(ge=1)
    overlays: int = Field(ge=0)


@dataclass(frozen=True)
class CropScores:
    """What was counted on the test crops, pooled and, in the pack's order, crop by crop."""

    pooled: LevelCounts
    each: list[Counts]
    soft: NDArray[np.float64]


def evaluate(
    models: Path, packed: Path, metrics: Path, plots: Path, params: EvaluateParams
) -> None:
    """Choose the threshold on the validation crops, score the test crops at it, draw some.

    Args:
        models: has `unet.weights.h5` and `unet.json`.
        packed: has `images.h5`, `masks.h5` and `rows.csv`.
        metrics: the JSON file to write.
        plots: the folder to fill.
        params: batch size and number of pictures.

    Raises:
        UserError: a file is missing or broken, a split is empty, or the model predicts NaN.
    """
    model, _ = load_model(models / "unet.weights.h5")
    predictor = Predictor(model, params.batch_size)
    with PackReader(packed) as pack:
        for split in ("valid", "test"):
            if pack.rows(split) == 0:
                raise UserError(
                    f"{packed} has no {split} crops to evaluate on. See `split:` in params.yaml."
                )
        level = choose_level(predict_split(predictor, pack, "valid"))
        scores = score_crops(predict_split(predictor, pack, "test"), level)
        warn_if_blind(scores.pooled, level)
        with replacing_folder(plots) as folder:
            write_csv(folder / CURVE_FILE, CURVE_COLUMNS, curve_rows(scores.pooled))
            draw_crops(folder / CROPS_FOLDER, predictor, pack, packed, scores, level, params)
    write_json(metrics, crop_metrics(scores, level))
    counts = scores.pooled.at(level)
    print(f"evaluate: test Dice {counts.dice:.4f}, IoU {counts.iou:.4f}", file=sys.stderr)


def choose_level(predictions: Predictions) -> int:
    """The level of the threshold with the highest pooled Dice on the validation crops."""
    pooled = LevelCounts()
    for probabilities, road in predictions:
        pooled.add(to_levels(probabilities), road)
    if pooled.road_pixels == 0:
        print(
            "evaluate: no validation crop has a road, so the threshold is not chosen but 0.5",
            file=sys.stderr,
        )
    return pooled.best_level()


def score_crops(predictions: Predictions, level: int) -> CropScores:
    """Count the test crops: at every threshold pooled, at level / LEVELS one by one."""
    pooled, each, soft = LevelCounts(), [], []
    for probabilities, road in predictions:
        levels = to_levels(probabilities)
        pooled.add(levels, road)
        each += count_each(levels >= level, road)
        soft.append(soft_sums(probabilities, road))
    return CropScores(pooled, each, np.concatenate(soft))


def warn_if_blind(pooled: LevelCounts, level: int) -> None:
    """Say so if the model predicts the same for every pixel."""
    counts = pooled.at(level)
    predicted = counts.hits + counts.false
    if predicted == 0 or predicted == pooled.pixels:
        what = "no road at all" if predicted == 0 else "road everywhere"
        print(
            f"evaluate: the model predicts {what} on the test crops (threshold "
            f"{level / LEVELS:.3g}). It has not learned: train longer, or look at metrics/train.",
            file=sys.stderr,
        )


def crop_metrics(scores: CropScores, level: int) -> dict[str, Any]:
    """The numbers of `metrics/test.json`; shares from 0 to 1, rounded to six digits."""
    best, half = scores.pooled.at(level), scores.pooled.at(HALF)
    return {
        **rounded(best, "dice", "iou"),
        "crops": {
            "count": len(scores.each),
            "threshold": level / LEVELS,
            **rounded(best, "precision", "recall"),
            "at_half": rounded(half, "dice", "iou", "precision", "recall"),
        },
        "article": {
            "soft_dice": round(article_dice(scores.soft), 6),
            "soft_iou": round(article_iou(scores.soft), 6),
        },
    }


def rounded(counts: Counts, *names: str) -> dict[str, float]:
    return {name: round(getattr(counts, name), 6) for name in names}


def draw_crops(
    folder: Path,
    predictor: Predictor,
    pack: PackReader,
    packed: Path,
    scores: CropScores,
    level: int,
    params: EvaluateParams,
) -> None:
    """Draw `params.overlays` test crops, evenly spread from the best Dice to the worst."""
    folder.mkdir()
    dice = {row: scores.each[row].dice for row in rows_worth_a_picture(scores.soft[:, 2], pack)}
    names = crop_names(packed)
    for place, pick in enumerate(best_to_worst(dice, params.overlays), start=1):
        images, masks = pack.read("test", [pick.key])
        draw_overlay(
            folder / f"{place}{'_' if pick.word else ''}{pick.word}.png",
            images[0],
            masks[0, ..., 0] > 0,
            predictor(images)[0],
            level / LEVELS,
            f"{pick.word.capitalize() or f'No. {pick.rank + 1}'} of {len(dice)} test crops: "
            f"Dice {dice[pick.key]:.3f} ({names.get(('test', pick.key), f'row {pick.key}')})",
        )


def rows_worth_a_picture(road_pixels: NDArray[np.float64], pack: PackReader) -> list[int]:
    """Test rows with enough road; if there are none, those with any; if none, all."""
    for least in (PICTURED_ROAD * pack.size**2, 1, 0):
        rows = np.flatnonzero(road_pixels >= least)
        if rows.size:
            break
    return rows.tolist()


def crop_names(packed: Path) -> dict[tuple[str, int], str]:
    """(split, row) → the tile and the pixels the crop was cut from."""
    table = packed / "rows.csv"
    try:
        with table.open(newline="", encoding="utf-8") as stream:
            return {
                (row["split"], int(row["row"])): (
                    f"tile {row['tile']}, top {row['top']}, left {row['left']}"
                )
                for row in csv.DictReader(stream)
            }
    except FileNotFoundError:
        raise UserError(f"{table} is missing. Run `dvc repro pack-h5`.") from None
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{table} is damaged. Run `dvc repro -f pack-h5`.") from None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--metrics", type=Path, required=True)
    parser.add_argument("--plots", type=Path, required=True)
    paths = parser.parse_args()
    params = read_section(EvaluateParams, "evaluate")
    evaluate(paths.model, paths.data, paths.metrics, paths.plots, params)


if __name__ == "__main__":
    sys.exit(exit_status(main))
