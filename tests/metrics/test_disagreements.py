"""Roads on which net and label disagree: hand-made maps whose list is known."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roads.metrics.disagreements import COLUMNS, Disagreements
from roads.metrics.graph_scores import Tracing, match_graphs, trace_both
from roads.runtime.arrays import Bool, Float32

SIDE = 400
ROADS = {
    "street": np.s_[100:107, :],
    "lane": np.s_[150:300, 60:67],
    "path": np.s_[350:357, 200:300],
}
NOTHING = np.zeros((SIDE, SIDE), np.bool_)


def drawn(**values: float) -> Float32:
    """A map with some of the roads."""
    picture = np.zeros((SIDE, SIDE), np.float32)
    for name, value in values.items():
        picture[ROADS[name]] = value
    return picture


def listed(
    folder: Path, predicted: Float32, label: Bool, skipped: Bool = NOTHING, pictures: int = 0
) -> list[dict[str, str]]:
    found = Disagreements(pictures)
    graphs = trace_both(predicted >= 0.5, label, Tracing(spur=20, tolerance=2, join=0))
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    found.add("a/b" if pictures else "a", match_graphs(graphs), image, label, predicted, skipped)
    found.write(folder, 0.5)
    with (folder / "disagreements.csv").open() as stream:
        rows = csv.DictReader(stream)
        assert tuple(rows.fieldnames or ()) == COLUMNS
        return list(rows)


def test_the_longest_and_surest_come_first_with_a_box_that_holds_the_road(tmp_path: Path) -> None:
    predicted = drawn(street=0.9, lane=0.6, path=0.2)
    rows = listed(tmp_path, predicted, drawn(street=1, path=1) > 0, pictures=1)
    assert [row["kind"] for row in rows] == ["not in the label", "not predicted"]
    assert [row["rank"] for row in rows] == ["1", "2"]  # 150 × 0.6, and 100 × (1 - 0.2)
    for row, name, length, probability in zip(
        rows, ("lane", "path"), (150 - 7, 100 - 7), (0.6, 0.2), strict=True
    ):
        assert float(row["length_m"]) == pytest.approx(length, abs=3)
        assert float(row["probability"]) == pytest.approx(probability, abs=0.01)
        top, left, bottom, right = (int(row[side]) for side in ("top", "left", "bottom", "right"))
        outside = drawn(**{name: 1})
        outside[top:bottom, left:right] = 0
        assert not outside.any()
        assert (bottom - top) * (right - left) < 4 * 7 * (length + 20)
    (picture,) = (tmp_path / "disagreements").iterdir()
    assert picture.name == "a_b_top{top}_left{left}.png".format(**rows[0])
    with Image.open(picture) as opened:
        pixels = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    assert (pixels == (255, 208, 0)).all(axis=1).any()  # its line


def test_a_surer_net_ranks_higher_a_note_and_missing_imagery_hide_a_road(tmp_path: Path) -> None:
    label = drawn(lane=1) > 0
    rows = listed(tmp_path, drawn(path=0.95), label)
    assert [row["kind"] for row in rows] == ["not predicted", "not in the label"]
    assert float(rows[0]["length_m"]) > float(rows[1]["length_m"])
    unsure = drawn(path=0.95) + drawn(lane=0.49)
    assert listed(tmp_path, unsure, label)[0]["kind"] == "not in the label"
    skipped = NOTHING.copy()
    skipped[340:360, 190:280] = True  # most of the path
    assert [row["kind"] for row in listed(tmp_path, unsure, label, skipped)] == ["not predicted"]


def test_maps_that_agree_or_have_no_road_give_a_table_without_lines(tmp_path: Path) -> None:
    assert listed(tmp_path, drawn(street=1, lane=1), drawn(street=1, lane=1) > 0) == []
    assert listed(tmp_path, drawn(), NOTHING) == []
    assert not (tmp_path / "disagreements").exists()
