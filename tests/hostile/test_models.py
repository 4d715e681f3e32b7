"""HDF5 files and models that would read other files, fill the memory, or run code."""

import ast
import pickle
import socket
import threading
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from roads.dataset.packs import IMAGES_FILE, MASKS_FILE, PackReader
from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.models.weights import WEIGHTS_FILE, Description, load_model, load_weights, save_model
from roads.prediction.inference import Predictor, predict_split
from roads.runtime.errors import UserError
from stages.train import train
from tests.hostile.listening import listening_sockets
from tests.packed import augment_params, train_params, unet_params, write_pack
from tests.project import ROOT

TINY = unet_params(filters=1, depth=2)
SECRET = 77  # what stands in a file that nobody asked to read
KERNEL = "layers/conv2d/vars/0"  # of the first convolution, in a .weights.h5 file


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    description = Description(
        unet=TINY, precision="float32", backend="", device="", versions={}, crop_size=16,
        parameters=0, training={},
    )  # fmt: skip
    save_model(build_unet(TINY), tmp_path / WEIGHTS_FILE, description)
    return tmp_path / WEIGHTS_FILE


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    write_pack(tmp_path / "packed", 8, 2, 1, 1)
    return tmp_path / "packed"


def external_link(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    with h5py.File(secret, "w") as other:
        other["x"] = np.full(old.shape, SECRET, old.dtype)
    file[name] = h5py.ExternalLink(str(secret), "x")


def soft_link(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file["elsewhere"] = old[...]
    file[name] = h5py.SoftLink("/elsewhere")


def raw_storage(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    secret.write_bytes(bytes([SECRET]) * old.nbytes)
    external = [(str(secret), 0, old.nbytes)]
    file.create_dataset(name, old.shape, old.dtype, external=external)


def virtual(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    with h5py.File(secret, "w") as other:
        other["x"] = np.full(old.shape, SECRET, old.dtype)
    layout = h5py.VirtualLayout(old.shape, old.dtype)
    layout[...] = h5py.VirtualSource(str(secret), "x", old.shape)
    file.create_virtual_dataset(name, layout)


def compressed(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_dataset(name, data=old[...], compression="gzip", chunks=old.shape)


def huge(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    """8 TB that were never written: HDF5 would make up zeros."""
    file.create_dataset(name, (2_000_000_000, *old.shape[1:]), old.dtype)


def huge_and_sparse(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_dataset(name, (2_000_000_000, *old.shape[1:]), old.dtype, chunks=old.shape)


def texts(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_dataset(name, old.shape, h5py.string_dtype())


def a_group(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_group(f"{name}/{name}")


ATTACKS: dict[Callable[[h5py.File, str, Path, h5py.Dataset], None], str] = {
    external_link: "is a link that may point outside",
    soft_link: "is a link that may point outside",
    raw_storage: "is stored in another file",
    virtual: "is stored in another file",
    compressed: "is stored in chunks",
    huge: "but has fewer",
    huge_and_sparse: "is stored in chunks",
    texts: "is not an array of numbers",
}


def attack(
    path: Path, name: str, how: Callable[[h5py.File, str, Path, h5py.Dataset], None]
) -> None:
    """Put something hostile in the place of a dataset."""
    with h5py.File(path, "r+") as file:
        old = file[name]
        del file[name]
        how(file, name, path.with_name("secret"), old)


@pytest.mark.parametrize("how", ATTACKS)
@pytest.mark.parametrize("file", [IMAGES_FILE, MASKS_FILE])
def test_packs_with_data_elsewhere_are_refused(
    packed: Path, file: str, how: Callable[[h5py.File, str, Path, h5py.Dataset], None]
) -> None:
    attack(packed / file, "train", how)
    with pytest.raises(UserError, match=rf"{file} was refused: .*{ATTACKS[how]}.*pack-h5"):
        PackReader(packed)


@pytest.mark.parametrize("how", ATTACKS)
def test_weights_with_data_elsewhere_are_refused(
    weights: Path, how: Callable[[h5py.File, str, Path, h5py.Dataset], None]
) -> None:
    attack(weights, KERNEL, how)
    with pytest.raises(UserError, match=rf"weights\.h5 was refused: .*{ATTACKS[how]}"):
        load_model(weights)


def deep(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_group("/".join(["a"] * 2000))


def cyclic(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    file.create_group("a")["again"] = file


def many(file: h5py.File, name: str, secret: Path, old: h5py.Dataset) -> None:
    group = file.create_group("a")
    for number in range(20_001):
        group[str(number)] = group


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "told"),
    [(deep, "over 20 deep"), (cyclic, "over 20 deep"), (many, "over 20,000 groups")],
)
def test_endless_groups_are_refused_soon(
    weights: Path, how: Callable[[h5py.File, str, Path, h5py.Dataset], None], told: str
) -> None:
    attack(weights, KERNEL, how)
    begun = time.monotonic()
    with pytest.raises(UserError, match=rf"weights\.h5 was refused: .*{told}"):
        load_model(weights)
    assert time.monotonic() - begun < 10


def test_a_device_is_not_read_as_a_description(weights: Path) -> None:
    description = weights.with_name("unet.json")
    description.unlink()
    description.symlink_to("/dev/zero")
    with pytest.raises(UserError, match=r"unet\.json is not a file of at most"):
        load_model(weights)


def test_weights_that_lack_a_layer_or_have_another_shape(weights: Path) -> None:
    attack(weights, KERNEL, a_group)
    with pytest.raises(UserError, match="weights of a different net"):
        load_model(weights)

    def transposed(file: h5py.File, name: str, secret: Path, old: h5py.Group) -> None:
        file[name] = np.zeros((1, 3, 3, 3))

    attack(weights, KERNEL, transposed)
    with pytest.raises(UserError, match="weights of a different net"):
        load_model(weights)


def test_masks_of_other_values_are_refused(packed: Path) -> None:
    with h5py.File(packed / MASKS_FILE, "r+") as file:
        file["valid"][0, 3, 3, 0] = 255  # would be taken for a pixel that counts in no loss
    with pytest.raises(UserError, match=r"masks\.h5 has values other than 0 and 1 in `valid`"):
        PackReader(packed)


def test_boxes_that_are_none_are_refused(packed: Path) -> None:
    with h5py.File(packed / MASKS_FILE, "r+") as file:
        file["ignored"] = np.array([[3, 0, 0, 0, 2, 2]])  # of a fourth split
    with pytest.raises(UserError, match=r"masks\.h5 has a dataset `ignored` that is not of boxes"):
        PackReader(packed)


class _Runs:
    """Unpickled, it makes a file."""

    def __init__(self, made: Path):
        self.made = made

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.made,)


def test_a_model_with_code_in_it_is_never_run(weights: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = str(made)  # plain values only are saved with a function

    def touch(x: Any) -> Any:
        open(text, "w").close()  # noqa: PTH123
        return x

    model = keras.Sequential([keras.Input((1,)), keras.layers.Lambda(touch)])
    model.save(tmp_path / "lambda.keras")
    model.save(tmp_path / "lambda.h5")
    with zipfile.ZipFile(tmp_path / "pickle.keras", "w") as archive:
        archive.writestr("config.json", pickle.dumps(_Runs(made)))
    (tmp_path / "pickle.pkl").write_bytes(pickle.dumps(_Runs(made)))
    np.savez(tmp_path / "pickle.npz", x=np.array([_Runs(made)], object))
    made.unlink(missing_ok=True)
    for name in ("lambda.keras", "lambda.h5", "pickle.keras", "pickle.pkl", "pickle.npz"):
        weights.write_bytes((tmp_path / name).read_bytes())
        with pytest.raises(UserError, match=r"unet\.weights\.h5 (is broken|holds|is not read)"):
            load_weights(build_unet(TINY), weights)
    assert not made.exists()
    pickle.loads((tmp_path / "pickle.pkl").read_bytes())
    assert made.exists()  # it would have worked


@pytest.mark.parametrize("change", ['"filters": 512', '"encoder": "__main__.Evil"'])
def test_a_description_cannot_name_a_class_or_a_huge_net(weights: Path, change: str) -> None:
    path = weights.with_name("unet.json")
    text = path.read_text()
    old = '"filters": 1' if "filters" in change else '"encoder": "plain"'
    assert old in text
    path.write_text(text.replace(old, change).replace('"depth": 2', '"depth": 7'))
    with pytest.raises(UserError, match=r"unet\.json does not describe a net"):
        load_model(weights)


CODE_LOADERS = {  # names that turn a file into code
    "pickle", "cPickle", "dill", "cloudpickle", "marshal", "shelve", "eval", "exec", "unsafe_load",
    "full_load", "FullLoader", "UnsafeLoader", "enable_unsafe_deserialization", "deserialize",
    "model_from_json", "Lambda", "TFSMLayer", "SavedModel",
}  # fmt: skip


def test_the_code_has_no_way_to_load_code() -> None:
    for path in [*(ROOT / "roads").rglob("*.py"), *(ROOT / "stages").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {getattr(node, "id", ""), getattr(node, "attr", "")}
            if isinstance(node, ast.Import | ast.ImportFrom):
                names |= {alias.name for alias in node.names} | {getattr(node, "module", "")}
            assert not names & CODE_LOADERS, f"{path}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "safe_mode"):
                safe = node.arg == "safe_mode"
                assert ast.literal_eval(node.value) is safe, path
            if isinstance(node, ast.Attribute) and node.attr == "load_model":
                raise AssertionError(f"{path}:{node.lineno} loads a model with Keras")
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "yaml.load":
                assert ast.unparse(node.args[1]) == "_PlainLoader"  # a SafeLoader


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="sockets are looked up in /proc")
def test_nothing_listens_while_a_net_is_trained_and_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROADS_STATE", str(tmp_path / "state"))
    write_pack(tmp_path / "packed", 16, 4, 2, 2)
    done, found, looks = threading.Event(), set[str](), list[None]()

    def look() -> None:
        while not done.wait(0.05):
            found.update(listening_sockets())
            looks.append(None)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        train(
            tmp_path / "packed", tmp_path / "models", tmp_path / "log", tmp_path / "train.json",
            train_params(epochs=2), TINY, augment_params(flips=True),
        )  # fmt: skip
        model, _ = load_model(tmp_path / "models" / WEIGHTS_FILE)
        with PackReader(tmp_path / "packed") as pack:
            assert list(predict_split(Predictor(model, 2), pack, "test"))
    finally:
        done.set()
        watch.join()
    assert len(looks) > 2
    with socket.create_server(("127.0.0.1", 0)):
        assert len(listening_sockets()) == 1  # it would have been seen
    assert not found
