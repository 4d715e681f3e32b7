from pathlib import Path

import numpy as np

from roads.dataset.packs import PackReader, pack_writer
from roads.training.batches import CropBatches, background_per_road
from roads.training.losses import IGNORED
from tests.packed import augment_params, write_pack


def test_every_crop_comes_once_per_epoch_in_a_seeded_order(tmp_path: Path) -> None:
    write_pack(tmp_path, 16, train=11, valid=2)
    with PackReader(tmp_path) as pack:
        images, masks = pack.read("train", range(11))
        batches = CropBatches(pack, "train", 4, seed=5)
        orders = []
        for epoch in (0, 1):
            batches.set_epoch(epoch)
            got = [batches[index] for index in range(len(batches))]
            assert [len(image) for image, _ in got] == [4, 4, 4]
            np.testing.assert_array_equal(
                np.concatenate([i for i, _ in got]), images[batches.order]
            )
            np.testing.assert_array_equal(np.concatenate([m for _, m in got]), masks[batches.order])
            assert batches.order[11] == batches.order[0]  # fills the last batch up
            orders.append(list(batches.order[:11]))
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))

        again = CropBatches(pack, "train", 11, seed=5)
        again.set_epoch(1)
        assert list(again.order) == orders[1]
        few = CropBatches(pack, "train", 25, seed=5)
        assert [len(images) for images, _ in (few[index] for index in range(len(few)))] == [25]
        assert sorted(few.order) == sorted([*range(11)] * 2 + list(few.order[:3]))


def test_without_a_seed_crops_come_in_their_order(tmp_path: Path) -> None:
    write_pack(tmp_path, 16, train=1, valid=5)
    with PackReader(tmp_path) as pack:
        batches = CropBatches(pack, "valid", 2)
        batches.set_epoch(3)
        assert list(batches.order) == [0, 1, 2, 3, 4]
        assert len(batches) == 3


def test_masks_are_ignored_where_imagery_is_missing(tmp_path: Path) -> None:
    image = np.full((1, 64, 64, 3), 90, np.uint8)
    image[:, :32] = 255  # missing
    image[:, 50:53, 50:53] = 255  # a bright roof
    mask = np.zeros((1, 64, 64), np.uint8)
    mask[:, :, 10:17] = 1
    with pack_writer(tmp_path, {"train": 1, "valid": 0, "test": 0}, 64) as writer:
        writer.append("train", image, mask)
    with PackReader(tmp_path) as pack:
        plain = CropBatches(pack, "train", 1)
        ignoring = CropBatches(pack, "train", 1, ignore_blank=True)
        np.testing.assert_array_equal(plain[0][1][..., 0], mask)
        images, masks = ignoring[0]
        np.testing.assert_array_equal(images, image)
        assert (masks[0, :32] == IGNORED).all()
        np.testing.assert_array_equal(masks[0, 34:, :, 0], mask[0, 34:])
        assert background_per_road(plain) == (64 - 7) / 7
        ignored = masks == IGNORED
        road = (mask[..., None] == 1) & ~ignored
        assert background_per_road(ignoring) == ((~ignored).sum() - road.sum()) / road.sum()


def test_nothing_of_a_label_in_a_noted_box_comes_to_training(tmp_path: Path) -> None:
    """Two packs whose masks differ there alone give the same batches, in any orientation."""
    boxes = np.array([[0, 1, 2, 3, 9, 12], [0, 1, 0, 0, 1, 16], [1, 0, 0, 0, 5, 5]])
    noted = np.zeros((3, 16, 16), np.bool_)
    noted[1, 2:9, 3:12] = noted[1, 0] = True
    draw = np.random.default_rng(0)
    images = draw.integers(0, 200, (3, 16, 16, 3), np.uint8)
    masks = draw.integers(0, 2, (3, 16, 16), np.uint8)
    batches = []
    for name in ("as it is", "turned round"):
        with pack_writer(tmp_path / name, {"train": 3, "valid": 0, "test": 0}, 16, boxes) as writer:
            writer.append("train", images, masks)
        masks = np.where(noted, 1 - masks, masks)
        turned = augment_params(flips=True, turns=True, scale=0.2)
        with PackReader(tmp_path / name) as pack:
            plain = CropBatches(pack, "train", 3)[0][1][..., 0]
            np.testing.assert_array_equal(plain, np.where(noted, IGNORED, masks))
            batches.append(CropBatches(pack, "train", 3, seed=1, augmentation=turned)[0][1])
    np.testing.assert_array_equal(*batches)


def test_without_road_the_classes_count_the_same(tmp_path: Path) -> None:
    with pack_writer(tmp_path, {"train": 1, "valid": 0, "test": 0}, 16) as writer:
        writer.append("train", np.zeros((1, 16, 16, 3), np.uint8), np.zeros((1, 16, 16), np.uint8))
    with PackReader(tmp_path) as pack:
        assert background_per_road(CropBatches(pack, "train", 1)) == 1
