"""Encoders of keras.applications for the U-Net, and their ImageNet weights."""

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roads.models.backend import keras
from roads.params.unet import NO_WEIGHTS
from roads.runtime.errors import UserError, one_line
from roads.runtime.safe_hdf5 import open_contained

IMAGENET = "imagenet"
STORE = "https://storage.googleapis.com/tensorflow/keras-applications"
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of 1, RGB


@dataclass(frozen=True)
class Encoder:
    """How to build an encoder, its skip connections, and where its weights are."""

    application: Callable[..., keras.Model]  # without its classifier and its own preprocessing
    preprocess: Callable[[Any], Any]  # from images of 0..255 to the encoder's input
    skips: tuple[str, ...]  # the last layers at strides 2, 4, 8, 16 and 32
    url: str  # of its ImageNet weights


def standardize(images: Any) -> Any:
    """Scale images to 0..1, subtract ImageNet's mean and divide by its standard deviation."""
    scale = keras.layers.Rescaling(1 / 255, dtype="float32", name="encoder_scale")
    normalize = keras.layers.Normalization(
        mean=IMAGENET_MEAN,
        variance=[deviation**2 for deviation in IMAGENET_DEVIATION],
        dtype="float32",
        name="encoder_standardize",
    )
    return normalize(scale(images))


ENCODERS = {
    "efficientnetv2b0": Encoder(
        lambda **settings: keras.applications.EfficientNetV2B0(
            include_preprocessing=False, **settings
        ),
        standardize,
        (
            "block1a_project_activation", "block2b_add", "block4a_expand_activation",
            "block6a_expand_activation", "top_activation",
        ),
        f"{STORE}/efficientnet_v2/efficientnetv2-b0_notop.h5",
    ),
    "resnet50": Encoder(
        keras.applications.ResNet50,
        keras.applications.resnet.preprocess_input,  # to BGR, minus the mean of each
        (
            "conv1_relu", "conv2_block3_out", "conv3_block4_out", "conv4_block6_out",
            "conv5_block3_out",
        ),
        f"{STORE}/resnet/resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
}  # fmt: skip


def build_encoder(name: str, depth: int, policy: Any, momentum: float, seed: int) -> keras.Model:
    """A model `encoder` from preprocessed images to its outputs at strides 2 to 2^(depth-1).

    The depth is from 2 to 6.
    """
    encoder = ENCODERS[name]
    whole = _application(encoder, policy, seed)
    for layer in whole.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    outputs = [whole.get_layer(skip).output for skip in encoder.skips[: depth - 1]]
    return keras.Model(whole.inputs[0], outputs, name="encoder")


def _application(encoder: Encoder, policy: Any, seed: int) -> keras.Model:
    """The whole encoder; it has no arguments for policy and seed, so Keras' global ones are set."""
    before, state = keras.config.dtype_policy(), random.getstate()
    keras.config.set_dtype_policy(policy)
    random.seed(seed)  # Keras draws unspecified seeds from it
    try:
        return encoder.application(include_top=False, weights=None, input_shape=(None, None, 3))
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
    url = ENCODERS[name].url
    file = url.rpartition("/")[2]
    if (folder / IMAGENET / file).is_file():
        return folder / IMAGENET / file
    try:
        return Path(keras.utils.get_file(file, origin=url, cache_subdir="models"))
    except Exception as error:
        cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser() / "models" / file
        raise UserError(
            f"the ImageNet weights of {name} cannot be downloaded ({one_line(error)}). Download "
            f"{url} on another machine and put it at {folder / IMAGENET / file} or {cache}, or "
            f"train without them: -S unet.encoder_weights={NO_WEIGHTS}"
        ) from None


def load_encoder(model: keras.Model, name: str, file: Path) -> None:
    """Load weights in the format of keras.applications (no classifier) into a net's encoder.

    Raises:
        UserError: the file is broken, or holds other weights.
    """
    other = f"{file} does not hold the weights of {name}"
    open_contained(file, f"It does not hold the weights of {name}.").close()
    whole = _application(ENCODERS[name], "float32", seed=0)
    try:
        whole.load_weights(file)
    except Exception as error:  # Keras' legacy reader trusts the file and can fail in any way
        raise UserError(f"{other}: {one_line(error)}") from None
    if not all(np.isfinite(weight).all() for weight in whole.get_weights()):
        raise UserError(f"{other}: some of its numbers are not finite")
    for layer in model.get_layer("encoder").layers:
        if layer.weights:
            layer.set_weights(whole.get_layer(layer.name).get_weights())
