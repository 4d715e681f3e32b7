"""Boxes that a person noted as wrong, and lines that are no such box."""

from pathlib import Path

import numpy as np
import pytest

from roads.dataset.label_notes import Box, ignored_pixels, read_notes
from roads.dataset.tiles import write_tiles
from roads.runtime.errors import UserError
from tests.tiles import picture, road_map, save_tile

HEADER = "name,top,left,bottom,right,reason\n"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    image, map_ = picture(100, 80), road_map(100, 80)
    write_tiles(tmp_path / "raw", [save_tile(tmp_path / "raw", "one", "train", image, map_)])
    return tmp_path / "raw"


def test_boxes_are_half_open_and_reach_to_the_border(raw: Path, tmp_path: Path) -> None:
    notes = tmp_path / "notes.csv"
    notes.write_text(
        HEADER + 'one,0,0,100,80,"shifted, all of it"\none,3,4,5,6,\n', encoding="utf-8"
    )
    assert read_notes(notes, raw) == {"one": [Box(0, 0, 100, 80), Box(3, 4, 5, 6)]}
    assert np.argwhere(ignored_pixels([Box(3, 4, 5, 6)], (100, 80))).tolist() == [
        [3, 4], [3, 5], [4, 4], [4, 5],
    ]  # fmt: skip
    notes.write_text(HEADER, encoding="utf-8")
    assert read_notes(notes, raw / "nothing") == {}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEADER + "noe,0,0,9,9,\n", "names tiles that are not in .*: noe. Correct the names"),
        (HEADER + "one,0,0,9,81,\n", r"line 2: the box 0,0,9,81 .* 100 rows and 80 columns"),
        (HEADER + "one,5,0,5,9,\n", "line 2: the box 5,0,5,9 .* is empty"),
        (HEADER + "one,-1,0,9,9,\n", "line 2: '-1,0,9,9' are not four whole numbers"),
        (HEADER + "one,0,0,9.5,9,\n", "line 2: '0,0,9.5,9' are not four whole numbers"),
        ("name,top,left,bottom,reason\n", "it must begin with the line name,top,left,bottom,right"),
        (HEADER + "one,0,0,9\n", "line 2 does not have 6 fields"),
    ],
)
def test_a_line_that_is_no_box_of_a_tile_is_named(
    raw: Path, tmp_path: Path, text: str, told: str
) -> None:
    (tmp_path / "notes.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=rf"notes\.csv.*{told}"):
        read_notes(tmp_path / "notes.csv", raw)
