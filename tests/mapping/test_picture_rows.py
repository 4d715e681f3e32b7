"""Pictures read once from top to bottom: rows, blank areas, missing pixels, a small copy."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from roads.imagery.blank import blank_mask
from roads.mapping import resampling
from roads.mapping.picture_rows import BitRows, BlankRows, PictureRows
from roads.mapping.rasters import open_raster
from tests.pictures import noise, write_tiff


@given(st.lists(st.integers(1, 9), min_size=1), st.integers(1, 20), st.data())
def test_bits_come_out_as_they_went_in(heights: list[int], width: int, data: st.DataObject) -> None:
    rng = np.random.default_rng(0)
    rows = rng.random((sum(heights), width)) < 0.5
    queue = BitRows(width)
    for piece in np.split(rows, np.cumsum(heights)[:-1]):
        queue.push(piece)
    taken = []
    while len(queue):
        taken.append(queue.pop(data.draw(st.integers(1, len(queue)))))
    np.testing.assert_array_equal(np.concatenate(taken), rows)


@pytest.mark.parametrize("rows", [1, 5, 40, 1000])
def test_blank_areas_are_found_across_strips(rows: int) -> None:
    image = noise(200, 80)
    image[60:110, 20:70] = 255
    image[150:] = 252
    image[5:9, 5:9] = 255  # a roof, not blank
    blank = BlankRows()
    masks = [
        blank.push(image[top : top + rows], last=top + rows >= 200) for top in range(0, 200, rows)
    ]
    found = np.concatenate(masks)
    np.testing.assert_array_equal(found, blank_mask(image))
    assert found[80, 40]
    assert not found[6, 6]


@pytest.mark.parametrize("shape", [(200, 90), (100, 45), (311, 140)])
def test_rows_are_those_of_the_whole_picture(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resampling, "STRIP_PIXELS", 1000)
    image = np.random.default_rng(0).integers(0, 240, (200, 90, 3), np.uint8)
    whole = np.asarray(Image.fromarray(image).resize(shape[::-1], Image.Resampling.BILINEAR))
    with open_raster(write_tiff(tmp_path / "a.tif", image)) as raster:
        picture = PictureRows(raster, shape, (50, 20))
        for top, end in ((0, 40), (10, 50), (20, 60), (60, 100)):
            rows = picture.read(top, end)
            np.testing.assert_allclose(rows.astype(int), whole[top:end], atol=1, rtol=0)
        assert not picture.take_blank(shape[0]).any()
        assert not picture.take_missing(200).any()
        assert picture.thumbnail().shape == (50, 20, 3)
