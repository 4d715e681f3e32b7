"""Small packed crops, and nets that train on them in seconds."""

from pathlib import Path
from typing import Any

import numpy as np

from roads.dataset.packs import pack_writer
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams

UNET: dict[str, Any] = {
    "filters": 4,
    "depth": 3,
    "dropout": 0.1,
    "activation": "elu",
    "normalization": "batch",
    "momentum": 0.9,
}
TRAIN: dict[str, Any] = {
    "loss": "soft_dice",
    "road_weight": None,
    "cldice_weight": 0.0,
    "ignore_blank": False,
    "optimizer": "adam",
    "weight_decay": 0.01,
    "clip_norm": 0.0,
    "ema": 0.0,
    "learning_rate": 0.01,
    "warmup_epochs": 0.0,
    "batch_size": 4,
    "epochs": 6,
    "minutes": None,
    "freeze_encoder_epochs": 0,
    "schedule": "plateau",
    "plateau_factor": 0.1,
    "plateau_patience": 1,
    "plateau_min_delta": 0.0001,
    "monitor": "loss",
    "early_stopping_patience": 3,
    "keep": "best",
    "precision": "float32",
    "loop": "auto",
    "devices": "auto",
    "weights_folder": "models/released",
    "initial_weights": "none",
    "seed": 1,
}


AUGMENT: dict[str, Any] = {
    "repeats": 1,
    "rotation": 0.0,
    "scale": 0.0,
    "flips": False,
    "turns": False,
    "brightness": 0.0,
    "contrast": 0.0,
    "gamma": 0.0,
    "saturation": 0.0,
    "window": None,
}


def augment_params(**changes: Any) -> AugmentParams:
    return AugmentParams(**{**AUGMENT, **changes})


def train_params(**changes: Any) -> TrainParams:
    return TrainParams(**{**TRAIN, **changes})


def unet_params(**changes: Any) -> UnetParams:
    return UnetParams(**{**UNET, **changes})


def write_pack(folder: Path, size: int, train: int, valid: int, test: int = 1) -> None:
    """Pack noisy crops with one road each, 7 pixels wide and brighter than what is around it."""
    draw = np.random.default_rng(0)
    rows = {"train": train, "valid": valid, "test": test}
    with pack_writer(folder, rows, size) as writer:
        for split, count in rows.items():
            images = draw.integers(0, 200, (count, size, size, 3), np.uint8)
            masks = np.zeros((count, size, size), np.uint8)
            for mask in masks:
                left = int(draw.integers(size - 7))
                view = mask if draw.random() < 0.5 else mask.T
                view[:, left : left + 7] = 1
            images[masks == 1] += 50
            writer.append(split, images, masks)


def save_tiny_net(folder: Path) -> Path:
    """Save an untrained net of two levels; returns its weights file."""
    # Imported here, so that tests which only need packs or params start without Keras.
    from roads.models.unet import build_unet
    from roads.models.weights import Description, save_model

    params = unet_params(filters=2, depth=2)
    net = build_unet(params, seed=3)
    description = Description(
        unet=params, precision="float32", backend="tensorflow", device="CPU", versions={},
        crop_size=64, parameters=net.count_params(), training={},
    )  # fmt: skip
    path = folder / "unet.weights.h5"
    save_model(net, path, description)
    return path
