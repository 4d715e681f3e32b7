"""Which roads of two maps match: hand-made cases whose pieces are known to the metre."""

import numpy as np
import pytest
from shapely import LineString, Polygon, affinity

from roads.graph.matching import Match, Pieces, match_maps

STREET = LineString([(0, 0), (200, 0)])
CROSSING = [LineString([(100, y), (100, 0)]) for y in (-100, 100)]  # of the street
GRID = [LineString([(0, 0), (100, 0)]), LineString([(100, 0), (200, 0)]), *CROSSING]


def lengths(pieces: Pieces) -> list[float]:
    return [round(float(each), 6) for each in pieces.lengths]


def match(ours: list[LineString], theirs: list[LineString], **how: float) -> Match:
    """Match two maps; each piece is as long as its line, and the scores are symmetric."""
    there, back = match_maps(ours, theirs, 8, **how), match_maps(theirs, ours, 8, **how)
    for pieces, mirrored in zip(there[:4], (back[2], back[3], back[0], back[1]), strict=True):
        assert lengths(pieces) == lengths(mirrored)
        assert lengths(pieces) == [round(line.length, 6) for line in pieces.lines]
    assert there.completeness == back.correctness
    return there


def test_the_same_map_matches_itself() -> None:
    found = match(GRID, GRID)
    assert lengths(found.missing) == lengths(found.unseen) == []
    assert found.matched.total == found.found.total == 400
    assert found.matched.distances.max() == 0
    assert (found.completeness, found.correctness, found.quality) == (1, 1, 1)


def test_a_removed_road_is_missing_although_another_crosses_it() -> None:
    found = match(GRID, [STREET])
    assert lengths(found.missing) == [200]  # both arms are one road
    assert found.missing.lines[0].equals(LineString([(100, -100), (100, 0), (100, 100)]))
    assert found.missing.distances[0] == pytest.approx(50)
    assert lengths(found.matched) == lengths(found.found) == [200]
    assert lengths(found.unseen) == []
    assert (found.completeness, found.correctness, found.quality) == (1, 0.5, 0.5)


@pytest.mark.parametrize("metres", [5, 7.9])
def test_a_road_that_was_moved_is_matched_with_its_offset(metres: float) -> None:
    found = match([affinity.translate(STREET, 0, metres)], [STREET])
    assert lengths(found.matched) == [200]
    assert found.matched.distances == pytest.approx([metres])
    assert found.matched.lines[0].equals(LineString([(0, metres), (200, metres)]))


@pytest.mark.parametrize("turn", [0, 30])
def test_a_map_that_was_moved_has_that_shift_though_each_road_tells_half_of_it(turn: float) -> None:
    ours = [affinity.rotate(line, turn, origin=(100, 0)) for line in GRID]
    found = match_maps(ours, [affinity.translate(line, 3, -2) for line in ours], 8)
    assert found.shift == pytest.approx([3, -2], abs=0.01)
    assert match_maps(ours, ours, 8).shift == pytest.approx([0, 0])


def test_roads_in_one_direction_tell_no_shift_and_neither_do_none() -> None:
    beside = [STREET, affinity.translate(STREET, 0, 100)]
    moved = [affinity.translate(line, 1, 4) for line in beside]
    assert match_maps(beside, moved, 8).shift is None
    assert match_maps(GRID, [affinity.translate(line, 0, 300) for line in GRID], 8).shift is None
    assert match_maps([], GRID, 8).shift is None


def test_a_road_that_was_moved_too_far_is_missing_and_unseen() -> None:
    found = match([affinity.translate(STREET, 0, 8.1)], [STREET])
    assert lengths(found.missing) == lengths(found.unseen) == [200]
    assert found.missing.distances == pytest.approx([8.1])
    assert (found.completeness, found.correctness, found.quality) == (0, 0, 0)


def test_a_road_that_was_doubled_is_matched_twice() -> None:
    found = match([affinity.translate(STREET, 0, metres) for metres in (3, -3)], [STREET])
    assert lengths(found.matched) == [200, 200]
    assert lengths(found.found) == [200]
    assert lengths(found.missing) == []


@pytest.mark.parametrize(
    ("degrees", "matched"), [(29, True), (31, False), (149, False), (151, True)]
)
def test_a_road_in_another_direction_does_not_match(degrees: float, matched: bool) -> None:
    short = LineString([(-8, 0), (8, 0)])
    found = match([affinity.rotate(short, degrees)], [short])
    assert lengths(found.matched) == ([16] if matched else [])


def test_a_longer_road_is_cut_where_the_other_ends() -> None:
    found = match([STREET], [LineString([(0, 3), (100, 3)])])
    (missing,) = lengths(found.missing)
    assert missing == pytest.approx(100 - np.sqrt(8**2 - 3**2), abs=0.5)  # the end is a half circle


@pytest.mark.parametrize(("gap", "missing"), [(31, []), (34, [34 - 16])])
def test_pieces_shorter_than_twice_the_distance_are_merged(
    gap: float, missing: list[float]
) -> None:
    parts = [LineString([(0, 0), (100, 0)]), LineString([(100 + gap, 0), (300, 0)])]
    found = match_maps([LineString([(0, 0), (300, 0)])], parts, 8)
    assert lengths(found.missing) == pytest.approx(missing, abs=1)
    assert found.matched.total + found.missing.total == pytest.approx(300)


def test_lines_that_meet_are_one_road_and_a_short_one_alone_is_kept() -> None:
    halves = [LineString([(0, 0), (7, 0)]), LineString([(12, 5), (7, 0)])]
    found = match_maps(halves, [], 8)
    assert lengths(found.missing) == pytest.approx([7 + 5 * np.sqrt(2)])
    assert np.isnan(found.missing.distances).all()
    assert (found.completeness, found.correctness, found.quality) == (None, 0, 0)


def test_the_same_line_counts_once_and_pieces_may_cross_in_their_middles() -> None:
    across = LineString([(100, -30), (100, 30)])
    found = match_maps([STREET, STREET.reverse(), STREET, across], [], 8)
    assert sorted(lengths(found.missing)) == [60, 200]
    assert found.missing.total == 260


def test_maps_without_roads_have_no_scores() -> None:
    found = match_maps([], [], 8)
    assert (found.completeness, found.correctness, found.quality) == (None, None, None)


def test_circles_of_few_and_many_points_match() -> None:
    coarse, fine = (Polygon(STREET.centroid.buffer(40, quad_segs=n)).exterior for n in (4, 64))
    found = match([LineString(coarse)], [LineString(fine)])
    assert found.correctness == found.completeness == 1
