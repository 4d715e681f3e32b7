"""Lists the roads on which net and labels disagree, for a person who cleans the labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from roads.dataset.label_notes import Box
from roads.graph.matching import STEP, Match
from roads.metrics.graph_scores import METRES
from roads.metrics.overlays import draw_overlay
from roads.metrics.score_pictures import file_name
from roads.runtime.arrays import Bool, Float32, Float64, Image8
from roads.runtime.files import write_csv

FILE = "disagreements.csv"
COLUMNS = (
    "rank", "tile", "top", "left", "bottom", "right", "kind", "length_m", "probability",
)  # fmt: skip
NOT_IN_LABEL, NOT_PREDICTED = "not in the label", "not predicted"
MARGIN = 8  # pixels from a line to the sides of its box: half of a road, and some more
SURROUNDINGS = 60  # pixels around a box in its picture


@dataclass(frozen=True)
class Disagreement:
    """A piece of road that only the prediction has, or only the label.

    Attributes:
        tile: its name.
        kind: NOT_IN_LABEL or NOT_PREDICTED.
        line: (k, 2) row and column.
        box: around the line, with a margin.
        length: of the line in metres.
        probability: predicted, the mean along the line.
    """

    tile: str
    kind: str
    line: Float64
    box: Box
    length: float
    probability: float

    @property
    def weight(self) -> float:
        """The length times how sure the net is: the highest comes first in the list."""
        sure = self.probability if self.kind == NOT_IN_LABEL else 1 - self.probability
        return self.length * sure

    @property
    def surroundings(self) -> Box:
        """What its picture shows; it may go on beyond the tile's last row and column."""
        top, left = (max(0, first - SURROUNDINGS) for first in self.box[:2])
        return Box(top, left, self.box.bottom + SURROUNDINGS, self.box.right + SURROUNDINGS)


class Disagreements:
    """Collects disagreements tile by tile.

    Args:
        pictures: how many to draw; the pixels around these are kept in memory.
    """

    def __init__(self, pictures: int):
        self.pictures = pictures
        self.each: list[Disagreement] = []
        self.views: list[tuple[Disagreement, Image8, Bool, Float32]] = []

    def add(
        self,
        tile: str,
        match: Match,
        image: Image8,
        road: Bool,
        probability: Float32,
        skipped: Bool,
    ) -> None:
        """Add those of a tile.

        Args:
            tile: its name.
            match: of the graphs of prediction and label (`match_graphs`).
            image: (height, width, 3) uint8.
            road: (height, width) bool, the label.
            probability: (height, width) float32 from 0 to 1.
            skipped: (height, width) bool; pieces mostly in such pixels are left out.
        """
        found = sorted(_pieces(tile, match, probability, skipped), key=_order)
        self.each += found
        for piece in found[: self.pictures]:
            top, left, bottom, right = piece.surroundings
            cut = np.s_[top:bottom, left:right]
            view = piece, image[cut].copy(), road[cut].copy(), probability[cut].copy()
            self.views.append(view)
        self.views = sorted(self.views, key=lambda view: _order(view[0]))[: self.pictures]

    def write(self, folder: Path, threshold: float) -> None:
        """Write FILE, and the pictures to a folder `disagreements`.

        Args:
            folder: gets them.
            threshold: least probability that is predicted as road.
        """
        rows = (
            (
                rank, piece.tile, *piece.box, piece.kind, round(piece.length, 1),
                round(piece.probability, 3),
            )
            for rank, piece in enumerate(sorted(self.each, key=_order), 1)
        )  # fmt: skip
        write_csv(folder / FILE, COLUMNS, rows)
        for rank, (piece, image, road, probability) in enumerate(self.views, 1):
            top, left, bottom, right = piece.box
            draw_overlay(  # named by place, so that `dvc plots diff` shows one place of two nets
                folder / "disagreements" / f"{file_name(piece.tile)}_top{top}_left{left}.png",
                image,
                road,
                probability,
                threshold,
                f"Rank {rank}: {piece.length:.0f} m {piece.kind}, probability "
                f"{piece.probability:.2f}; tile {piece.tile}, rows {top} to {bottom}, columns "
                f"{left} to {right}",
                line=piece.line - piece.surroundings[:2],
            )


def _order(piece: Disagreement) -> tuple[float, str, Box]:
    return -piece.weight, piece.tile, piece.box


def _pieces(tile: str, match: Match, probability: Float32, skipped: Bool) -> Iterator[Disagreement]:
    last = np.subtract(probability.shape, 1)
    for kind, pieces in ((NOT_IN_LABEL, match.missing), (NOT_PREDICTED, match.unseen)):
        for line, length in zip(pieces.lines, pieces.lengths.tolist(), strict=True):
            points = shapely.get_coordinates(shapely.segmentize(line, STEP)) / METRES
            rows, columns = np.rint(points).astype(np.int64).clip(0, last).T
            if skipped[rows, columns].mean() > 0.5:
                continue
            top, left = np.maximum([rows.min() - MARGIN, columns.min() - MARGIN], 0).tolist()
            ends = [rows.max() + MARGIN, columns.max() + MARGIN]
            bottom, right = (np.minimum(ends, last) + 1).tolist()
            yield Disagreement(
                tile,
                kind,
                shapely.get_coordinates(line) / METRES,
                Box(top, left, bottom, right),
                length,
                float(probability[rows, columns].mean()),
            )
