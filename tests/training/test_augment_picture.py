"""The picture of training crops: which crops it shows, and that its title fits."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from roads.dataset.packs import PackReader, pack_writer
from roads.training import augment_picture
from roads.training.augment_picture import draw_pairs
from roads.training.batches import CropBatches
from tests.packed import augment_params, write_pack

SIZE = 32


def test_the_title_fits_above_two_crops(tmp_path: Path) -> None:
    write_pack(tmp_path, SIZE, train=2, valid=1)
    with PackReader(tmp_path) as pack:
        crops = CropBatches(pack, "train", 2, seed=0, augmentation=augment_params(flips=True))
        draw_pairs(tmp_path / "pairs.png", crops)
    with Image.open(tmp_path / "pairs.png") as picture:
        title = np.asarray(picture.convert("L"))[:40]
    assert title.min() < 100
    assert (title[:, [0, 1, -2, -1]] > 250).all()


def test_crops_with_roads_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pack_writer(tmp_path, {"train": 20, "valid": 1, "test": 1}, SIZE) as writer:
        for split, count in (("train", 20), ("valid", 1), ("test", 1)):
            masks = np.zeros((count, SIZE, SIZE), np.uint8)
            masks[-3:, 4] = 1
            writer.append(split, np.repeat(masks[..., None], 3, axis=3), masks)
    shown = []
    monkeypatch.setattr(
        augment_picture, "_show", lambda axes, image, mask: shown.append(bool(mask.any()))
    )
    with PackReader(tmp_path) as pack:
        draw_pairs(tmp_path / "pairs.png", CropBatches(pack, "train", 4, seed=0))
    assert shown[::2] == shown[1::2] == [True] * 3 + [False] * 3
