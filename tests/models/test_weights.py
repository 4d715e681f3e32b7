import shutil
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from roads.models.backend import keras, resolve_precision
from roads.models.unet import build_unet
from roads.models.weights import (
    Description,
    find_weights,
    load_model,
    load_weights,
    read_description,
    save_model,
)
from roads.runtime.errors import UserError
from roads.training.fit import compile_model
from roads.training.losses import soft_dice
from tests.packed import unet_params

DESCRIPTION = Description(
    unet=unet_params(),
    precision="float32",
    backend="tensorflow",
    device="CPU",
    versions={},
    crop_size=16,
    parameters=7789,
    training={"seed": 3},
)
IMAGES = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)


@pytest.fixture
def model() -> keras.Model:
    return build_unet(unet_params(), seed=3)


@pytest.fixture
def saved(model: keras.Model, tmp_path: Path) -> Path:
    save_model(model, tmp_path / "unet.weights.h5", DESCRIPTION)
    return tmp_path / "unet.weights.h5"


@pytest.mark.slow
def test_saved_weights_are_loaded_unchanged(model: keras.Model, saved: Path) -> None:
    loaded, description = load_model(saved)
    assert description == DESCRIPTION
    np.testing.assert_array_equal(
        loaded.predict(IMAGES, verbose=0), model.predict(IMAGES, verbose=0)
    )


@pytest.mark.slow
def test_saved_twice_gives_the_same_bytes_without_the_optimizer(
    model: keras.Model, saved: Path, tmp_path: Path
) -> None:
    time.sleep(1.1)  # HDF5 would keep times in whole seconds
    compile_model(model, soft_dice, keras.optimizers.Adam(0.01))
    model.optimizer.build(model.trainable_variables)
    again = tmp_path / "again" / "unet.weights.h5"
    save_model(model, again, DESCRIPTION)
    assert again.read_bytes() == saved.read_bytes()
    with h5py.File(saved) as file:
        assert "optimizer" not in file


def test_bfloat16_is_used_only_where_it_pays(model: keras.Model, tmp_path: Path) -> None:
    path = tmp_path / "unet.weights.h5"
    save_model(model, path, DESCRIPTION.model_copy(update={"precision": "mixed_bfloat16"}))
    loaded, _ = load_model(path)
    assert loaded.get_layer("bottom_1_convolution").dtype_policy.name == resolve_precision("auto")
    loaded, _ = load_model(path, "float32")
    assert loaded.get_layer("bottom_1_convolution").dtype_policy.name == "float32"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def fill_with_text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1")


def put_nan(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["layers/conv2d/vars/1"][0] = np.nan


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (Path.unlink, "is missing"),
        (truncate, "is broken: .*truncated"),
        (fill_with_text, "is broken"),
        (put_nan, "not finite"),
    ],
)
def test_damaged_weights_are_named(
    saved: Path, damage: Callable[[Path], None], complaint: str
) -> None:
    damage(saved)
    with pytest.raises(UserError, match=f"unet.weights.h5.* {complaint}"):
        load_model(saved)


@pytest.mark.parametrize(
    "change", [{"filters": 8}, {"depth": 2}, {"depth": 4}, {"normalization": "none"}]
)
def test_weights_of_another_net_are_refused(saved: Path, change: dict[str, object]) -> None:
    with pytest.raises(UserError, match="weights of a different net"):
        load_weights(build_unet(unet_params(**change)), saved)


def test_weights_of_another_net_with_the_same_size_are_refused(tmp_path: Path) -> None:
    wide = unet_params(filters=1, depth=1, normalization="none")
    save_model(build_unet(wide), tmp_path / "unet.weights.h5", DESCRIPTION)
    net = keras.Sequential([keras.Input((39,)), keras.layers.Dense(1)])
    assert net.count_params() == build_unet(wide).count_params()
    with pytest.raises(UserError, match="weights of a different net"):
        load_weights(net, tmp_path / "unet.weights.h5")


@pytest.mark.parametrize("text", ["", "{}", "not JSON", '{"unet": {"filters": -1}}'])
def test_a_damaged_description_is_named(saved: Path, text: str) -> None:
    saved.with_name("unet.json").write_text(text)
    with pytest.raises(UserError, match=r"unet\.json does not describe a net"):
        read_description(saved)


@pytest.mark.parametrize("temperature", ["0", "NaN", "Infinity", "true", "1e-300", '"x"'])
def test_an_impossible_temperature_is_refused(saved: Path, temperature: str) -> None:
    path = saved.with_name("unet.json")
    changed = path.read_text().replace('"temperature": 1.0', f'"temperature": {temperature}')
    path.write_text(changed)
    with pytest.raises(UserError, match=r"unet\.json does not describe a net .*temperature: "):
        read_description(saved)


@pytest.mark.parametrize(
    ("folder", "way_out"),
    [
        ("models/released/net", "`git restore models/released`"),
        ("net", "Restore it, or train again"),
    ],
)
def test_broken_weights_are_restored_where_they_come_from(
    tmp_path: Path, folder: str, way_out: str
) -> None:
    weights = tmp_path / folder / "unet.weights.h5"
    weights.parent.mkdir(parents=True)
    with pytest.raises(UserError, match=way_out):
        read_description(weights)


def test_a_missing_description_is_named(saved: Path) -> None:
    saved.with_name("unet.json").unlink()
    with pytest.raises(UserError, match=r"unet\.json is missing"):
        load_model(saved)


def test_weights_with_nan_are_not_saved(model: keras.Model, tmp_path: Path) -> None:
    model.set_weights([np.full_like(weight, np.nan) for weight in model.get_weights()])
    with pytest.raises(UserError, match="not finite"):
        save_model(model, tmp_path / "unet.weights.h5", DESCRIPTION)
    assert list(tmp_path.iterdir()) == []


def test_a_net_is_found_by_the_name_of_its_folder(saved: Path, tmp_path: Path) -> None:
    released = tmp_path / "released"
    (released / "first-2026").mkdir(parents=True)
    shutil.copy(saved, released / "first-2026" / "unet.weights.h5")
    assert find_weights("first-2026", released) == released / "first-2026" / "unet.weights.h5"
    with pytest.raises(UserError, match=r"no net `second` in .*There are: first-2026"):
        find_weights("second", released)
    with pytest.raises(UserError, match="There is none yet"):
        find_weights("first-2026", tmp_path / "nothing")
