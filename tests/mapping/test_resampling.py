"""Rows resized strip by strip are those of the whole picture resized at once."""

import numpy as np
import pytest
from PIL import Image

from roads.mapping.resampling import RowResizer

SHAPES = [
    ((90, 70), (90, 70)), ((90, 70), (45, 35)), ((90, 70), (180, 140)), ((90, 70), (61, 47)),
    ((90, 70), (13, 300)), ((50, 70), (333, 11)), ((1, 1), (3, 2)), ((40, 30), (1, 1)),
]  # fmt: skip


@pytest.mark.parametrize(("source", "target"), SHAPES)
@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("kind", ["rgb", "grey", "float"])
def test_strips_give_the_same_result_as_the_whole(
    source: tuple[int, int], target: tuple[int, int], rows: int, kind: str
) -> None:
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*source, 3), np.uint8)
    if kind != "rgb":
        picture = picture[..., 0]
    if kind == "float":
        picture = picture / np.float32(255)
    whole = np.asarray(Image.fromarray(picture).resize(target[::-1], Image.Resampling.BILINEAR))
    resizer = RowResizer(source, target)
    strips = [
        strip
        for top in range(0, source[0], rows)
        for strip in resizer.push(picture[top : top + rows])
    ]
    resized = np.concatenate(strips)
    assert resized.dtype == picture.dtype
    assert resized.shape == whole.shape
    # Pillow rounds to bytes by coefficients that may differ in their last bit.
    np.testing.assert_allclose(resized, whole, atol=1 if kind != "float" else 1e-5, rtol=0)


@pytest.mark.parametrize("target", [(91, 71), (45, 35), (182, 142), (13, 300), (333, 11)])
def test_nearest_is_the_pixel_under_the_centre_in_the_same_strips(
    target: tuple[int, int],
) -> None:
    source = (91, 71)  # odd, so that no centre lies between two pixels
    picture = np.random.default_rng(0).integers(0, 256, source, np.uint8)
    rows, columns = (
        ((np.arange(to) + 0.5) * of / to).astype(int) for of, to in zip(source, target, strict=True)
    )
    smooth, nearest = RowResizer(source, target), RowResizer(source, target, nearest=True)
    strips = []
    for top in range(0, source[0], 9):
        part = picture[top : top + 9]
        for strip, other in zip(smooth.push(part), nearest.push(part), strict=True):
            assert strip.shape == other.shape
            strips.append(other)
    np.testing.assert_array_equal(np.concatenate(strips), picture[rows][:, columns])
