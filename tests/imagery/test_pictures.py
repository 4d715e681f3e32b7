"""Pictures of other than 8 bits are refused by the stages, with a command that converts them."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from PIL import Image

from roads.imagery.pictures import read_image, read_map
from roads.mapping.eight_bits import rewrite_image, rewrite_map
from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import open_raster
from roads.runtime.errors import UserError
from tests.pictures import place_of, write_tiff
from tests.project import ROOT

KINDS: list[tuple[str, int, dict[str, Any]]] = [
    ("uint16", 1, {}), ("uint16", 3, {}), ("uint16", 3, {"photometric": "RGB"}), ("uint16", 4, {}),
    ("uint32", 1, {}), ("int16", 3, {}), ("float32", 1, {}), ("float32", 3, {}),
    ("float64", 2, {}), ("uint8", 5, {}), ("uint8", 8, {}), ("uint8", 3, {"compress": "lerc"}),
    ("uint8", 8, {"compress": "lerc"}), ("float32", 3, {"compress": "lerc_deflate"}),
]  # fmt: skip


def run_command_of(message: str) -> str:
    """Run the one command that a message advises; what it says."""
    (command,) = message.split("`")[1::2]
    python = f"{shlex.quote(sys.executable)} "
    return subprocess.run(
        command.replace("python ", python, 1),
        shell=True, check=True, cwd=ROOT, capture_output=True, text=True,
    ).stdout  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "bands", "how"), KINDS)
def test_an_image_of_another_kind_is_refused_with_a_command_that_helps(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    dtype: str,
    bands: int,
    how: dict[str, Any],
) -> None:
    values = (np.random.default_rng(0).random((40, 50, bands)) * 100 + 1).astype(dtype)
    path = write_tiff(tmp_path / "it's.tif", values, metres=0.5, **how)
    with pytest.raises(UserError, match=r"it's\.tif has .*not 8 bits.* Convert it") as refused:
        read_image(path)
    assert caplog.text == ""
    said = run_command_of(str(refused.value))
    assert {each.name for each in tmp_path.iterdir()} == {path.name, f"{path.name}.original"}
    chosen = [3, 2, 1] if bands > 4 else [1] if bands == 2 else None
    with open_raster(tmp_path / "it's.tif.original", chosen) as raster:
        expected, _ = raster.read_rows(0, 40)
    assert said.count(f"{path} ") == len(raster.notes)
    np.testing.assert_array_equal(read_image(path), expected)
    with open_raster(path) as raster:
        assert raster.transform == place_of(0.5)
        assert raster.metres is not None


@pytest.mark.parametrize("names", [("Blue", "Green", "Red"), ("b", "G", "r", "nir")])
def test_bands_described_in_another_order_are_refused_with_a_command_that_helps(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    values = np.random.default_rng(0).integers(1, 200, (40, 50, len(names)), np.uint8)
    path = write_tiff(tmp_path / "a.tif", values, photometric="RGB")
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    with pytest.raises(UserError, match=r"a\.tif has bands that are not in the order") as said:
        read_image(path)
    run_command_of(str(said.value))
    np.testing.assert_array_equal(read_image(path), values[..., 2::-1])


@pytest.mark.parametrize(
    "names", [("Red", "Green", "Blue"), ("red", "red", "green"), ("B2", "B3", "B4")]
)
def test_other_descriptions_of_bands_change_nothing(tmp_path: Path, names: tuple[str, ...]) -> None:
    values = np.random.default_rng(0).integers(1, 200, (40, 50, 3), np.uint8)
    path = write_tiff(tmp_path / "a.tif", values, photometric="RGB")
    with quiet_gdal(), rasterio.open(path, "r+") as dataset:
        dataset.descriptions = names
    np.testing.assert_array_equal(read_image(path), values)


@pytest.mark.parametrize("top", [1, 65_535])
@pytest.mark.parametrize(("dtype", "bands"), [("uint16", 1), ("float32", 1), ("int16", 3)])
def test_a_map_of_another_kind_is_refused_with_a_command_that_helps(
    tmp_path: Path, top: int, dtype: str, bands: int
) -> None:
    road = np.random.default_rng(0).random((40, 50)) < 0.01
    values = np.where(road, min(top, 32_767) if dtype == "int16" else top, 0).astype(dtype)
    values[:5] = -99 if dtype == "int16" else 99
    path = tmp_path / "a.tif"
    write_tiff(path, np.dstack([values] * bands), nodata=values[0, 0])
    with pytest.raises(UserError, match="not 8 bits") as refused:
        read_map(path)
    run_command_of(str(refused.value))
    np.testing.assert_array_equal(read_map(path)[5:] == 255, road[5:])
    assert not read_map(path)[:5].any()


def test_a_png_of_16_bits_is_converted_to_a_tiff(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.full((4, 5), 40_000, np.uint16)).save(path)
    with pytest.raises(UserError, match="not 8 bits") as refused:
        read_image(path)
    run_command_of(str(refused.value))
    assert read_image(tmp_path / "a.tif").shape == (4, 5, 3)
    assert not path.exists()


def test_an_earlier_original_is_kept(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.ones((4, 5, 3), np.uint16))
    before = path.read_bytes()
    rewrite_image(path)
    with pytest.raises(UserError, match=r"a\.tif\.original already exists"):
        rewrite_image(path)
    assert (tmp_path / "a.tif.original").read_bytes() == before
    Image.fromarray(np.ones((4, 5), np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.tif already exists"):
        rewrite_map(tmp_path / "a.png")
    names = {each.name for each in tmp_path.iterdir()}
    assert names == {"a.tif", "a.tif.original", "a.png"}


def test_no_command_is_offered_for_complex_numbers(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.ones((4, 5, 1), np.complex64))
    with pytest.raises(UserError, match=r"complex64 .*Convert it to 8-bit RGB or grey\.$"):
        read_image(path)


@pytest.mark.parametrize("content", [b"II*\0", b"<html>404"])
def test_a_file_that_is_not_a_picture_is_not_converted(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(UserError, match=r"is not a picture that Pillow can read\. Run `dvc repro"):
        read_image(tmp_path / "a.tif")


def test_a_failing_command_prints_one_line_and_keeps_the_file(tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", np.ones((4, 5, 8), np.uint16))
    command = [sys.executable, "-m", "roads.mapping.eight_bits", "image", str(path)]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.returncode == 1
    assert answer.stderr.startswith(f"error: {path} has 8 bands and does not say")
    assert tifffile.imread(path).dtype == np.uint16
