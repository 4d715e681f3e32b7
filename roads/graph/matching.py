"""Matches the roads of two maps, and measures how far apart they are.

Lines are cut into steps of STEP metres. A step is matched if a line of the other map is within a
distance of its middle and has about the same direction, so a crossing road does not match. Steps
form pieces:

- Two lines that meet end to end, without a third one, are one line.
- In a line, a run of matched or unmatched steps that is shorter than SHORTEST times the distance is
  merged into the adjacent runs, the shortest first.
- Two matched pieces that meet end to end, without a third one, are one piece; so are two unmatched
  ones.
"""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import shapely
from numpy.typing import NDArray

from roads.graph.edges import components
from roads.runtime.arrays import Bool, Float64, Int64

STEP = 1.0  # metres
WITHIN = 8.0  # metres; the default of the largest distance between matched roads
TURN = 30.0  # degrees; the largest angle between matched roads
SHORTEST = 2.0  # a road that crosses at TURN is that close for 4 times the distance
SAME = 0.01  # metres; the largest error of a piece's simplified line
ACROSS = 0.05  # a shift along a direction is known if at least this part of the roads crosses it

Lines = NDArray[np.object_]  # of shapely's LineStrings, in metres


class Pieces(NamedTuple):
    """n pieces of road of one kind.

    Attributes:
        lines: (n,) LineStrings.
        lengths: (n,) metres.
        distances: (n,) metres, the mean over the piece: to the matching road for matched pieces,
            else to the nearest road of the other map in any direction; NaN if that has none.
    """

    lines: Lines
    lengths: Float64
    distances: Float64

    def pick(self, rows: Int64) -> "Pieces":
        """Some pieces in the given order."""
        return Pieces(self.lines[rows], self.lengths[rows], self.distances[rows])

    @property
    def total(self) -> float:
        """The length of all pieces in metres."""
        return float(self.lengths.sum())


class Match(NamedTuple):
    """The matched and unmatched pieces of two maps.

    The scores are those of Wiedemann et al., Empirical Evaluation of Automatically Extracted Road
    Axes (CVPR workshop on empirical evaluation methods, 1998), section 3; None if their denominator
    is 0.

    Attributes:
        matched, missing: pieces of the prediction that the reference has, and that it lacks.
        found, unseen: pieces of the reference that the prediction has, and that it lacks.
        shift: (2,) metres from the prediction to the reference, along both axes; None where too
            few roads match, or all in one direction.
    """

    matched: Pieces
    missing: Pieces
    found: Pieces
    unseen: Pieces
    shift: Float64 | None

    @property
    def completeness(self) -> float | None:
        """The fraction of the reference that is matched."""
        return _fraction(self.found.total, self.unseen.total)

    @property
    def correctness(self) -> float | None:
        """The fraction of the prediction that is matched."""
        return _fraction(self.matched.total, self.missing.total)

    @property
    def quality(self) -> float | None:
        """The matched prediction over the whole prediction and the unmatched reference."""
        return _fraction(self.matched.total, self.missing.total + self.unseen.total)


def match_maps(
    prediction: Sequence[shapely.LineString] | Lines,
    reference: Sequence[shapely.LineString] | Lines,
    within: float,
    turn: float = TURN,
) -> Match:
    """Match two maps, each against the other.

    Args:
        prediction, reference: their roads, in metres.
        within: the largest distance between matched roads, in metres.
        turn: the largest angle between matched roads, in degrees.
    """
    ours, theirs = _merge(prediction), _merge(reference)
    matched, missing, shift = _split(ours, theirs, within, turn)
    found, unseen, _ = _split(theirs, ours, within, turn)
    return Match(matched, missing, found, unseen, shift)


class _Steps(NamedTuple):
    """Steps of road in order: their begin and end points, (n, 2), and the line of each, (n,)."""

    begin: Float64
    end: Float64
    owner: Int64

    @property
    def lengths(self) -> Float64:
        return np.hypot(*(self.end - self.begin).T)

    @property
    def angles(self) -> Float64:
        """Degrees, 0 to 180."""
        x, y = (self.end - self.begin).T
        return np.degrees(np.arctan2(y, x)) % 180


def _merge(lines: Sequence[shapely.LineString] | Lines) -> Lines:
    """Join lines that meet end to end, after dropping duplicates."""
    different = shapely.from_wkb(np.unique(shapely.to_wkb(shapely.normalize(list(lines)))))
    merged = shapely.line_merge(shapely.MultiLineString(list(different)))
    return np.array([each for each in shapely.get_parts(merged) if each.length], object)


def _steps(lines: Lines) -> _Steps:
    points, owner = shapely.get_coordinates(lines, return_index=True)
    same = (owner[1:] == owner[:-1]) & (points[1:] != points[:-1]).any(axis=1)
    return _Steps(points[:-1][same], points[1:][same], owner[:-1][same])


def _split(
    our: Lines, their: Lines, within: float, turn: float
) -> tuple[Pieces, Pieces, Float64 | None]:
    """Our matched pieces, the others, and the shift from the former to their lines."""
    if not len(our):
        nothing = Pieces(our, np.zeros(0), np.zeros(0))
        return nothing, nothing, None
    ours, theirs = _steps(shapely.segmentize(our, STEP)), _steps(their)
    middles = shapely.points((ours.begin + ours.end) / 2)
    tree = shapely.STRtree(shapely.linestrings(np.stack([theirs.begin, theirs.end], axis=1)))
    nearest = np.full(len(middles), np.nan)
    if len(tree):
        (found, _), nearest[found] = tree.query_nearest(
            middles, return_distance=True, all_matches=False
        )
    offset = np.full(len(middles), np.inf)
    us, them = tree.query(middles, predicate="dwithin", distance=within)
    difference = abs(ours.angles[us] - theirs.angles[them])
    along = np.minimum(difference, 180 - difference) <= turn
    us, them = us[along], them[along]
    far = shapely.distance(middles[us], tree.geometries[them])
    np.minimum.at(offset, us, far)
    nearest_match = far == offset[us]
    shift = _shift(ours, theirs, us[nearest_match], them[nearest_match])

    bounds, matched = _runs(ours, np.isfinite(offset), SHORTEST * within)
    lines, distances = [], []
    for (first, last), kind in zip(itertools.pairwise(bounds), matched, strict=True):
        path = np.vstack([ours.begin[first:last], ours.end[last - 1 : last]])
        lines.append(shapely.LineString(path).simplify(SAME))
        far = (offset if kind else nearest)[first:last]
        counted = np.isfinite(far)  # a matched piece may have unmatched steps
        distances.append(far[counted].mean() if counted.any() else np.nan)
    sums = np.add.reduceat(ours.lengths, bounds[:-1])
    pieces = Pieces(np.array(lines, object), sums, np.array(distances, float))
    found, others = (_join(pieces.pick(np.flatnonzero(kind))) for kind in (matched, ~matched))
    return found, others, shift


def _shift(ours: _Steps, theirs: _Steps, us: Int64, them: Int64) -> Float64 | None:
    """The shift that brings our steps onto their matches, by least squares.

    A road tells nothing of a shift along it, so only distances across roads count.
    """
    along = (theirs.end - theirs.begin)[them] / theirs.lengths[them, None]
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    middles = (ours.begin + ours.end)[us] / 2
    weighted = ours.lengths[us, None] * across
    normal = weighted.T @ across
    if np.linalg.eigvalsh(normal)[0] <= ACROSS * np.trace(normal):
        return None
    distance = ((theirs.begin[them] - middles) * across).sum(axis=1)
    return np.linalg.solve(normal, weighted.T @ distance)


def _join(pieces: Pieces) -> Pieces:
    """Join pieces that meet end to end."""
    count = len(pieces.lines)
    if not count:
        return pieces
    ends = shapely.get_coordinates(shapely.get_point(pieces.lines, [[0], [-1]]))
    _, node, degree = np.unique(ends, axis=0, return_inverse=True, return_counts=True)
    order = np.argsort(node.ravel(), kind="stable")
    pairs = order[degree[node.ravel()[order]] == 2].reshape(-1, 2) % count
    owner = components(pairs[:, 0], pairs[:, 1], count)
    order = np.argsort(owner, kind="stable")
    joined = shapely.multilinestrings(pieces.lines[order], indices=owner[order])
    weighted = pieces.lengths, pieces.lengths * pieces.distances
    lengths, sums = (np.bincount(owner, each).astype(np.float64) for each in weighted)
    return Pieces(shapely.line_merge(joined), lengths, sums / lengths)


def _runs(steps: _Steps, matched: Bool, shortest: float) -> tuple[Int64, Bool]:
    """The bounds of n runs of steps, (n + 1,), and which of them are matched, (n,)."""
    breaks = np.flatnonzero((np.diff(steps.owner) != 0) | (np.diff(matched) != 0)) + 1
    bounds = np.concatenate([[0], breaks, [len(matched)]])
    lengths = np.add.reduceat(steps.lengths, bounds[:-1])
    kept, kinds = [0], []
    for _, group in itertools.groupby(range(len(lengths)), lambda run: steps.owner[bounds[run]]):
        runs = [(lengths[run], int(bounds[run + 1]), matched[bounds[run]]) for run in group]
        while len(runs) > 1 and min(runs)[0] < shortest:
            at = runs.index(min(runs))
            around = slice(max(0, at - 1), at + 2)
            joined = runs[around]
            kind = joined[0 if at else 1][2]
            runs[around] = [(sum(each[0] for each in joined), joined[-1][1], kind)]
        kept += [end for _, end, _ in runs]
        kinds += [kind for _, _, kind in runs]
    return np.array(kept, np.int64), np.array(kinds, np.bool_)


def _fraction(part: float, rest: float) -> float | None:
    return part / (part + rest) if part + rest else None
