import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from roads.augment import Drawn, augment, draw
from roads.backend import keras
from roads.batches import CropBatches
from roads.packs import PackReader
from tests.packed import augment_params, write_pack

SIZE = 12
EVERYTHING: dict[str, Any] = {
    "flips": True, "turns": True, "brightness": 0.2, "contrast": 0.3, "gamma": 0.4,
    "saturation": 0.5, "window": 8,
}  # fmt: skip


def batch(count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, size, size, 3), np.uint8)
    return images, (images[..., :1] > 128).astype(np.uint8)


def drawn_for(count: int, **values: Any) -> Drawn:
    """Nothing happens to any crop, but what is named."""
    still = {name: np.zeros(count, np.int32) for name in Drawn._fields[:5]}
    still["brightness"] = np.zeros(count, np.float32)
    still |= {name: np.ones(count, np.float32) for name in Drawn._fields[6:]}
    return Drawn(**{**still, **{k: v.astype(still[k].dtype) for k, v in values.items()}})


def as_arrays(tensors: tuple[Any, Any]) -> tuple[np.ndarray, np.ndarray]:
    images, masks = map(keras.ops.convert_to_numpy, tensors)
    assert images.dtype == masks.dtype == np.uint8
    return images, masks


def eight(picture: np.ndarray) -> set[bytes]:
    """The eight ways to lay a square picture down."""
    return {
        np.rot90(way, turn).tobytes() for way in (picture, picture[:, ::-1]) for turn in range(4)
    }


@pytest.mark.parametrize(
    ("flips", "turns", "ways"), [(True, True, 8), (False, True, 4), (True, False, 4)]
)
def test_flips_and_turns_lay_crops_down_in_every_way_there_is(
    flips: bool, turns: bool, ways: int
) -> None:
    image, mask = batch(1)
    params = augment_params(flips=flips, turns=turns)
    drawn = draw(params, SIZE, 200, seed=0, epoch=0)
    images, masks = as_arrays(
        augment(np.repeat(image, 200, 0), np.repeat(mask, 200, 0), drawn, params)
    )
    seen = {one.tobytes() for one in images}
    assert len(seen) == ways
    assert seen <= eight(image[0])
    if turns and not flips:
        assert seen == {np.rot90(image[0], turn).tobytes() for turn in range(4)}
    np.testing.assert_array_equal(masks, images[..., :1] > 128)


def test_a_window_is_cut_where_it_was_drawn() -> None:
    images, masks = batch(3)
    top, left = np.array([0, 4, 2]), np.array([4, 0, 1])
    got = augment(images, masks, drawn_for(3, top=top, left=left), augment_params(window=8))
    for place, (one, mask) in enumerate(zip(*as_arrays(got), strict=True)):
        window = np.s_[top[place] : top[place] + 8, left[place] : left[place] + 8]
        np.testing.assert_array_equal(one, images[place][window])
        np.testing.assert_array_equal(mask, masks[place][window])


def test_every_window_comes_up() -> None:
    drawn = draw(augment_params(window=10), SIZE, 500, seed=0, epoch=0)
    places = set(zip(drawn.top.tolist(), drawn.left.tolist(), strict=True))
    assert places == set(itertools.product(range(3), range(3)))


def recoloured(image: np.ndarray, drawn: Drawn, place: int) -> np.ndarray:
    x = image / 255
    mean = x.mean()
    x = np.clip((x - mean) * drawn.contrast[place] + mean + drawn.brightness[place], 0, 1)
    x = x ** drawn.gamma[place] * 255
    grey = x.mean(axis=-1, keepdims=True)
    return np.clip(grey + (x - grey) * drawn.saturation[place], 0, 255)


@pytest.mark.parametrize(
    "names",
    [("brightness",), ("contrast",), ("gamma",), ("saturation",), tuple(Drawn._fields[5:])],
)
def test_colours_change_as_drawn_and_masks_do_not(names: tuple[str, ...]) -> None:
    images, masks = batch(6)
    params = augment_params(**dict.fromkeys(names, 0.4))
    drawn = draw(params, SIZE, 6, seed=1, epoch=0)
    got, same = as_arrays(augment(images, masks, drawn, params))
    np.testing.assert_array_equal(same, masks)
    for place, image in enumerate(got):
        expected = recoloured(images[place].astype(np.float64), drawn, place)
        assert np.abs(image - expected).max() <= 0.51
    assert (got != images).mean() > 0.5


def test_nothing_drawn_changes_nothing() -> None:
    images, masks = batch(2)
    params = augment_params(**{**EVERYTHING, "window": SIZE})
    got, same = as_arrays(augment(images, masks, drawn_for(2), params))
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(same, masks)


def test_a_draw_depends_on_seed_epoch_and_row_alone() -> None:
    params = augment_params(**EVERYTHING)
    many, few = draw(params, SIZE, 50, 3, 4), draw(params, SIZE, 20, 3, 4)
    for one, other in zip(many.of(np.arange(20)), few, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
    for other in (draw(params, SIZE, 50, 4, 4), draw(params, SIZE, 50, 3, 5)):
        assert not np.array_equal(other.contrast, many.contrast)
    assert many.brightness.min() < -0.15
    assert many.brightness.max() > 0.15
    assert np.abs(many.contrast - 1).max() <= 0.3


def test_batches_of_any_size_are_augmented_alike(tmp_path: Path) -> None:
    write_pack(tmp_path, SIZE, train=10, valid=1)
    with PackReader(tmp_path) as pack:
        found: list[dict[int, bytes]] = []
        for size in (3, 10):
            batches = CropBatches(
                pack, "train", size, seed=5, augmentation=augment_params(**EVERYTHING)
            )
            batches.set_epoch(2)
            images = np.concatenate([batches[index][0] for index in range(len(batches))])
            fed = [masks for _, masks in batches.feed()] if size == 3 else []
            for index, masks in enumerate(fed[: len(batches)]):
                np.testing.assert_array_equal(np.asarray(masks), batches[index][1])
            assert images.shape == (10, 8, 8, 3)
            order = batches.order.tolist()
            found.append({row: one.tobytes() for row, one in zip(order, images, strict=True)})
    assert found[0] == found[1]


@pytest.mark.parametrize("change", [{"brightness": 1}, {"gamma": -0.1}, {"window": 0}])
def test_params_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        augment_params(**change)
