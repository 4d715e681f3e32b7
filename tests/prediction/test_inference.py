"""Batches in, probabilities out: order, padding, one compilation, NaN."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader, pack_writer
from roads.models.backend import backend_name, keras
from roads.prediction import inference
from roads.prediction.inference import Predictor, predict_split
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError


class Brightness(keras.layers.Layer):
    """A net without weights: road is as probable as a pixel is bright. Counts its compilations."""

    def __init__(self) -> None:
        super().__init__()
        self.compilations: list[tuple[int, ...]] = []

    def call(self, images: Any) -> Any:
        self.compilations.append(tuple(images.shape))
        return keras.ops.mean(keras.ops.cast(images, "float32"), axis=-1, keepdims=True) / 255


def brightness_model() -> tuple[keras.Model, Brightness]:
    layer = Brightness()
    image = keras.Input((None, None, 3), dtype="uint8")
    model = keras.Model(image, layer(image))
    layer.compilations.clear()
    return model, layer


def pictures(count: int) -> Image8:
    return np.random.default_rng(count).integers(0, 256, (count, 8, 12, 3), np.uint8)


@pytest.mark.parametrize("count", [0, 1, 4, 5, 11])
def test_every_picture_gets_its_probabilities_in_order(count: int) -> None:
    model, _ = brightness_model()
    images = pictures(count)
    probabilities = Predictor(model, batch_size=4)(images)
    assert probabilities.dtype == np.float32
    assert probabilities.shape == (count, 8, 12)
    np.testing.assert_allclose(probabilities, images.mean(axis=3) / 255, rtol=1e-6)


def batch_sizes(model: keras.Model, batch_size: int, counts: tuple[int, ...]) -> list[int]:
    """The sizes of the batches that the model gets for these numbers of pictures."""
    predictor = Predictor(model, batch_size)
    predict: Any = predictor._predict
    sizes: list[int] = []

    def record(images: Image8) -> Any:
        sizes.append(len(images))
        return predict(images)

    predictor._predict = record
    for count in counts:
        predictor(pictures(count))
    return sizes


def test_short_batches_are_padded_to_few_shapes() -> None:
    model, layer = brightness_model()
    sizes = batch_sizes(model, 6, (17, 1, 6, 3, 4, 8, 13))
    one = 1 if backend_name() == "jax" else 2
    assert sizes == [6, 6, 6, one, 6, 4, 4, 6, 2, 6, 6, one]
    assert len(layer.compilations) <= 4


def test_no_batch_is_larger_than_batch_size() -> None:
    model, _ = brightness_model()
    assert batch_sizes(model, 1, (2,)) == [1, 1]


def test_nan_is_named() -> None:
    image = keras.Input((None, None, 3), dtype="uint8")
    broken = keras.Model(image, keras.ops.cast(image[..., :1], "float32") * float("nan"))
    with pytest.raises(UserError, match="predicts NaN"):
        Predictor(broken, batch_size=2)(pictures(1))


def test_a_split_comes_in_the_order_of_the_pack(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "SEVERAL", 2)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (7, 8, 8, 3), np.uint8)
    masks = rng.integers(0, 2, (7, 8, 8), np.uint8)
    with pack_writer(tmp_path, {"train": 0, "valid": 0, "test": 7}, 8) as writer:
        writer.append("test", images, masks)
    model, _ = brightness_model()
    with PackReader(tmp_path) as pack:
        batches = list(predict_split(Predictor(model, 3), pack, "test"))
        assert list(predict_split(Predictor(model, 3), pack, "valid")) == []
    assert [len(probabilities) for probabilities, _ in batches] == [6, 1]
    probabilities, road = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    np.testing.assert_allclose(probabilities, images.mean(axis=3) / 255, rtol=1e-6)
    assert road.dtype == np.bool_
    np.testing.assert_array_equal(road, masks > 0)
