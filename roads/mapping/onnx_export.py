"""Exports a net to ONNX, for the QGIS plugin Deepness and other programs.

Deepness (github.com/PUTvision/qgis-plugin-deepness) reads its settings from the file's metadata,
and only loads nets whose input has a fixed size with equal height and width.
"""

import json
import math
from pathlib import Path
from typing import Any

from roads.models.backend import backend_name, keras
from roads.models.unet import layers_of
from roads.prediction.folding import load_folded
from roads.runtime.errors import UserError
from roads.runtime.files import replacing
from roads.runtime.params import CHECKOUT

OPSET = 17  # of onnxruntime 1.12, the oldest version that Deepness supports
REQUIREMENTS = CHECKOUT / "requirements-onnx.txt"
RESOLUTION = 100  # centimetres per pixel


def export_onnx(weights: Path, file: Path, window: int, overlap: int, threshold: float) -> None:
    """Write a net to an ONNX file, in float32, folded and calibrated.

    The input is RGB from 0 to 1, (n, 3, window, window) float32; the output is the probability of
    road, (n, 1, window, window) float32.

    Args:
        weights: a `.weights.h5` file, with its description next to it.
        file: the file to write or replace.
        window: side of the input in pixels, checked by `check_window`.
        overlap: pixels shared by neighbouring windows; metadata.
        threshold: pixels with at least this probability are road; metadata.

    Raises:
        UserError: tf2onnx is not installed, Keras does not run on TensorFlow, or as `load_model`.
    """
    if backend_name() != "tensorflow":
        raise UserError(
            f"the ONNX export needs Keras on TensorFlow, not on {backend_name()}. "
            "Set KERAS_BACKEND=tensorflow"
        )
    try:
        import onnx
        import tf2onnx.convert
    except ImportError:
        raise UserError(
            f"the ONNX export needs tf2onnx. Run `pip install -r {REQUIREMENTS}`"
        ) from None
    import tensorflow

    net, _ = load_folded(weights, "float32")
    for layer in layers_of(net, keras.layers.Activation):
        if layer.activation is keras.activations.gelu:
            layer.activation = _gelu

    @tensorflow.function
    def predict(image: tensorflow.Tensor) -> tensorflow.Tensor:
        channels_last = tensorflow.transpose(image, (0, 2, 3, 1))
        return tensorflow.transpose(net(255 * channels_last), (0, 3, 1, 2))

    signature = [tensorflow.TensorSpec((None, 3, window, window), name="image")]
    exported, _ = tf2onnx.convert.from_function(predict, signature, opset=OPSET)
    metadata = {
        "model_type": "Segmentor",
        "class_names": {0: "background", 1: "road"},
        "resolution": RESOLUTION,
        "tile_size": window,
        "tiles_overlap": round(100 * overlap / window),  # percent
        "seg_thresh": threshold,
        "seg_small_segment": 0,  # no median filter
    }
    onnx.helper.set_model_props(exported, {k: json.dumps(v) for k, v in metadata.items()})
    with replacing(file) as partial:
        partial.write_bytes(exported.SerializeToString())


def _gelu(x: Any) -> Any:
    """Keras' gelu without erfc, which ONNX lacks."""
    return 0.5 * x * (1 + keras.ops.erf(x / math.sqrt(2)))
