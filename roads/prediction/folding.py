"""Prepares a trained net for prediction: folds its normalization, and calibrates it."""

from pathlib import Path

import numpy as np

from roads.models.backend import keras
from roads.models.unet import CONVOLUTION, NORMALIZATION, build_unet
from roads.models.weights import Description, load_model
from roads.params.unet import UnetParams


def load_folded(weights: Path, precision: str | None = None) -> tuple[keras.Model, Description]:
    """Load a net for prediction: `load_model`, `fold`, and its temperature in its last layer."""
    model, description = load_model(weights, precision)
    folded = fold(model, description.unet)
    head = folded.get_layer("head")
    head.set_weights([weight / description.temperature for weight in head.get_weights()])
    return folded, description


def fold(model: keras.Model, params: UnetParams) -> keras.Model:
    """A faster net with the same predictions, up to floating-point rounding.

    A trained batch normalization multiplies each channel of a convolution by one number and adds
    another, so the kernel can be scaled and the bias shifted instead. (The
    pretrained encoder keeps its normalization.)

    Args:
        model: from `build_unet`, trained.
        params: what it was built from.

    Returns:
        A net of the same dtype policy; `model` itself if it has no normalization.
    """
    if params.normalization == "none":
        return model
    policy = next(x.dtype_policy for x in model.layers if x.name.endswith(CONVOLUTION))
    folded = build_unet(params.model_copy(update={"normalization": "none"}), policy.name)
    for layer in folded.layers:
        if not layer.weights:
            continue
        weights = model.get_layer(layer.name).get_weights()
        if layer.name.endswith(CONVOLUTION):
            kernel, bias = weights
            norm = model.get_layer(layer.name.removesuffix(CONVOLUTION) + NORMALIZATION)
            gamma, beta, mean, variance = (w.astype(np.float64) for w in norm.get_weights())
            scale = gamma / np.sqrt(variance + norm.epsilon)
            weights = [kernel * scale, (bias - mean) * scale + beta]
        layer.set_weights(weights)
    return folded
