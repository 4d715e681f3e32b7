from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.special

from roads.models.backend import keras
from roads.models.unet import build_unet, layers_of
from roads.models.weights import description_path, load_model, read_description
from roads.prediction.folding import fold, load_folded
from roads.runtime.files import write_json
from tests.packed import save_tiny_net, unet_params


def trained(**changes: Any) -> tuple[keras.Model, Any]:
    """A net whose normalization has something to say."""
    params = unet_params(**changes)
    net = build_unet(params, seed=0)
    draw = np.random.default_rng(0)
    for layer in layers_of(net, keras.layers.BatchNormalization):
        layer.set_weights([draw.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return net, params


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoder": "residual", "activation": "relu"},
        {"encoder": "efficientnet_lite0", "depth": 3},
    ],
    ids=str,
)
def test_a_folded_net_predicts_the_same_without_normalization(changes: dict[str, Any]) -> None:
    net, params = trained(**changes)
    folded = fold(net, params)
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    one, other = (model.predict_on_batch(images) for model in (net, folded))
    assert one.std() > 0.01
    np.testing.assert_allclose(one, other, atol=1e-5)
    own = [layer for layer in folded.layers if "normalization" in layer.name]
    assert own == []


def test_folding_keeps_the_precision_and_a_net_without_normalization() -> None:
    params = unet_params()
    folded = fold(build_unet(params, "mixed_bfloat16"), params)
    assert folded.get_layer("bottom_1_convolution").compute_dtype == "bfloat16"
    params = unet_params(normalization="none")
    net = build_unet(params)
    assert fold(net, params) is net


@pytest.mark.slow
def test_a_loaded_net_has_its_logits_divided_by_the_temperature(tmp_path: Path) -> None:
    weights = save_tiny_net(tmp_path)
    description = read_description(weights).model_copy(update={"temperature": 2.5})
    write_json(description_path(weights), description.model_dump(mode="json"))
    images = np.random.default_rng(1).integers(0, 256, (2, 32, 32, 3), np.uint8)
    (raw, _), (calibrated, _) = load_model(weights), load_folded(weights)
    one, other = (scipy.special.logit(m.predict_on_batch(images)) for m in (raw, calibrated))
    assert one.std() > 0.01
    np.testing.assert_allclose(one / 2.5, other, atol=1e-5)
