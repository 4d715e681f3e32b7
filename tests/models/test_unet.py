import numpy as np
import pytest
from pydantic import ValidationError
from scipy.signal import correlate2d

from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.params.unet import size_step
from tests.packed import unet_params


def test_the_articles_net_has_its_number_of_parameters() -> None:
    assert build_unet(unet_params(filters=16, depth=5)).count_params() == 1_946_993


def test_dropout_grows_with_depth_as_in_the_article() -> None:
    model = build_unet(unet_params(filters=1, depth=5))
    rates = [layer.rate for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    down_and_up = [0.1, 0.1, 0.2, 0.2, 0.3, 0.2, 0.2, 0.1, 0.1]
    assert rates == pytest.approx(down_and_up)


def test_a_net_of_one_level_is_two_convolutions_and_a_sigmoid() -> None:
    params = unet_params(filters=1, depth=1, normalization="none", activation="relu")
    model = build_unet(params, seed=3)
    draw = np.random.default_rng(0)
    model.set_weights([draw.normal(size=w.shape) for w in model.get_weights()])
    image = draw.integers(0, 256, (8, 8, 3), np.uint8)
    first, first_bias, second, second_bias, head, head_bias = model.get_weights()

    summed = sum(
        correlate2d(image[..., channel] / 255, first[:, :, channel, 0], mode="same")
        for channel in range(3)
    )
    x = np.maximum(summed + first_bias, 0)
    x = np.maximum(correlate2d(x, second[..., 0, 0], mode="same") + second_bias, 0)
    expected = 1 / (1 + np.exp(-(x * head[0, 0, 0, 0] + head_bias)))

    predicted = model.predict(image[None], verbose=0)
    np.testing.assert_allclose(predicted[0, ..., 0], expected, atol=1e-5)


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_any_multiple_of_the_step_is_accepted_and_float32_returned(precision: str) -> None:
    params = unet_params()
    assert size_step(params) == 4
    image = np.zeros((2, 12, 20, 3), np.uint8)
    predicted = build_unet(params, precision).predict(image, verbose=0)
    assert predicted.shape == (2, 12, 20, 1)
    assert predicted.dtype == np.float32


@pytest.mark.slow
def test_bytes_and_floats_of_the_same_image_are_the_same() -> None:
    model = build_unet(unet_params())
    image = np.random.default_rng(0).integers(0, 256, (1, 16, 16, 3), np.uint8)
    as_bytes = model.predict(image, verbose=0)
    as_floats = model.predict(image.astype(np.float32), verbose=0)
    np.testing.assert_array_equal(as_bytes, as_floats)


def test_the_seed_draws_the_weights() -> None:
    one, same, other = (build_unet(unet_params(), seed=seed).get_weights() for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(one, same, strict=True))
    assert not np.array_equal(one[0], other[0])


def test_no_two_layers_start_with_the_same_weights() -> None:
    model = build_unet(unet_params(filters=3, depth=2))
    assert not np.array_equal(
        model.get_layer("down1_1_convolution").get_weights()[0],
        model.get_layer("down1_2_convolution").get_weights()[0],
    )


def test_normalization_can_be_turned_off() -> None:
    model = build_unet(unet_params(normalization="none", dropout=0))
    kinds = {type(layer).__name__ for layer in model.layers}
    assert not kinds & {"BatchNormalization", "Dropout"}


@pytest.mark.parametrize(
    "change",
    [{"filters": 0}, {"depth": 8}, {"dropout": 0.5}, {"activation": "sine"}, {"momentum": 1.0}],
)
def test_params_out_of_range_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        unet_params(**change)
