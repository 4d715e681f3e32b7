import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError
from scipy.ndimage import affine_transform

from roads.dataset.packs import PackReader
from roads.models.backend import keras
from roads.training.augment import Drawn, augment, draw
from roads.training.batches import CropBatches
from roads.training.losses import IGNORED
from tests.packed import augment_params, write_pack

SIZE = 12
EVERYTHING: dict[str, Any] = {
    "flips": True, "turns": True, "brightness": 0.2, "contrast": 0.3, "gamma": 0.4,
    "saturation": 0.5, "window": 8, "rotation": 90.0,
}  # fmt: skip


def batch(count: int, size: int = SIZE) -> tuple[np.ndarray, np.ndarray]:
    noise = np.random.default_rng(0)
    images = noise.integers(0, 256, (count, size, size, 3), np.uint8)
    return images, (images[..., :1] > 128).astype(np.uint8)


def drawn_for(count: int, **values: Any) -> Drawn:
    """Nothing happens to any crop, but what is named."""
    still: dict[str, np.ndarray] = {name: np.zeros(count, np.int32) for name in Drawn._fields[:5]}
    middle = np.full(count, (SIZE - 1) / 2, np.float32)
    still |= {"middle_y": middle, "middle_x": middle}
    still |= {name: np.zeros(count, np.float32) for name in ("sine", "brightness")}
    still |= {
        name: np.ones(count, np.float32) for name in ("cosine", "contrast", "gamma", "saturation")
    }
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
def test_flips_and_turns_give_all_eight_orientations(flips: bool, turns: bool, ways: int) -> None:
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


def test_every_window_is_drawn() -> None:
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
    [("brightness",), ("contrast",), ("gamma",), ("saturation",), tuple(Drawn._fields[9:])],
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


@pytest.mark.parametrize("rotation", [0, 30])
def test_without_augmentation_nothing_changes(rotation: float) -> None:
    images, masks = batch(2)
    params = augment_params(**{**EVERYTHING, "window": SIZE, "rotation": rotation})
    got, same = as_arrays(augment(images, masks, drawn_for(2), params))
    np.testing.assert_array_equal(got, images)
    np.testing.assert_array_equal(same, masks)


def test_a_draw_depends_only_on_seed_epoch_and_row() -> None:
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


@pytest.mark.slow
def test_augmentation_does_not_depend_on_the_batch_size(tmp_path: Path) -> None:
    write_pack(tmp_path, SIZE, train=10, valid=1)
    with PackReader(tmp_path) as pack:
        found: list[dict[int, bytes]] = []
        for size, whole in ((3, 12), (10, 10)):
            batches = CropBatches(
                pack, "train", size, seed=5, augmentation=augment_params(**EVERYTHING)
            )
            batches.set_epoch(2)
            images = np.concatenate([batches[index][0] for index in range(len(batches))])
            fed = [masks for _, masks in batches.feed()] if size == 3 else []
            for index, masks in enumerate(fed[: len(batches)]):
                np.testing.assert_array_equal(np.asarray(masks), batches[index][1])
            assert images.shape == (whole, 8, 8, 3)
            order = batches.order.tolist()
            found.append({row: one.tobytes() for row, one in zip(order, images, strict=True)})
    assert found[0] == found[1]


def test_rotation_and_scaling_agree_with_scipy() -> None:
    """Of a smooth picture: the two agree on where every pixel comes from, and on the outside."""
    y, x = np.mgrid[:SIZE, :SIZE]
    image = np.stack([10 * y + 5 * x, 200 - 9 * y, 20 + 14 * x], axis=-1)[None].astype(np.uint8)
    mask = (x > y).astype(np.uint8)[None, ..., None]
    params = augment_params(rotation=180, scale=0.5, window=8)
    angles = np.deg2rad([0, 33, 90, -120])
    covered = np.array([1, 0.7, 1.4, 1.2])
    middle_y, middle_x = np.array([5.5, 5, 7, 3]), np.array([5.5, 6, 4.75, 7])
    drawn = drawn_for(
        4, cosine=np.cos(angles) * covered, sine=np.sin(angles) * covered, middle_y=middle_y,
        middle_x=middle_x,
    )  # fmt: skip
    got, moved = as_arrays(augment(np.repeat(image, 4, 0), np.repeat(mask, 4, 0), drawn, params))
    for place, (angle, times) in enumerate(zip(angles, covered, strict=True)):
        turn = times * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        offset = np.array([middle_y[place], middle_x[place]]) - turn @ np.array([3.5, 3.5])
        settings: dict[str, Any] = {"offset": offset, "output_shape": (8, 8), "mode": "nearest"}
        for channel in range(3):
            wanted = affine_transform(
                image[0, ..., channel].astype(float), turn, order=1, **settings
            )
            inside = got[place, ..., channel][moved[place, ..., 0] != IGNORED]
            assert np.abs(inside - wanted[moved[place, ..., 0] != IGNORED]).max() <= 0.51
        rows, columns = (
            turn @ (np.mgrid[:8, :8].reshape(2, -1)) + offset[:, None]
        ).reshape(2, 8, 8)  # fmt: skip
        outside = (np.minimum(rows, columns) < -0.5) | (np.maximum(rows, columns) > SIZE - 0.5)
        np.testing.assert_array_equal(moved[place, ..., 0] == IGNORED, outside)
        assert (got[place][outside] == 255).all()
        near = np.floor(np.array([rows[~outside], columns[~outside]]) + 0.5).astype(int)
        same = moved[place, ..., 0][~outside] == mask[0, ..., 0][tuple(np.clip(near, 0, SIZE - 1))]
        assert same.mean() > 0.98  # float32 rounds some halves the other way
    assert (moved[2] == IGNORED).any()
    assert not (moved[0] == IGNORED).any()


def test_half_of_the_windows_are_rotated_and_stay_within_the_crop() -> None:
    params = augment_params(rotation=180, scale=0.25, window=12, repeats=2)
    drawn = draw(params, 64, 4000, seed=0, epoch=0)
    sharp = (drawn.sine == 0) & (drawn.cosine == 1)
    assert 0.47 < sharp.mean() < 0.53
    np.testing.assert_array_equal(drawn.middle_y[sharp], drawn.top[sharp] + 5.5)
    covered = np.hypot(drawn.sine, drawn.cosine)[~sharp]
    assert 0.8 <= covered.min() < 0.81
    assert 1.24 < covered.max() <= 1.2501
    angles = np.arctan2(drawn.sine, drawn.cosine)[~sharp]
    assert np.histogram(angles, 4, (-np.pi, np.pi))[0].min() > 400
    images = np.zeros((4000, 64, 64, 3), np.uint8)
    _, masks = as_arrays(augment(images, images[..., :1], drawn, params))
    assert masks.max() == 0  # nothing from outside


def test_crops_are_repeated_with_other_augmentations(tmp_path: Path) -> None:
    write_pack(tmp_path, SIZE, train=5, valid=1)
    with PackReader(tmp_path) as pack:
        augmentation = augment_params(**EVERYTHING, repeats=3)
        batches = CropBatches(pack, "train", 5, seed=5, augmentation=augmentation)
        assert len(batches) == 3
        assert sorted(batches.order) == list(range(15))
        assert sorted(batches.order[:5] % 5) == list(range(5))
        images = np.concatenate([batches[index][0] for index in range(3)])
        assert len({image.tobytes() for image in images}) == 15
        plain = CropBatches(pack, "train", 5, seed=5, augmentation=augment_params(repeats=3))
        images = np.concatenate([plain[index][0] for index in range(3)])
        assert len({image.tobytes() for image in images}) == 5


@pytest.mark.parametrize(
    "change", [{"brightness": 1}, {"gamma": -0.1}, {"window": 0}, {"rotation": 181}, {"repeats": 0}]
)
def test_params_out_of_range_are_refused(change: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        augment_params(**change)
