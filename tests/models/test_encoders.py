from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from keras.src.legacy.saving import legacy_h5_format

from roads.models.backend import keras
from roads.models.encoders import ENCODERS, encoder_file, load_encoder
from roads.models.unet import build_unet
from roads.models.weights import Description, load_model, save_model
from roads.runtime.errors import UserError
from tests.packed import unet_params

NAMES = sorted(ENCODERS)
IMAGE = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_skips_lie_at_strides_two_to_thirty_two_and_the_mask_is_whole(name: str) -> None:
    model = build_unet(unet_params(encoder=name, depth=6, filters=2))
    encoder = model.get_layer("encoder")
    for power, output in enumerate(encoder(np.zeros((1, 64, 96, 3), np.float32)), start=1):
        assert tuple(output.shape[1:3]) == (64 // 2**power, 96 // 2**power)
    predicted = model.predict(IMAGE, verbose=0)
    assert predicted.shape == (1, 64, 96, 1)
    assert predicted.dtype == np.float32


def preprocessed(name: str) -> np.ndarray:
    image = keras.Input((None, None, 3))
    model = keras.Model(image, ENCODERS[name].preprocess(image))
    result: np.ndarray = model.predict(IMAGE, verbose=0)
    return result


def test_each_encoder_sees_what_its_weights_were_trained_on() -> None:
    means, deviations = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    standard = (IMAGE / 255 - means) / deviations
    np.testing.assert_allclose(preprocessed("efficientnetv2b0"), standard, atol=1e-5)
    np.testing.assert_allclose(preprocessed("efficientnet_lite0"), (IMAGE - 127.0) / 128, atol=1e-5)
    caffe = IMAGE[..., ::-1] - np.array([103.939, 116.779, 123.68])
    np.testing.assert_allclose(preprocessed("resnet50"), caffe, atol=1e-4)


@pytest.mark.slow
def test_weights_of_a_file_reach_the_encoder(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"weights": None, "include_top": False}
    whole = keras.applications.EfficientNetV2B0(**settings, include_preprocessing=True)
    draw = np.random.default_rng(0)
    whole.set_weights([draw.uniform(0.5, 1.5, w.shape) for w in whole.get_weights()])
    file = tmp_path / "own.h5"
    with h5py.File(file, "w") as stream:  # the format of the published files
        legacy_h5_format.save_weights_to_hdf5_group(stream, whole)

    params = unet_params(encoder="efficientnetv2b0", depth=4, encoder_weights=file.name)
    model = build_unet(params, seed=1)
    assert encoder_file(params.encoder, file.name, tmp_path) == file
    load_encoder(model, params.encoder, file)
    for name in ("stem_conv", "block2b_project_conv", "block4a_expand_bn"):
        ours = model.get_layer("encoder").get_layer(name).get_weights()
        for one, other in zip(ours, whole.get_layer(name).get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    description = Description(
        unet=params, precision="float32", backend="", device="", versions={}, crop_size=64,
        parameters=0, training={},
    )  # fmt: skip
    save_model(model, tmp_path / "unet.weights.h5", description)
    assert str(tmp_path) not in (tmp_path / "unet.json").read_text()
    loaded, _ = load_model(tmp_path / "unet.weights.h5")
    for one, other in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_without_a_network_the_message_says_how_to_provide_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise Exception("URL fetch failure: no route")  # as Keras raises it

    monkeypatch.setattr(keras.utils, "get_file", fail)
    with pytest.raises(UserError, match=r"b0_notop\.h5 on another machine and put it at"):
        encoder_file("efficientnetv2b0", "imagenet", tmp_path)
    brought = tmp_path / "imagenet" / "efficientnetv2-b0_notop.h5"
    brought.parent.mkdir()
    brought.write_bytes(b"not HDF5")
    assert encoder_file("efficientnetv2b0", "imagenet", tmp_path) == brought
    model = build_unet(unet_params(encoder="efficientnetv2b0", depth=2))
    with pytest.raises(UserError, match="does not hold the weights of efficientnetv2b0"):
        load_encoder(model, "efficientnetv2b0", brought)
    with pytest.raises(UserError, match=r"no file .*absent\.h5"):
        encoder_file("resnet50", "absent.h5", tmp_path)
    assert encoder_file("resnet50", "none", tmp_path) is None


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
