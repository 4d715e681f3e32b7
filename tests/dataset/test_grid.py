import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roads.dataset.grid import cut, window_corners, window_starts


def test_the_official_tile_gives_5_by_5_or_6_by_6() -> None:
    assert window_starts(1500, 256, 256, "drop") == [0, 256, 512, 768, 1024]
    assert window_starts(1500, 256, 256, "shift") == [0, 256, 512, 768, 1024, 1244]
    assert window_starts(1500, 256, 256, "pad") == [0, 256, 512, 768, 1024, 1280]
    assert len(window_corners(1500, 1500, 256, 256, "pad")) == 36


@pytest.mark.parametrize(("edge", "starts"), [("drop", []), ("shift", []), ("pad", [0])])
def test_a_side_shorter_than_a_window(edge: str, starts: list[int]) -> None:
    assert window_starts(100, 256, 256, edge) == starts  # type: ignore[arg-type]


@given(st.integers(1, 400), st.integers(1, 100), st.data())
def test_windows_cover_a_side_by_the_rule_for_its_edge(
    length: int, size: int, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, size))
    dropped = window_starts(length, size, stride, "drop")
    assert all(start + size <= length for start in dropped)
    assert not dropped or dropped[-1] + size + stride > length
    for edge in ("shift", "pad"):
        starts = window_starts(length, size, stride, edge)
        covered = {pixel for start in starts for pixel in range(start, start + size)}
        if starts:
            assert covered >= set(range(length))
            assert starts == sorted(set(starts))
            assert all(b - a <= stride for a, b in itertools.pairwise(starts))
    assert all(s + size <= length for s in window_starts(length, size, stride, "shift"))


def test_cut_pads_with_zeros() -> None:
    picture = np.arange(1, 13, dtype=np.uint8).reshape(3, 4)
    assert cut(picture, 1, 2, 2).tolist() == [[7, 8], [11, 12]]
    assert cut(picture, 2, 3, 2).tolist() == [[12, 0], [0, 0]]
