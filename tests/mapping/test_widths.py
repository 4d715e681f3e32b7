"""Widths of roads whose masks are drawn to the pixel."""

import numpy as np
import pytest

from roads.graph.tracing import Edge
from roads.mapping import widths
from roads.mapping.widths import road_widths
from roads.runtime.arrays import Float64

HEIGHT, WIDTH = 120, 200
MASK = np.zeros((HEIGHT, WIDTH), np.bool_)
MASK[20:27] = True  # 7 pixels wide
MASK[60:71, : WIDTH // 2] = True  # 11 wide, and only in the left half
LINES = [
    [(23, 10), (23, 190)],
    [(24, 10), (24, 190)],  # one pixel aside of the middle, as a simplified line may be
    [(65, 10), (65, 150)],  # a part of it off the mask
    [(65, 50), (65, 160)],  # most of it off the mask
    [(100, 10), (100, 190)],
]


def measured(metres: tuple[float, float], tolerance: float = 2.0) -> Float64:
    edges = [Edge(0, 1, np.array(line, np.float64), 1.0, 1.0, 1.0) for line in LINES]
    return road_widths(edges, lambda top, bottom: MASK[top:bottom], MASK.shape, metres, tolerance)


@pytest.mark.parametrize("pixel", [0.5, 1.0])
def test_a_road_is_as_wide_as_its_mask_or_null_if_mostly_off_it(pixel: float) -> None:
    found = measured((pixel, pixel), tolerance=2 * pixel)
    assert found[:3] / pixel == pytest.approx([7, 7, 11], abs=0.6)
    assert np.isnan(found[3:]).all()


def test_strips_do_not_change_widths(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measured((1.0, 1.0))
    monkeypatch.setattr(widths, "STRIP_PIXELS", 5 * WIDTH)
    np.testing.assert_array_equal(measured((1.0, 1.0)), whole)


def test_no_roads_have_no_widths() -> None:
    assert road_widths([], lambda top, bottom: MASK[top:bottom], MASK.shape, (1, 1), 2).size == 0
