"""The table of tiles."""

import numpy as np
import pytest

from roads.metrics.counts import HALF
from roads.metrics.graph_scores import Tracing
from roads.metrics.tile_scores import TABLE_COLUMNS, TileScores, table_rows


def test_a_label_that_was_moved_shows_in_the_table_of_tiles() -> None:
    road = np.zeros((400, 400), np.bool_)
    road[100:107] = road[:, 60:67] = road[300:307] = True
    shifts = {"still": (0, 0), "down": (4, 0), "both": (-3, 5)}
    scores = TileScores(HALF, Tracing(spur=20, tolerance=2, join=0))
    for name, shift in shifts.items():
        label = np.roll(road, shift, (0, 1))
        scores.add(name, road.astype(np.float32), label, *[np.zeros_like(road)] * 2)
    one_way = np.zeros_like(road)
    one_way[100:107] = True
    scores.add("one way", one_way.astype(np.float32), one_way, *[np.zeros_like(road)] * 2)
    found = {}
    for row in table_rows(scores.each):
        cells = dict(zip(TABLE_COLUMNS, row, strict=True))
        found[cells["tile"]] = cells["shift_rows"], cells["shift_columns"]
    assert found.pop("one way") == (None, None)
    for name, shift in shifts.items():
        assert found[name] == pytest.approx(shift, abs=0.2), name
