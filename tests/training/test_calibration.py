"""Temperatures against labels that were drawn with a known one."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader, pack_writer
from roads.training.batches import CropBatches
from roads.training.calibration import fit_temperature

SIZE = 64


def logits(images: Any) -> Any:
    return (images[..., :1].astype(np.float32) - 128) / 16  # from -8 to 7.9


# Probabilities by a net that only looks at the first channel.
NET: Any = SimpleNamespace(predict_on_batch=lambda images: 1 / (1 + np.exp(-logits(images))))


def pack_labels(folder: Path, temperature: float, blank: int = 0) -> None:
    """Pack noise with labels that are road with the probability sigmoid(logit / temperature)."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 250, (5, SIZE, SIZE, 3), np.uint8)
    road = draw.random(images.shape[:3]) < 1 / (1 + np.exp(-logits(images)[..., 0] / temperature))
    images[:, :blank], road[:, :blank] = 255, True
    with pack_writer(folder, {"train": 0, "valid": 5, "test": 0}, SIZE) as writer:
        writer.append("valid", images, road.astype(np.uint8))


def fitted(folder: Path, **settings: Any) -> float:
    with PackReader(folder) as pack:
        return fit_temperature(NET, CropBatches(pack, "valid", 2, **settings))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_of_the_labels_is_found(tmp_path: Path, temperature: float) -> None:
    pack_labels(tmp_path, temperature)
    assert fitted(tmp_path) == pytest.approx(temperature, rel=0.05)


def test_ignored_pixels_do_not_count(tmp_path: Path) -> None:
    pack_labels(tmp_path, 2.5, blank=SIZE // 2)
    assert fitted(tmp_path, ignore_blank=True) == pytest.approx(2.5, rel=0.07)
    assert fitted(tmp_path) < 2


def test_without_road_the_temperature_is_1(tmp_path: Path) -> None:
    images = np.zeros((1, SIZE, SIZE, 3), np.uint8)
    with pack_writer(tmp_path, {"train": 0, "valid": 1, "test": 0}, SIZE) as writer:
        writer.append("valid", images, images[..., 0])
    assert fitted(tmp_path) == 1
