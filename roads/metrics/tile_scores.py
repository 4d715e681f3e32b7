"""Scores of whole tiles, pooled and per tile: strict, relaxed, of centrelines and of graphs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roads.graph.matching import Match
from roads.metrics.bootstrap import dice_interval
from roads.metrics.calibration import calibration_error
from roads.metrics.centreline import LineCounts, count_lines
from roads.metrics.counts import (
    HALF,
    LEVELS,
    Counts,
    LevelCounts,
    count_each,
    mean,
    rank,
    reported,
    rounded,
    to_levels,
)
from roads.metrics.graph_scores import (
    METRES,
    GraphScore,
    Tracing,
    graph_metrics,
    match_graphs,
    score_graph,
    trace_both,
)
from roads.metrics.relaxed import RelaxedCounts, centre_crop
from roads.runtime.arrays import Bool, Float32, Float64

STRICT = ("iou", "dice", "precision", "recall")
LINES = ("cldice", "completeness", "correctness")
TABLE_COLUMNS = (
    "tile", "blank", "road", *STRICT, "iou_at_half", "iou_without_blank", *LINES, "apls",
    "shift_rows", "shift_columns",
)  # fmt: skip


@dataclass(frozen=True)
class TileScore:
    """Counts on one tile.

    Attributes:
        name: of the tile.
        blank, road: fractions of the tile.
        best, half: strict counts at the chosen threshold, and at 0.5.
        seen: strict counts at the chosen threshold without the blank pixels.
        lines, graph: scores of centrelines and road graphs at the chosen threshold.
        shift: (2,), by how many pixels the label's lines lie below and to the right of predicted
            ones; None where too few roads match, or all in one direction.
    """

    name: str
    blank: float
    road: float
    best: Counts
    half: Counts
    seen: Counts
    lines: LineCounts
    graph: GraphScore
    shift: Float64 | None


class TileScores:
    """Counts of whole tiles; no pixels are kept.

    Args:
        level: the chosen threshold is level / LEVELS.
        tracing: how roads are traced to a graph.
    """

    def __init__(self, level: int, tracing: Tracing):
        self.level, self.tracing = level, tracing
        self.pooled, self.seen, self.trusted = LevelCounts(), LevelCounts(), LevelCounts()
        self.relaxed, self.relaxed_centre = RelaxedCounts(), RelaxedCounts()
        self.each: list[TileScore] = []

    def add(self, name: str, probability: Float32, road: Bool, blank: Bool, ignored: Bool) -> Match:
        """Count a tile, and match the roads of prediction and label.

        Args:
            name: of the tile.
            probability: (height, width) float32 from 0 to 1.
            road: (height, width) bool, the truth.
            blank: (height, width) bool, where imagery is missing.
            ignored: (height, width) bool, where the label is noted as wrong.
        """
        levels = to_levels(probability)
        centre = centre_crop(*road.shape)
        self.pooled.add(levels, road)
        self.seen.add(levels[~blank], road[~blank])
        self.trusted.add(levels[~ignored], road[~ignored])
        self.relaxed.add(levels, road)
        self.relaxed_centre.add(levels[centre], road[centre])
        predicted = levels >= self.level
        best, half, seen = count_each(
            np.stack([predicted, levels >= HALF, predicted & ~blank]),
            np.stack([road, road, road & ~blank]),
        )
        graphs = trace_both(predicted, road, self.tracing)
        match = match_graphs(graphs)
        shift = None if match.shift is None else match.shift / METRES
        self.each.append(
            TileScore(
                name, float(blank.mean()), float(road.mean()), best, half, seen,
                count_lines(predicted, road), score_graph(graphs), shift,
            )
        )  # fmt: skip
        return match


def tile_metrics(scores: TileScores, dropped: int) -> dict[str, Any]:
    """The scores of whole tiles in `scores.json`; fractions, rounded to six digits.

    Args:
        scores: of at least one tile.
        dropped: test tiles that handpick-filter left out.
    """
    level, tiles = scores.level, [tile.best for tile in scores.each]
    noted = scores.trusted.pixels < scores.pooled.pixels
    lines = LineCounts(*np.sum([tile.lines for tile in scores.each], axis=0).tolist())
    return {
        "tiles": {
            "count": len(tiles),
            "dropped": dropped,
            "threshold": level / LEVELS,
            "calibration_error": calibration_error(scores.pooled),
            **reported(scores.pooled.at(level), *STRICT),
            **_intervals(tiles),
            "at_half": reported(scores.pooled.at(HALF), *STRICT),
            "mean_over_tiles": _means(tiles),
            "without_blank": _without(scores, scores.seen, "blank"),
            **({"without_ignored": _without(scores, scores.trusted, "ignored")} if noted else {}),
        },
        "relaxed": {
            "full_tile": _break_even(scores.relaxed),
            "centre_crop": _break_even(scores.relaxed_centre),
        },
        "centreline": {name: rounded(getattr(lines, name)) for name in LINES},
        "graph": graph_metrics([tile.graph for tile in scores.each]),
    }


def _without(scores: TileScores, counted: LevelCounts, left_out: str) -> dict[str, Any]:
    """Strict scores without the pixels that are `left_out`, and their fraction."""
    return {
        left_out: round(1 - counted.pixels / scores.pooled.pixels, 6),
        **reported(counted.at(scores.level), *STRICT),
        "at_half": reported(counted.at(HALF), *STRICT),
    }


def _intervals(tiles: Sequence[Counts]) -> dict[str, float | None]:
    """Intervals of Dice, and of IoU = Dice / (2 − Dice), which increases with Dice."""
    if not any(tile.true_positives + tile.false_negatives for tile in tiles):
        return dict.fromkeys(("iou_95_low", "iou_95_high", "dice_95_low", "dice_95_high"))
    low, high = dice_interval(tiles)
    return {
        "iou_95_low": round(low / (2 - low), 6),
        "iou_95_high": round(high / (2 - high), 6),
        "dice_95_low": round(low, 6),
        "dice_95_high": round(high, 6),
    }


def _means(tiles: Sequence[Counts]) -> dict[str, float | None]:
    """The mean of each score over the tiles where it is defined."""
    means = {}
    for name in STRICT:
        defined = [counts for counts in tiles if reported(counts, name)[name] is not None]
        means[name] = rounded(mean([getattr(counts, name) for counts in defined]))
    return means


def _break_even(counts: RelaxedCounts) -> dict[str, float | None]:
    score, level = counts.break_even()
    return {
        "break_even": rounded(score),
        "threshold": None if level is None else level / LEVELS,
    }


def table_rows(tiles: Sequence[TileScore]) -> Iterator[tuple[str | float | None, ...]]:
    """Rows of TABLE_COLUMNS, the best IoU first; blank and road are fractions of the tile.

    A score that is not defined is None, an empty cell.
    """
    for tile in sorted(tiles, key=lambda tile: (-rank(tile.best, "iou"), tile.name)):
        yield (
            tile.name,
            round(tile.blank, 6),
            round(tile.road, 6),
            *reported(tile.best, *STRICT).values(),
            *reported(tile.half, "iou").values(),
            *reported(tile.seen, "iou").values(),
            *(rounded(getattr(tile.lines, name)) for name in LINES),
            rounded(tile.graph.apls),
            *([None, None] if tile.shift is None else (tile.shift.round(2) + 0).tolist()),
        )
