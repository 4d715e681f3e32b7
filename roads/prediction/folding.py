"""Nets without batch normalization, for prediction: it becomes part of the convolutions."""

from pathlib import Path

import numpy as np

from roads.models.backend import keras
from roads.models.unet import CONVOLUTION, NORMALIZATION, build_unet
from roads.models.weights import Description, load_model
from roads.params.unet import UnetParams


def load_folded(weights: Path) -> tuple[keras.Model, Description]:
    """Load a net to predict with; as `load_model`, and folded."""
    model, description = load_model(weights)
    return fold(model, description.unet), description


def fold(model: keras.Model, params: UnetParams) -> keras.Model:
    """A net that predicts the same, to rounding, in less time.

    Once trained, batch normalization multiplies each channel of a convolution by a number and adds
    one, so the kernel can be multiplied and the bias moved instead. (An encoder of
    keras.applications keeps its own.)

    Args:
        model: from `build_unet`, trained.
        params: what it was built from.

    Returns:
        A net of the same dtype policy; `model` itself where it has nothing to fold.
    """
    if params.normalization == "none":
        return model
    policy = next(x.dtype_policy for x in model.layers if x.name.endswith(CONVOLUTION))
    folded = build_unet(params.model_copy(update={"normalization": "none"}), policy.name)
    for layer in folded.layers:
        if layer.weights:
            weights = model.get_layer(layer.name).get_weights()
            if layer.name.endswith(CONVOLUTION):
                name = layer.name.removesuffix(CONVOLUTION) + NORMALIZATION
                kernel, bias = weights
                weights = _fold_into(kernel, bias, model.get_layer(name))
            layer.set_weights(weights)
    return folded


def _fold_into(
    kernel: np.ndarray, bias: np.ndarray, layer: keras.layers.BatchNormalization
) -> list[np.ndarray]:
    gamma, beta, mean, variance = (values.astype(np.float64) for values in layer.get_weights())
    scale = gamma / np.sqrt(variance + layer.epsilon)
    return [kernel * scale, (bias - mean) * scale + beta]
