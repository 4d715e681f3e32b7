"""Nets as ONNX files: onnxruntime predicts what Keras does, and Deepness finds its settings."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from roads.__main__ import main
from roads.mapping import onnx_export
from roads.models.backend import keras
from roads.models.unet import build_unet, layers_of
from roads.models.weights import Description, save_model
from roads.prediction.folding import load_folded
from tests.packed import save_tiny_net, unet_params
from tests.project import ROOT


def save_net(folder: Path, precision: str, **changes: Any) -> Path:
    """Save a net whose normalization changes something."""
    params = unet_params(**changes)
    net = build_unet(params, precision, seed=3)
    draw = np.random.default_rng(0)
    for layer in layers_of(net, keras.layers.BatchNormalization):
        layer.set_weights([draw.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    description = Description(
        unet=params, precision=precision, backend="tensorflow", device="CPU", versions={},
        crop_size=64, parameters=net.count_params(), temperature=1.5, training={},
    )  # fmt: skip
    save_model(net, folder / "unet.weights.h5", description)
    return folder / "unet.weights.h5"


def session_of(file: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("precision", "changes"),
    [
        ("float32", {}),
        ("float32", {"normalization": "none", "activation": "leaky_relu"}),
        ("mixed_bfloat16", {"encoder": "residual", "activation": "gelu"}),
        ("float32", {"encoder": "efficientnet_lite0", "activation": "silu"}),
    ],
    ids=str,
)
def test_onnxruntime_predicts_as_keras_does_in_float32(
    precision: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    weights, file = save_net(tmp_path, precision, **changes), tmp_path / "net.onnx"
    words = ["--onnx", str(file), "--model", str(weights), "--window", "64", "--overlap", "16"]
    assert main(["export", *words]) == 0
    images = np.random.default_rng(1).integers(0, 256, (3, 64, 64, 3), np.uint8)
    by_keras = load_folded(weights, "float32")[0].predict_on_batch(images)
    passed_by_deepness = (images / 255).astype(np.float32).transpose(0, 3, 1, 2)
    (by_onnx,) = session_of(file).run(None, {"image": passed_by_deepness})
    assert by_onnx.dtype == np.float32
    assert by_keras.std() > 0.01
    np.testing.assert_allclose(by_onnx.transpose(0, 2, 3, 1), by_keras, rtol=0, atol=5e-6)


@pytest.mark.slow
def test_deepness_finds_its_settings_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "new" / "net.onnx"
    assert main(["export", "--onnx", str(file), "--model", "massachusetts-cpu"]) == 0
    assert capsys.readouterr().out.endswith(f"→ {file}\n")
    session = session_of(file)
    ((name, batch, *shape),) = ((i.name, *i.shape) for i in session.get_inputs())
    assert (name, shape) == ("image", [3, 512, 512])
    assert isinstance(batch, str)  # any
    assert [each.shape[1:] for each in session.get_outputs()] == [[1, 512, 512]]
    scores = json.loads((ROOT / "models/released/massachusetts-cpu/scores.json").read_text())
    metadata = session.get_modelmeta().custom_metadata_map
    assert {key: json.loads(value) for key, value in metadata.items()} == {
        "model_type": "Segmentor",
        "class_names": {"0": "background", "1": "road"},
        "resolution": 100,
        "tile_size": 512,
        "tiles_overlap": 25,
        "seg_thresh": scores["tiles"]["threshold"],
        "seg_small_segment": 0,
    }


@pytest.mark.slow
def test_obstacles_to_an_export_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, model = tmp_path / "net.onnx", str(save_tiny_net(tmp_path))
    words = ["export", "--onnx", str(file), "--model", model]
    assert main([*words, "--window", "255"]) == 1
    assert "it takes multiples of 2. Set --window" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tf2onnx", None)  # as if it were not installed
    assert main(words) == 1
    install = f"Run `pip install -r {ROOT / 'requirements-onnx.txt'}`\n"
    assert capsys.readouterr().err.endswith(install)
    monkeypatch.setattr(onnx_export, "backend_name", lambda: "jax")
    assert main(words) == 1
    assert "Set KERAS_BACKEND=tensorflow" in capsys.readouterr().err
    assert not file.exists()
