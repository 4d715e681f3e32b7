from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roads.dataset.crops import Crop, read_pixels, write_crops
from roads.dataset.stacks import read_stack, write_stack
from roads.params.binarize import BinarizeParams
from roads.runtime.errors import UserError
from stages.binarize import binarize

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A tile of two crops: every grey level once, and nothing."""
    folder = tmp_path / "crops"
    (folder / "map").mkdir(parents=True)
    write_stack(folder / "map" / "a.tif", [LEVELS, np.zeros_like(LEVELS)])
    write_crops(
        folder / "index.csv", [Crop("a", "train", page, 0, 16 * page, 0.0, "") for page in (0, 1)]
    )
    return folder


def test_a_value_above_the_threshold_is_road(crops: Path, tmp_path: Path) -> None:
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    first, second = read_stack(tmp_path / "masks" / "a.tif")
    assert np.array_equal(first, LEVELS > 100)
    assert not second.any()
    assert read_pixels(tmp_path / "masks" / "pixels.csv") == {
        ("a", 0): (254, 155),
        ("a", 1): (0, 0),
    }


def test_masks_are_one_bit_and_uncompressed(crops: Path, tmp_path: Path) -> None:
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    with Image.open(tmp_path / "masks" / "a.tif") as stack:
        assert stack.mode == "1"
        assert stack.info["compression"] == "raw"


def test_maps_of_0_and_1_are_noticed(crops: Path, tmp_path: Path) -> None:
    write_stack(crops / "map" / "a.tif", [np.minimum(LEVELS, 1)] * 2)
    with pytest.raises(UserError, match=r"brightest pixel is 1, and binarize\.threshold is 100"):
        binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    assert not (tmp_path / "masks").exists()
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=0))


def test_single_maps_without_road_for_their_values_are_named(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = [Crop(name, "train", 0, 0, 0, 0.0, "") for name in ("a", "b", "c")]
    write_crops(crops / "index.csv", index)
    write_stack(crops / "map" / "a.tif", [LEVELS])
    write_stack(crops / "map" / "b.tif", [np.minimum(LEVELS, 1)])
    write_stack(crops / "map" / "c.tif", [np.zeros_like(LEVELS)])
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    assert "1 of 3 maps are not empty, but have no pixel above" in capsys.readouterr().err
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=0))
    assert "maps have values" not in capsys.readouterr().err


def test_inverted_maps_are_noticed(
    crops: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mostly = np.full_like(LEVELS, 255)
    write_stack(crops / "map" / "a.tif", [mostly, mostly])
    with pytest.raises(UserError, match="every pixel of every map is road"):
        binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    assert not (tmp_path / "masks").exists()
    mostly[0, 0] = 0
    write_crops(crops / "index.csv", [Crop(n, "train", 0, 0, 0, 0.0, "") for n in "abc"])
    write_stack(crops / "map" / "a.tif", [mostly])
    for name in "bc":
        write_stack(crops / "map" / f"{name}.tif", [np.full_like(LEVELS, 0)])
    binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
    assert "1 of 3 maps are more than half road: a." in capsys.readouterr().err


def test_black_maps_are_not_told_to_lower_the_threshold(crops: Path, tmp_path: Path) -> None:
    write_stack(crops / "map" / "a.tif", [np.zeros_like(LEVELS)] * 2)
    with pytest.raises(UserError, match=r"brightest pixel is 0, .*\. Maps are white on black\."):
        binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))


def test_a_truncated_stack_is_named(crops: Path, tmp_path: Path) -> None:
    stack = crops / "map" / "a.tif"
    stack.write_bytes(stack.read_bytes()[:200])
    with pytest.raises(UserError, match=r"a\.tif is broken"):
        binarize(crops, tmp_path / "masks", BinarizeParams(threshold=100))
