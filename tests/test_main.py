"""The command line as users run it: help, errors, a killed run that goes on, bounded memory."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import roads
from roads.__main__ import main
from roads.mapping.chosen_model import choose_model, resolve_weights, validation_threshold
from roads.mapping.opening import quiet_gdal
from roads.prediction.blending import Windows, predict_tile
from roads.runtime.errors import UserError
from roads.runtime.files import file_hash
from stages.evaluate import thresholds
from tests.packed import save_tiny_net
from tests.pictures import UTM, noise, place_of, write_tiff
from tests.project import ROOT, params, write_params

SMALL = ("--window", "64", "--overlap", "16")


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_net(tmp_path_factory.mktemp("model"))


def command(*words: object, backend: str = "tensorflow") -> subprocess.Popen[str]:
    """Start the command line in the project's folder, without a GPU."""
    environment = os.environ | {"KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.Popen(
        [sys.executable, "-m", "roads", "predict", *map(str, words)],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, roads.__main__ as m\n"
        "try: m.main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'numpy', 'keras', 'rasterio'} & set(sys.modules)), file=sys.stderr)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "IMAGE" in answer.stdout
    assert answer.stderr == "[]\n"


BAD_CODES = ("EPSG:999999", "EPSG:x", "26986", "/etc/passwd", "EPSG:1:2", "EPSG:99999999999999")


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--gsd", "0"], "0 is not a number above 0"),
        (["--gsd", "inf"], "inf is not a number"),
        *((["--crs", bad], f"{bad} is not a coordinate system") for bad in BAD_CODES),
        (["--threshold", "1.5"], "1.5 is not a number from 0 to 1"),
        (["--batch", "0"], "0 is not a number of at least 1"),
        (["--bands", "3,2"], "3,2 is not one number or three, such as 3,2,1"),
        (["--bands", "0,1,2"], "0,1,2 is not"),
        (["--bands", "red"], "red is not"),
        (["--format", "gif"], "invalid choice"),
    ],
)
def test_bad_arguments_are_named(
    words: list[str], complaint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["predict", "a.tif", "--out", str(tmp_path), *words])
    assert stop.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["--overlap", "64"], "evaluate.overlap 64 is not less than evaluate.window 64"),
        (["--window", "8"], "window is 8: should be greater than or equal to 16"),
        (["--window", "65"], "takes multiples of 2"),
        (["--model", "nobody"], "no net `nobody`"),
    ],
)
def test_contradicting_options_are_refused_in_one_line(
    words: list[str], complaint: str, weights: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(ROOT)
    picture = write_tiff(tmp_path / "a.tif", noise(30, 30))
    all_words = [picture, "--out", tmp_path / "out", "--model", weights, "--threshold", "0.5"]
    assert main(["predict", *map(str, all_words), *SMALL, *words]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_bands_that_a_message_asks_for_are_used_and_recorded(
    weights: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    write_tiff(tmp_path / "a.tif", noise(80, 70, 5))
    words = ["predict", "a.tif", "--out", "out", "--model", str(weights), *SMALL]
    assert main(words) == 1
    advised = capsys.readouterr().err.split("`")[1]
    assert main([*words, *advised.split()]) == 0
    assert json.loads((tmp_path / "out/a.json").read_text())["options"]["bands"] == [3, 2, 1]
    assert "already mapped" not in capsys.readouterr().out
    assert main([*words, *advised.split()]) == 0
    assert "already mapped" in capsys.readouterr().out
    assert main([*words, "--bands", "2"]) == 0
    assert "already mapped" not in capsys.readouterr().out


def test_files_of_the_user_are_refused_before_the_net_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = write_tiff(tmp_path / "7.tif", noise(30, 30))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/7_mask.png").touch()
    words = ["predict", str(picture), "--out", str(tmp_path / "out"), "--model", "nobody"]
    for further, told in (([], "no net `nobody`"), (["--format", "png"], "would be replaced")):
        assert main([*words, *further, "--force"]) == 1
        assert told in capsys.readouterr().err


def test_a_coordinate_system_is_given_by_its_code(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    picture = write_tiff(tmp_path / "a.tif", noise(30, 30), transform=place_of(1))
    words = [picture, "--out", tmp_path / "out", "--model", weights, "--threshold", "0.5", *SMALL]
    assert main(["predict", *map(str, words), "--crs", UTM.lower()]) == 0
    facts = json.loads((tmp_path / "out/a.json").read_text())
    assert facts["crs"] == facts["options"]["crs"] == UTM


def test_a_model_is_a_file_a_folder_or_a_released_name(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"no trained net here: models/unet\.weights\.h5"):
        resolve_weights(None)
    shutil.copytree(weights.parent, tmp_path / "models")
    assert resolve_weights(None) == Path("models/unet.weights.h5")
    assert resolve_weights(str(weights)) == weights
    assert resolve_weights(str(weights.parent)) == weights
    released = ROOT / "models/released/massachusetts-cpu/unet.weights.h5"
    (tmp_path / "massachusetts-cpu").mkdir()  # an empty folder is no net
    (tmp_path / "models/released/mine").mkdir(parents=True)
    assert resolve_weights("massachusetts-cpu") == released
    shutil.copy(weights, tmp_path / "models/released/mine")
    assert resolve_weights("mine") == Path("models/released/mine/unet.weights.h5")
    with pytest.raises(UserError, match="no net `nobody`"):
        resolve_weights("nobody")


@pytest.mark.parametrize("others", [None, "train: {lr: 0.1}", "a: &a 1\nb: *a", "- 1"])
def test_pictures_are_mapped_from_any_folder_with_the_windows_of_params_yaml(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    if others:
        Path("params.yaml").write_text(others)  # of another project
    write_tiff(tmp_path / "a.tif", noise(30, 30))
    assert main(["predict", "a.tif", "--out", "out", "--model", str(weights)]) == 0
    assert json.loads(Path("out/a.json").read_text())["options"]["window"] == 512


@pytest.mark.parametrize("overlap", [128, 32])
def test_a_script_loads_a_net_and_predicts_arrays(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overlap: int
) -> None:
    values = params()
    values["evaluate"]["overlap"] = overlap
    write_params(tmp_path, values)
    monkeypatch.chdir(tmp_path)
    net = roads.load(weights)
    picture = np.random.default_rng(0).integers(0, 256, (70, 600, 3), np.uint8)
    probability = net.predict(picture)
    assert (probability.shape, probability.dtype) == ((70, 600), np.float32)
    windows = Windows(512, overlap, 2)
    expected = predict_tile(choose_model(weights, 512, 2, False).predict, picture, windows)
    np.testing.assert_array_equal(probability, expected)
    assert net.threshold == 0.5  # none was chosen for these weights
    odd: Any
    for odd in (picture[..., 0], picture / 255, picture[:0]):
        with pytest.raises(ValueError, match=r"should be uint8 of shape \(height, width, 3\)"):
            net.predict(odd)


def test_a_net_is_loaded_only_by_a_name_or_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="there is no net ``"):
        roads.load("")
    odd: Any = 3
    with pytest.raises(TypeError, match="the net's name is 3, but should be a str or a Path"):
        roads.load(odd)


@pytest.mark.slow
def test_flips_and_turns_are_averaged(weights: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    turned = np.ascontiguousarray(np.rot90(image, axes=(1, 2)))
    plain, averaged = (choose_model(weights, 64, 2, tta).predict for tta in (False, True))
    assert np.abs(np.rot90(plain(image), axes=(1, 2)) - plain(turned)).max() > 1e-3
    np.testing.assert_allclose(np.rot90(averaged(image), axes=(1, 2)), averaged(turned), atol=1e-5)


def test_the_threshold_is_from_validation_if_it_is_of_that_model(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert validation_threshold(weights, "1") is None
    values = {"crops": {"threshold": 0.3}, "tiles": {"threshold": 0.25}}
    Path("metrics/test").mkdir(parents=True)
    for expected in (0.25, 0.3):
        Path("metrics/test/thresholds.json").write_text(
            json.dumps(thresholds(weights, values)), encoding="utf-8"
        )
        assert validation_threshold(weights, file_hash(weights, "sha256")) == expected
        values.pop("tiles", None)
    assert validation_threshold(weights, "1") is None
    Path("metrics/test/thresholds.json").write_text('{"crops": {"threshold": 0.3}}')
    assert validation_threshold(weights, "1") is None  # it does not say of which weights


def test_released_weights_have_their_threshold(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").write_text('{"tiles": {"threshold": 0.4}, "crops": {}}')
    assert validation_threshold(tmp_path / weights.name, "1") == 0.4
    thresholds = ("NaN", "-5", "0", "1", "1e9", "9" * 400, '"0.4"', "null")
    odd = [f'{{"crops": {{"threshold": {value}}}}}' for value in thresholds]
    for text in (*odd, "[]", "[" * 100_000):
        (tmp_path / "scores.json").write_text(text)
        assert validation_threshold(tmp_path / weights.name, "1") is None, text
    (tmp_path / "scores.json").unlink()
    os.mkfifo(tmp_path / "scores.json")
    assert validation_threshold(tmp_path / weights.name, "1") is None


@pytest.mark.soak
def test_a_killed_run_goes_on_with_the_next_picture(weights: Path, tmp_path: Path) -> None:
    pictures = tmp_path / "in"
    pictures.mkdir()
    write_tiff(pictures / "1.tif", noise(64, 64))
    write_tiff(pictures / "2.tif", noise(3000, 300))
    (pictures / "3.tif").write_bytes(b"II*\0")
    out = tmp_path / "out"
    words = (pictures, "--out", out, "--model", weights, "--threshold", 0.5, "--gsd", 1, *SMALL)
    run = command(*words)
    try:
        deadline = time.monotonic() + 300
        while not (out / ".2.roads-map.partial" / "2_mask.tif").exists():
            assert run.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        run.send_signal(signal.SIGKILL)
        run.communicate()
    names = {
        "_mask.tif",
        "_overlay.jpg",
        "_probability.tif",
        "_roads.geojson",
        "_roads.gpkg",
        ".json",
    }
    left = {f"1{end}" for end in names} | {".2.roads-map.partial", ".roads-map.lock"}
    assert {path.name for path in out.iterdir()} == left
    again = command(*words, backend="jax")
    said, errors = again.communicate(timeout=300)
    assert again.returncode == 1
    assert "1.tif: already mapped" in said
    *_, broken, count = errors.splitlines()
    assert broken.startswith(f"error: {pictures}/3.tif is broken")
    assert count == "error: 1 of 3 pictures could not be mapped, see above"
    assert {path.name for path in out.iterdir()} == {f"{n}{end}" for n in "12" for end in names}


@pytest.mark.slow
def test_memory_does_not_grow_with_the_height(tmp_path: Path) -> None:
    """A picture of 108 MB, by a net that sees single pixels and loads no backend."""
    picture = tmp_path / "a.tif"
    rows = np.ascontiguousarray(np.moveaxis(noise(500, 3000), 2, 0))
    how = {"height": 12_000, "width": 3000, "count": 3, "dtype": "uint8", "compress": "lzw"}
    with quiet_gdal(), rasterio.open(picture, "w", driver="GTiff", **how) as dataset:
        for top in range(0, 12_000, 500):
            dataset.write(rows, window=rasterio.windows.Window(0, top, 3000, 500))
    code = (
        "import re, sys\n"
        "from pathlib import Path\n"
        "from roads.mapping.predicting import map_roads\n"
        "from tests.pictures import BRIGHTNESS, options\n"
        "picture, out = map(Path, sys.argv[1:])\n"
        "map_roads([picture], out, BRIGHTNESS, options(window=512, overlap=128), force=False)\n"
        "status = Path('/proc/self/status').read_text()\n"  # rusage counts the parent's too
        "print(int(re.search(r'VmHWM:\\s*(\\d+) kB', status)[1]) // 1024)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code, picture, tmp_path / "out"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(answer.stdout.splitlines()[-1]) < 560  # GDAL keeps 128 of it
