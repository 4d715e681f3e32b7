"""How weights become a release; tests/models/test_released.py checks what was released."""

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from benchmarks import release as module
from benchmarks.model_card import model_card
from benchmarks.release import evaluation, release
from roads.models.weights import load_model, read_description, store_half
from roads.runtime.errors import UserError
from tests.packed import save_tiny_net

CHANGES: dict[str, Any] = {
    "download.source": "folder", "crop.size": 512, "unet.filters": 32, "augment.window": 256,
    "train.epochs": 200, "evaluate.tta": True,
}  # fmt: skip
TILES = {
    "count": 4, "iou": 0.65, "iou_95_low": 0.6, "iou_95_high": 0.7, "dice": 0.78,
    "dice_95_low": 0.7, "dice_95_high": 0.8, "precision": 0.7, "recall": 0.8,
    "calibration_error": 0.0123,
}  # fmt: skip
SCORES: dict[str, Any] = {
    "dice": 0.77, "iou": 0.63, "tiles": TILES,
    "relaxed": {"full_tile": {"break_even": 0.93}, "centre_crop": {"break_even": 0.94}},
    "centreline": {"cldice": 0.9},
    "graph": {"apls": 0.7, "apls_bent": 0.6, "apls_95_low": 0.6, "apls_95_high": 0.8},
}  # fmt: skip
RECORD: dict[str, Any] = {
    "command": "dvc exp run -S crop.size=512", "changes": CHANGES, "commit": "0123abc",
    "versions": {"keras": "3.15.1"}, "date": "2026-11-23T10:00:00+00:00",
    "seconds": {"train": 600.0},
    "speed": {"crops_per_second": 2500.0, "roofline": 5000.0},
}  # fmt: skip


@pytest.mark.slow
def test_kernels_become_float16_and_everything_else_stays(tmp_path: Path) -> None:
    weights = save_tiny_net(tmp_path)
    half = tmp_path / "half" / weights.name
    half.parent.mkdir()
    half.with_name("unet.json").write_bytes((tmp_path / "unet.json").read_bytes())
    store_half(weights, half)
    (net, _), (stored, _) = load_model(weights), load_model(half)
    for one, other in zip(net.get_weights(), stored.get_weights(), strict=True):
        assert other.dtype == np.float32
        wanted = one.astype(np.float16).astype(np.float32) if one.ndim > 1 else one
        np.testing.assert_array_equal(other, wanted)
    kinds: set[tuple[bool, str]] = set()

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            kinds.add((item.ndim > 1, str(item.dtype)))

    with h5py.File(half) as file:
        file.visititems(look)
    assert kinds == {(True, "float16"), (False, "float32")}


def test_scoring_trains_nothing_and_uses_the_same_data(tmp_path: Path) -> None:
    params = evaluation(CHANGES, tmp_path, "new")
    assert params["train"]["epochs"] == 0
    assert params["train"]["initial_weights"] == "new"
    assert params["train"]["weights_folder"] == str(tmp_path)
    assert params["crop"]["size"] == 512
    assert params["evaluate"]["tta"]
    assert params["unet"]["filters"] != 32  # the net is described beside its weights
    assert params["augment"]["window"] is None


def test_the_card_has_the_numbers_and_how_to_get_them(tmp_path: Path) -> None:
    split = {"tiles": 9, "crops": 81}
    scores = SCORES | {
        "tta": SCORES | {"tiles": TILES | {"iou": 0.66}},
        "sample": {"tiles": TILES | {"count": 2, "iou": 0.5}},
        "data": {"train": split, "valid": split},
    }
    training = {
        "steps": 1000, "batch_size": 16, "augment": {"window": 384}, "epochs_run": 20,
        "best": {"epoch": 15},
    }  # fmt: skip
    description = read_description(save_tiny_net(tmp_path)).model_copy(
        update={"training": training, "device": "NVIDIA H200"}
    )
    card = model_card("new", description, RECORD, scores, 4_100_000)
    for text in (
        "| strict | IoU | 0.650 (0.600 to 0.700) | 0.660 (0.600 to 0.700) |",
        "| relaxed (ρ = 3), full tile | break-even | 0.930 | 0.930 |",
        "| hardware | NVIDIA H200; keras 3.15.1 |",
        "| length | epoch 15 of 20; 16,000 windows of 384×384 pixels in 1,000 steps of 16 in all; "
        "10.0 minutes; "
        "2,500 crops of 256×256 per second, 0.50 of what the GPU's memory bandwidth allows |",
        "| file | 4.1 MB:",
        "| commit | 0123abc |",
        "-S train.initial_weights=new -S train.epochs=0 \\\n      -S crop.size=512 \\\n",
        "On 2 generated tiles of the built-in sample, unseen in training: IoU 0.500.",
    ):
        assert text in card
    assert "{" not in card
    assert "ImageNet" not in card
    pretrained = description.unet.model_copy(
        update={"encoder": "efficientnet_lite0", "encoder_weights": "imagenet"}
    )
    described = description.model_copy(update={"unet": pretrained})
    for text in ("Apache-2.0", "except\n`unet.encoder_weights`, which stays none."):
        assert text in model_card("new", described, RECORD, scores, 4_100_000)


def test_nets_that_cannot_be_released_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, recorded = tmp_path / "last", tmp_path / "record.json"
    net.mkdir()
    save_tiny_net(net)
    with pytest.raises(UserError, match=r"record\.json is missing"):
        release(net, recorded, "new", tmp_path, tmp_path / "work")
    recorded.write_text(json.dumps(RECORD))
    nets: list[Path] = []

    def of_crops(changes: Any, tiles: Any, folder: Path, *_: Any) -> dict[str, Any]:
        nets.append(folder)
        return {"dice": 0.7}

    monkeypatch.setattr(module, "score", of_crops)
    monkeypatch.setattr(module, "calibrate", lambda *_: None)
    store_half(net / "unet.weights.h5", tmp_path / "other.weights.h5")
    for weights in (net / "unet.weights.h5", tmp_path / "other.weights.h5"):
        (net / "unet.weights.h5").write_bytes(weights.read_bytes())
        with pytest.raises(UserError, match="no scores of whole tiles"):
            release(net, recorded, "new", tmp_path, tmp_path / "work")
    assert nets[0] != nets[1]  # else the first one's scores would be taken for the second's
    monkeypatch.setattr(module, "LARGEST", 1000)
    with pytest.raises(UserError, match="a release may have 1,000"):
        release(net, recorded, "new", tmp_path, tmp_path / "work")
    assert not (module.PROJECT / "models/released/new").exists()
