from pathlib import Path

import numpy as np

from roads.batches import CropBatches
from roads.packs import PackReader
from tests.packed import write_pack


def test_every_crop_comes_once_an_epoch_in_an_order_of_seed_and_epoch(tmp_path: Path) -> None:
    write_pack(tmp_path, 16, train=11, valid=2)
    with PackReader(tmp_path) as pack:
        images, masks = pack.read("train", range(11))
        batches = CropBatches(pack, "train", 4, seed=5)
        orders = []
        for epoch in (0, 1):
            batches.set_epoch(epoch)
            got = [batches[index] for index in range(len(batches))]
            assert [len(image) for image, _ in got] == [4, 4, 3]
            np.testing.assert_array_equal(
                np.concatenate([i for i, _ in got]), images[batches.order]
            )
            np.testing.assert_array_equal(np.concatenate([m for _, m in got]), masks[batches.order])
            orders.append(list(batches.order))
        assert orders[0] != orders[1]
        assert sorted(orders[0]) == sorted(orders[1]) == list(range(11))

        again = CropBatches(pack, "train", 2, seed=5)
        again.set_epoch(1)
        assert list(again.order) == orders[1]


def test_without_a_seed_crops_come_in_their_order(tmp_path: Path) -> None:
    write_pack(tmp_path, 16, train=1, valid=5)
    with PackReader(tmp_path) as pack:
        batches = CropBatches(pack, "valid", 2)
        batches.set_epoch(3)
        assert list(batches.order) == [0, 1, 2, 3, 4]
        assert len(batches) == 3
