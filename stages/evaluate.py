"""evaluate: score the trained U-Net on the test crops and on whole test tiles.

The result is `metrics/test.json`, the main scores, which DVC compares, and a folder with all scores
(`scores.json`), curves, a table of the tiles, pictures of some, the chosen thresholds, and a list
of the roads on which net and labels disagree.
"""

import argparse
import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roads.dataset.label_notes import Notes, ignored_pixels, read_notes
from roads.dataset.packs import PackReader, read_places
from roads.dataset.whole_tiles import WholeTiles, find_whole_tiles, read_labelled
from roads.imagery.blank import blank_mask
from roads.metrics.counts import LEVELS, LevelCounts, to_levels
from roads.metrics.crop_scores import CropScores, crop_metrics, pool_crops, score_crops
from roads.metrics.curves import write_curves
from roads.metrics.disagreements import FILE as DISAGREEMENTS_FILE
from roads.metrics.disagreements import Disagreements
from roads.metrics.graph_scores import Tracing, match_graphs, trace_both
from roads.metrics.score_pictures import draw_crops, draw_tiles
from roads.metrics.tile_scores import TABLE_COLUMNS, TileScores, table_rows, tile_metrics
from roads.models.backend import keras
from roads.models.weights import SCORES_FILE, THRESHOLDS_FILE, WEIGHTS_FILE, Description
from roads.params.binarize import BinarizeParams
from roads.params.evaluate import EvaluateParams
from roads.params.unet import size_step
from roads.params.whole import read_params
from roads.prediction.blending import Windows, all_turns, predict_tile
from roads.prediction.folding import load_folded
from roads.prediction.inference import Predictor, predict_split
from roads.runtime.arrays import Float32, Image8
from roads.runtime.errors import UserError
from roads.runtime.files import file_hash, replacing_folder, write_csv, write_json
from roads.runtime.stage import stage_status

PredictTile = Callable[[Image8], Float32]


@dataclass(frozen=True)
class Inputs:
    """The files to evaluate.

    Attributes:
        models: has `unet.weights.h5` and `unet.json`.
        packed: has `images.h5`, `masks.h5` and `rows.csv`.
        raw: the tiles as downloaded.
        handpicked: the table of which tiles were kept.
        notes: the boxes in which labels are wrong.
        crops: has `index.csv`, the split of each crop.
    """

    models: Path
    packed: Path
    raw: Path
    handpicked: Path
    notes: Path
    crops: Path


def evaluate(
    inputs: Inputs,
    metrics: Path,
    plots: Path,
    params: EvaluateParams,
    split_by: str,
    binarize: BinarizeParams,
) -> None:
    """Choose thresholds on the validation split, then score and draw test crops and tiles.

    Args:
        inputs: the model, the crops and the tiles.
        metrics: the JSON file of the scores to compare.
        plots: the folder to fill.
        params: how to predict, and how many pictures to draw.
        split_by: how the data was split; if by single crops, no whole tile is scored.
        binarize: the threshold that makes a tile's map a mask.

    Raises:
        UserError: a file is missing or broken, a split is empty, or the model predicts NaN.
    """
    weights = inputs.models / WEIGHTS_FILE
    model, description = load_folded(weights)
    check_window(params.window, description)
    tiles = find_tiles(inputs, split_by)
    notes = read_notes(inputs.notes, inputs.raw) if tiles else {}
    with PackReader(inputs.packed) as pack:
        check_pack(pack, inputs.packed)
        places = read_places(inputs.packed)
        predictor = Predictor(model, params.batch_size)
        predict = tile_predictor(model, pack.size, params)
        crop_scores = evaluate_crops(predictor, pack, description.temperature)
        tile_scores, disagreements = None, None
        values = crop_metrics(crop_scores)
        if tiles:
            tile_scores, disagreements = evaluate_tiles(
                predict, inputs.raw, tiles, binarize, notes, params
            )
            values |= tile_metrics(tile_scores, len(tiles.dropped))
        with replacing_folder(plots) as folder:
            write_json(folder / SCORES_FILE, values)
            write_json(folder / THRESHOLDS_FILE, thresholds(weights, values))
            write_curves(folder, crop_scores, tile_scores)
            draw_crops(folder / "crops", predictor, pack, places, crop_scores, params.overlays)
            if tiles and tile_scores and disagreements:
                write_csv(folder / "tiles.csv", TABLE_COLUMNS, table_rows(tile_scores.each))
                disagreements.write(folder, tile_scores.level / LEVELS)
                if params.overlays:
                    draw_tiles(
                        folder / "tiles", predict, inputs.raw, tiles.test, tile_scores, binarize
                    )
    write_json(metrics, compared(values))
    for what, scores in (("crops", crop_scores), ("whole tiles", tile_scores)):
        if scores:
            print(f"evaluate: {told(what, scores)}", file=sys.stderr)
    if disagreements:
        print(
            f"evaluate: net and labels disagree on {len(disagreements.each)} pieces of road: "
            f"{plots / DISAGREEMENTS_FILE}",
            file=sys.stderr,
        )


def compared(values: Mapping[str, Any]) -> dict[str, float | None]:
    """The contents of `metrics/test.json`: the scores that DVC compares, not nested.

    A score that is not defined is None. Scores of whole tiles are included if there are any, and
    one without ignored pixels if there are such.
    """
    few = {name: values[name] for name in ("dice", "iou")}
    if "tiles" in values:
        few |= {f"tile_{key}": values["tiles"][key] for key in ("iou", "iou_95_low", "iou_95_high")}
        if "without_ignored" in values["tiles"]:
            few["tile_iou_without_ignored"] = values["tiles"]["without_ignored"]["iou"]
        few["break_even"] = values["relaxed"]["full_tile"]["break_even"]
        few["cldice"] = values["centreline"]["cldice"]
        few["apls"] = values["graph"]["apls"]
    return few


def told(what: str, scores: CropScores | TileScores) -> str:
    """The line printed about the test crops or the whole test tiles."""
    if scores.pooled.road_pixels == 0:
        return f"the test {what} have no road: Dice, IoU and recall are not defined (null)"
    best = scores.pooled.at(scores.level)
    return f"test {what}: Dice {best.dice:.4f}, IoU {best.iou:.4f}"


def thresholds(weights: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """The thresholds from the scores, and the SHA-256 of the weights they were chosen for."""
    chosen = {
        key: {"threshold": values[key]["threshold"]} for key in ("crops", "tiles") if key in values
    }
    return {"weights_sha256": file_hash(weights, "sha256"), **chosen}


def check_window(window: int, description: Description) -> None:
    """Raise a UserError if the net does not accept windows of that size."""
    step = size_step(description.unet)
    if window % step:
        raise UserError(
            f"evaluate.window is {window}: a net of unet.depth {description.unet.depth} needs a "
            f"multiple of {step}"
        )


def check_pack(pack: PackReader, packed: Path) -> None:
    """Raise a UserError if there are no validation or no test crops."""
    for split in ("valid", "test"):
        if pack.rows(split) == 0:
            raise UserError(
                f"{packed} has no {split} crops to evaluate on. See `split:` in params.yaml."
            )


def find_tiles(inputs: Inputs, split_by: str) -> WholeTiles | None:
    """The whole validation and test tiles, or None if all tiles have crops in training."""
    if split_by == "crop":
        print(
            "evaluate: split.by is crop: every tile has crops in training, so whole tiles are "
            "not scored",
            file=sys.stderr,
        )
        return None
    tiles = find_whole_tiles(inputs.raw, inputs.handpicked, inputs.crops, split_by)
    if tiles.dropped:
        print(
            f"evaluate: {len(tiles.dropped)} test tiles dropped by handpick-filter are left out: "
            f"{', '.join(tiles.dropped)}",
            file=sys.stderr,
        )
    return tiles


def tile_predictor(model: keras.Model, crop_size: int, params: EvaluateParams) -> PredictTile:
    """A function that predicts whole tiles by windows, about as many pixels at once as of crops."""
    batch = max(1, params.batch_size * crop_size**2 // params.window**2)
    windows = Windows(params.window, params.overlap, batch)
    predictor = Predictor(model, batch)
    predict = all_turns(predictor) if params.tta else predictor
    return functools.partial(predict_tile, predict, windows=windows)


def evaluate_crops(predictor: Predictor, pack: PackReader, temperature: float) -> CropScores:
    """Score the test crops at the threshold that is best on the validation crops."""
    level = choose_level(pool_crops(predict_split(predictor, pack, "valid")), "crop")
    scores = score_crops(predict_split(predictor, pack, "test"), level, temperature)
    warn_if_blind(scores.pooled, level)
    return scores


def evaluate_tiles(
    predict: PredictTile,
    raw: Path,
    tiles: WholeTiles,
    binarize: BinarizeParams,
    notes: Notes,
    params: EvaluateParams,
) -> tuple[TileScores, Disagreements]:
    """Score the test tiles at the threshold that is best on the validation tiles.

    The disagreements between net and labels are those of the test tiles, or of all tiles, as
    `params.disagreements` says.
    """
    pooled = LevelCounts()
    for _, image, road in read_labelled(raw, tiles.valid, binarize, "predicting valid tiles"):
        pooled.add(to_levels(predict(image)), road)
    tracing = Tracing(params.spur, params.tolerance, params.join)
    scores = TileScores(choose_level(pooled, "tile"), tracing)
    disagreements = Disagreements(params.disagreement_pictures)
    others = [*tiles.train, *tiles.valid] if params.disagreements == "all" else []
    which = f"predicting {params.disagreements} tiles"
    for tile, image, road in read_labelled(raw, tiles.test + others, binarize, which):
        probability, blank = predict(image), blank_mask(image)
        ignored = ignored_pixels(notes.get(tile.name, ()), road.shape)
        if tile in others:
            match = match_graphs(trace_both(probability >= scores.level / LEVELS, road, tracing))
        else:
            match = scores.add(tile.name, probability, road, blank, ignored)
        disagreements.add(tile.name, match, image, road, probability, blank | ignored)
    return scores, disagreements


def choose_level(pooled: LevelCounts, what: str) -> int:
    """The threshold, as a level, with the highest pooled Dice on validation crops or tiles."""
    if pooled.road_pixels == 0:
        print(f"evaluate: no validation {what} has a road: the threshold is 0.5", file=sys.stderr)
    return pooled.best_level()


def warn_if_blind(pooled: LevelCounts, level: int) -> None:
    """Warn if the model predicts the same class for every pixel."""
    counts = pooled.at(level)
    predicted = counts.true_positives + counts.false_positives
    if predicted in (0, pooled.pixels):
        what = "road everywhere" if predicted else "no road at all"
        print(
            f"evaluate: the model predicts {what} on the test crops (threshold "
            f"{level / LEVELS:.3g}). It has not learned: train longer, or look at metrics/train.",
            file=sys.stderr,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("model", "data", "raw", "handpicked", "notes", "crops", "metrics", "plots"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    paths = parser.parse_args()
    params = read_params()
    evaluate(
        Inputs(paths.model, paths.data, paths.raw, paths.handpicked, paths.notes, paths.crops),
        paths.metrics,
        paths.plots,
        params.evaluate,
        params.split.by,
        params.binarize,
    )


if __name__ == "__main__":
    sys.exit(stage_status(main))
