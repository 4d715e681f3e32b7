"""Scores of whole tiles: strict, relaxed, of centrelines and graphs; pooled, and tile by tile."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from roads.metrics.bootstrap import dice_interval, iou_of_dice
from roads.metrics.centreline import LineCounts, count_lines
from roads.metrics.counts import HALF, LEVELS, Counts, LevelCounts, count_each, rounded, to_levels
from roads.metrics.graph_scores import GraphScore, Tracing, graph_metrics, score_graph
from roads.metrics.relaxed import RelaxedCounts, centre_crop
from roads.runtime.arrays import Bool, Float32

STRICT = ("iou", "dice", "precision", "recall")
LINES = ("cldice", "completeness", "correctness")
STRICT_COLUMNS = (*STRICT, "iou_at_half", "iou_without_blank")
TABLE_COLUMNS = ("tile", "blank", "road", *STRICT_COLUMNS, *LINES, "apls")


@dataclass(frozen=True)
class TileScore:
    """What was counted on one tile.

    Attributes:
        name: of the tile.
        pixels, blank: of the tile, and of its missing imagery.
        best, half: strict counts at the chosen threshold, and at 0.5.
        seen: strict counts at the chosen threshold without the blank pixels.
        lines: counts of the centrelines at the chosen threshold.
        graph: scores of the graph of roads at the chosen threshold.
    """

    name: str
    pixels: int
    blank: int
    best: Counts
    half: Counts
    seen: Counts
    lines: LineCounts
    graph: GraphScore


class TileScores:
    """Counts of whole tiles, in memory that does not grow with the tiles' size.

    Args:
        level: the chosen threshold is level / LEVELS.
        tracing: how roads are traced to a graph.
    """

    def __init__(self, level: int, tracing: Tracing):
        self.level, self.tracing = level, tracing
        self.pooled, self.seen = LevelCounts(), LevelCounts()
        self.relaxed, self.relaxed_centre = RelaxedCounts(), RelaxedCounts()
        self.each: list[TileScore] = []

    def add(self, name: str, probability: Float32, road: Bool, blank: Bool) -> None:
        """Count a tile.

        Args:
            name: of the tile.
            probability: (height, width) float32 from 0 to 1.
            road: (height, width) bool, the truth.
            blank: (height, width) bool, where imagery is missing.
        """
        levels = to_levels(probability)
        centre = centre_crop(*road.shape)
        self.pooled.add(levels, road)
        self.seen.add(levels[~blank], road[~blank])
        self.relaxed.add(levels, road)
        self.relaxed_centre.add(levels[centre], road[centre])
        predicted = levels >= self.level
        best, half, seen = count_each(
            np.stack([predicted, levels >= HALF, predicted & ~blank]),
            np.stack([road, road, road & ~blank]),
        )
        lines = count_lines(predicted, road)
        graph = score_graph(predicted, road, self.tracing)
        pixels, missing = road.size, int(np.count_nonzero(blank))
        self.each.append(TileScore(name, pixels, missing, best, half, seen, lines, graph))


def tile_metrics(scores: TileScores, dropped: int) -> dict[str, Any]:
    """What `metrics/test.json` says of whole tiles; fractions from 0 to 1, rounded to six digits.

    Args:
        scores: of at least one tile.
        dropped: test tiles that handpick-filter left out.
    """
    level = scores.level
    return {
        "tiles": {
            "count": len(scores.each),
            "dropped": dropped,
            "threshold": level / LEVELS,
            **rounded(scores.pooled.at(level), *STRICT),
            **_intervals([tile.best for tile in scores.each]),
            "at_half": rounded(scores.pooled.at(HALF), *STRICT),
            "mean_over_tiles": _means([tile.best for tile in scores.each]),
            "without_blank": {
                "blank": round(1 - scores.seen.pixels / scores.pooled.pixels, 6),
                **rounded(scores.seen.at(level), *STRICT),
                "at_half": rounded(scores.seen.at(HALF), *STRICT),
            },
        },
        "relaxed": {
            "full_tile": _break_even(scores.relaxed),
            "centre_crop": _break_even(scores.relaxed_centre),
        },
        "centreline": rounded(_pooled_lines(scores.each), *LINES),
        "graph": graph_metrics([tile.graph for tile in scores.each]),
    }


def _intervals(tiles: Sequence[Counts]) -> dict[str, float]:
    bounds = dict(zip(("low", "high"), dice_interval(tiles), strict=True))
    return {
        **{f"iou_95_{end}": round(iou_of_dice(dice), 6) for end, dice in bounds.items()},
        **{f"dice_95_{end}": round(dice, 6) for end, dice in bounds.items()},
    }


def _means(tiles: Sequence[Counts]) -> dict[str, float]:
    return {
        name: round(float(np.mean([getattr(counts, name) for counts in tiles])), 6)
        for name in STRICT
    }


def _break_even(counts: RelaxedCounts) -> dict[str, float]:
    score, level = counts.break_even()
    return {"break_even": round(score, 6), "threshold": level / LEVELS}


def _pooled_lines(tiles: Sequence[TileScore]) -> LineCounts:
    return sum((tile.lines for tile in tiles), LineCounts(0, 0, 0, 0, 0, 0))


def table_rows(tiles: Sequence[TileScore]) -> Iterator[tuple[str | float, ...]]:
    """Rows of TABLE_COLUMNS, the best IoU first; blank and road are fractions of the tile."""
    for tile in sorted(tiles, key=lambda tile: (-tile.best.iou, tile.name)):
        road = tile.best.true_positives + tile.best.false_negatives
        values = (
            tile.blank / tile.pixels,
            road / tile.pixels,
            *(getattr(tile.best, name) for name in STRICT),
            tile.half.iou,
            tile.seen.iou,
            *(getattr(tile.lines, name) for name in LINES),
            tile.graph.apls,
        )
        yield tile.name, *(round(value, 6) for value in values)
