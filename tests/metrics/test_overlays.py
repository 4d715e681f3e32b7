"""Overlays: which pixel gets which colour."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.axes import Axes
from PIL import Image

from roads.metrics.overlays import draw_overlay, overlay


def test_true_positives_are_green_false_ones_red_false_negatives_blue_and_the_rest_grey() -> None:
    image = np.full((2, 2, 3), (90, 100, 110), np.uint8)
    road = np.array([[True, False], [True, False]])
    predicted = np.array([[True, True], [False, False]])
    painted = overlay(image, road, predicted).astype(int)
    assert painted.shape == image.shape
    assert painted[0, 0].argmax() == 1  # green
    assert painted[0, 1].argmax() == 0  # red
    assert painted[1, 0].argmax() == 2  # blue
    assert painted[1, 1].tolist() == [100, 100, 100]


def test_picture_is_a_png_wide_enough_to_see_every_pixel(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    probability = rng.random((64, 64), np.float32)
    draw_overlay(
        tmp_path / "crops" / "1.png",
        rng.integers(0, 256, (64, 64, 3), np.uint8),
        probability > 0.5,
        probability,
        0.4,
        r"Best of 3 crops (tile x$\frac$)",
    )
    with Image.open(tmp_path / "crops" / "1.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 4 * 256
    assert [path.name for path in (tmp_path / "crops").iterdir()] == ["1.png"]


def test_a_large_picture_is_shrunk_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []

    def imshow(axes: Axes, picture: np.ndarray, **options: Any) -> Any:
        shown.append(picture)
        return original(axes, picture, **options)

    original = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", imshow)
    image = np.full((1000, 3000, 3), 80, np.uint8)
    road = np.zeros((1000, 3000), np.bool_)
    road[:, :1500] = True
    draw_overlay(tmp_path / "1.png", image, road, np.float32(0.75) * road, 0.5, "Tile")
    assert [picture.shape for picture in shown] == [
        (250, 750, 3), (250, 750), (250, 750), (250, 750, 3),
    ]  # fmt: skip
    assert np.unique(shown[0]).tolist() == [80]
    assert np.array_equal(shown[1][:, [0, -1]], np.tile([1, 0], (250, 1)))
    assert np.unique(shown[2]).tolist() == [0, 0.75]
