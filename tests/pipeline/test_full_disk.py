"""A disk that fills while a stage writes to it: one line, nothing half-written, and on it goes."""

import errno
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from roads.dataset.tiles import write_tiles
from roads.params.binarize import BinarizeParams
from roads.params.crop import CropParams
from roads.params.handpick import HandpickParams
from roads.params.split import SplitParams
from roads.runtime.errors import FullDiskError
from roads.runtime.files import replacing, replacing_folder
from roads.runtime.state import STATE_VARIABLE
from roads.sources.sample import fetch
from stages.binarize import binarize
from stages.crop import crop
from stages.handpick_filter import handpick_filter
from tests.packed import AUGMENT, TRAIN, UNET, save_tiny_net, write_pack
from tests.pictures import write_tiff
from tests.project import ROOT, params
from tests.small_disk import SmallDisk, small_disk

PLENTY = 20_000  # kilobytes
SAMPLE = {"seed": 1, "size": 256, "train": 2, "valid": 1, "test": 1}


@dataclass(frozen=True)
class Stage:
    """How to run a stage (`{}` is the small disk, other paths are in `inputs`), and what it makes.

    Attributes:
        too_small: sizes of the disk in kilobytes; it fills at the first file, or at a later one.
    """

    arguments: str
    results: tuple[str, ...]
    too_small: tuple[int, ...]


STAGES = {
    "stages.download": Stage(
        f"--names {ROOT}/data/massachusetts_roads.csv --out {{}}/raw", ("raw/tiles.csv",), (40, 600)
    ),
    "stages.crop": Stage(
        "--raw raw --handpicked kept.csv --out {}/crops", ("crops/index.csv",), (40, 600)
    ),
    "stages.binarize": Stage("--crops crops --out {}/masks", ("masks/pixels.csv",), (4, 12)),
    "stages.pack_h5": Stage(
        "--crops crops --masks masks --handpicked kept.csv --raw raw "
        f"--notes {ROOT}/data/label_notes.csv --out {{}}/packed --metrics {{}}/data.json",
        ("packed/images.h5", "packed/masks.h5", "packed/rows.csv", "data.json"),
        (4, 100, 780, 1060),
    ),
    "stages.train": Stage(
        "--data noise --model {}/models --log {}/log --metrics {}/train.json",
        ("models/unet.weights.h5", "models/unet.json", "train.json"),
        (8, 160),
    ),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small parameters, what the data stages read, and packed crops of noise to train on."""
    folder = tmp_path_factory.mktemp("inputs")
    values = params()
    values["sample"] = dict(SAMPLE)
    values["crop"] |= {"size": 64, "stride": 64, "max_blank": 1.0}
    values["train"] |= {**TRAIN, "epochs": 2}
    values["unet"] |= {**UNET, "depth": 2}
    values["augment"] |= AUGMENT
    (folder / "params.yaml").write_text(yaml.safe_dump(values))
    (folder / "picks.csv").write_text("name,decision,reason\n")
    raw, kept, crops = folder / "raw", folder / "kept.csv", folder / "crops"
    write_tiles(raw, fetch(raw, **SAMPLE))
    picks, sheet = folder / "picks.csv", folder / "sheet.png"
    handpick_filter(raw, picks, kept, sheet, HandpickParams(max_blank=1.0))
    crop(raw, kept, crops, CropParams(**values["crop"]), SplitParams(**values["split"]))
    binarize(crops, folder / "masks", BinarizeParams(**values["binarize"]))
    write_pack(folder / "noise", 32, train=8, valid=4)
    return folder


def run_stage(disk: SmallDisk, name: str, inputs: Path) -> subprocess.CompletedProcess[str]:
    command = STAGES[name].arguments.format(*[disk.folder] * 3).split()
    environment = {
        "PYTHONPATH": str(ROOT), STATE_VARIABLE: str(disk.folder / "state"),
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    return disk.run(sys.executable, "-m", name, *command, cwd=inputs, env=environment)


def check_full_then_mended(name: str, kilobytes: int, inputs: Path, folder: Path) -> str:
    """Fill the disk, look at what is said and left, make room, and run again; what that said."""
    stage = STAGES[name]
    with small_disk(folder, kilobytes) as disk:
        full = run_stage(disk, name, inputs)
        assert full.returncode == 1
        said = [line for line in full.stderr.splitlines() if not line.startswith("WARNING")]
        assert len(said) == 1
        assert re.match(
            f"error: {folder}/.* could not be written: no space left on device", said[0]
        )
        files = {path for path in disk.seen(folder).rglob("*") if path.is_file()}
        left = {str(path.relative_to(disk.seen(folder))) for path in files}
        assert left.isdisjoint(stage.results)
        assert not any(path.endswith(".partial") for path in left)
        disk.resize(PLENTY)
        mended = run_stage(disk, name, inputs)
        assert mended.returncode == 0, mended.stderr
        assert all(disk.seen(folder / result).is_file() for result in stage.results)
    return mended.stdout


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kilobytes"), [("stages.crop", 600), ("stages.pack_h5", 1060)])
def test_a_full_disk_is_reported_in_one_line_and_can_be_fixed(
    name: str, kilobytes: int, inputs: Path, tmp_path: Path
) -> None:
    check_full_then_mended(name, kilobytes, inputs, tmp_path / "disk")


@pytest.mark.soak
@pytest.mark.parametrize(
    ("name", "kilobytes"), [(name, size) for name in STAGES for size in STAGES[name].too_small]
)
def test_a_full_disk_at_several_moments(
    name: str, kilobytes: int, inputs: Path, tmp_path: Path
) -> None:
    check_full_then_mended(name, kilobytes, inputs, tmp_path / "disk")


@pytest.mark.soak
def test_a_training_resumes_once_there_is_space(inputs: Path, tmp_path: Path) -> None:
    said = check_full_then_mended("stages.train", 240, inputs, tmp_path / "disk")
    assert "resuming after epoch" in said


def check_full_then_mapped(kilobytes: int, folder: Path, inputs: Path) -> None:
    """Map a large picture and a small one, then again with more room."""
    weights = save_tiny_net(inputs)
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    pictures = [write_tiff(inputs / "large.tif", pixels)]
    pictures += [write_tiff(inputs / "small.tif", pixels[:64, :64])]
    words = [*map(str, pictures), f"--model={weights}", "--window=64", "--overlap=16", "--gsd=1"]
    environment = {"CUDA_VISIBLE_DEVICES": "", "KERAS_BACKEND": "jax"}  # which starts sooner
    with small_disk(folder, kilobytes) as disk:
        command = [sys.executable, "-m", "roads", "predict", *words, f"--out={folder}/out"]
        full = disk.run(*command, cwd=ROOT, env=environment)
        assert full.returncode == 1
        said = re.findall("^(?!WARNING|predict: ).+", full.stderr, re.MULTILINE)
        assert re.match(
            f"error: {folder}/out/.* could not be written: no space left on device", said[0]
        )
        assert said[1:] == ["error: 1 of 2 pictures could not be mapped, see above"]
        files = [path.name for path in disk.seen(folder).rglob("*") if path.is_file()]
        assert len(files) == 6
        assert all(name.startswith("small") for name in files)
        disk.resize(PLENTY)
        mended = disk.run(*command, cwd=ROOT, env=environment)
        assert mended.returncode == 0, mended.stderr
        assert "small.tif: already mapped" in mended.stdout
        assert len([path for path in disk.seen(folder).rglob("*") if path.is_file()]) == 12


@pytest.mark.slow
def test_a_picture_without_space_is_mapped_later(tmp_path: Path) -> None:
    check_full_then_mapped(400, tmp_path / "disk", tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("kilobytes", [500, 700, 900, 1100, 1200, 1300])
def test_a_full_disk_at_several_moments_of_mapping(kilobytes: int, tmp_path: Path) -> None:
    check_full_then_mapped(kilobytes, tmp_path / "disk", tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("write_aside", [replacing, replacing_folder])
def test_earlier_files_are_kept(
    write_aside: Callable[[Path], Any], number: int, tmp_path: Path
) -> None:
    before = tmp_path / "before"
    before.mkdir()
    with pytest.raises(FullDiskError, match=f"{before} could not be written"), write_aside(before):
        raise OSError(number, "full")
    assert list(tmp_path.iterdir()) == [before]


def test_other_errors_are_passed_on(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), replacing(tmp_path / "file"):
        raise PermissionError(errno.EACCES, "not allowed")
