"""Trained weights: `unet.weights.h5`, and next to it their description, `unet.json`."""

import shutil
import stat
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pydantic

from roads.models.backend import keras, resolve_precision
from roads.models.unet import build_unet
from roads.params.unet import UnetParams
from roads.runtime.errors import UserError, excerpt, one_line
from roads.runtime.files import partial_folder, replacing, write_json
from roads.runtime.safe_hdf5 import open_contained

WEIGHTS_SUFFIX = ".weights.h5"
WEIGHTS_FILE = f"unet{WEIGHTS_SUFFIX}"  # what `train` writes into `models/`
RELEASED = Path("models/released")
SCORES_FILE = "scores.json"  # next to released weights: their scores from the last stage
DESCRIPTION_BYTES = 1_000_000  # ours have 3,000
TEMPERATURES = (0.1, 10.0)  # lowest and highest
THRESHOLDS_FILE = "thresholds.json"  # in metrics/test/: for the weights evaluated last


class Description(pydantic.BaseModel):
    """Facts about trained weights; none depends on the date or the host name."""

    model_config = pydantic.ConfigDict(frozen=True)

    unet: UnetParams  # the net that the weights belong to
    precision: str  # the dtype policy it was trained in, `auto` resolved
    backend: str  # that it was trained with
    device: str  # that it was trained on
    versions: dict[str, str]  # of Keras and the backend
    crop_size: int  # side of the training crops in pixels
    parameters: int  # number of weights
    # Divides the logits for calibrated probabilities.
    temperature: float = pydantic.Field(
        default=1.0, strict=True, ge=TEMPERATURES[0], le=TEMPERATURES[1]
    )
    training: dict[str, Any]  # params, epochs run, best epoch and its values


def description_path(weights: Path) -> Path:
    """The path of a description, `models/unet.json` for `models/unet.weights.h5`."""
    return weights.with_name(weights.name.removesuffix(WEIGHTS_SUFFIX) + ".json")


def save_model(
    model: keras.Model, weights: Path, description: Description, *, half: bool = False
) -> None:
    """Write the weights and their description; the same weights give the same bytes.

    The optimizer's state is not saved. With `half`, weights are rounded as by `store_half`.

    Raises:
        UserError: a weight is not a finite number.
    """
    _check_finite(model, f"{weights} was not written: the trained net")
    bare = keras.Model(model.inputs, model.outputs, name=model.name)
    # Keras requires the suffix, so the file cannot be written under a partial name directly.
    with replacing(weights) as partial, partial_folder(weights) as folder:
        whole = folder / f"model{WEIGHTS_SUFFIX}"
        bare.save_weights(whole)
        (store_half if half else shutil.copyfile)(whole, partial)
    write_json(description_path(weights), description.model_dump(mode="json"))


def store_half(weights: Path, to: Path) -> None:
    """Copy a `.weights.h5` file, with arrays of two or more axes rounded to float16.

    Biases and normalization stay float32: they are small, and a variance may be too small for
    float16. Keras loads both types as float32.
    """
    with h5py.File(weights) as source, h5py.File(to, "w") as target:

        def copy(name: str, item: h5py.Group | h5py.Dataset) -> None:
            if isinstance(item, h5py.Group):
                copied = target.require_group(name)
            else:
                values = item[()]
                copied = target.create_dataset(
                    name, data=values.astype(np.float16) if values.ndim > 1 else values
                )
            copied.attrs.update(item.attrs)

        target.attrs.update(source.attrs)
        source.visititems(copy)


def load_model(weights: Path, precision: str | None = None) -> tuple[keras.Model, Description]:
    """Build the net in the description next to `weights`, and load them.

    Args:
        weights: a `.weights.h5` file with its description next to it.
        precision: the dtype policy to predict in. By default that of training, or float32 if
            this machine is not faster with mixed_bfloat16.

    Raises:
        UserError: a file is missing, broken, of another net, or has a number that is not finite.
    """
    description = read_description(weights)
    if precision is None:
        trained = description.precision
        precision = trained if trained == "float32" else resolve_precision("auto")
    model = build_unet(description.unet, precision)
    load_weights(model, weights)
    return model, description


def read_description(weights: Path) -> Description:
    """Read the description next to `weights`.

    Raises:
        UserError: it is missing or damaged.
    """
    path = description_path(weights)
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) or status.st_size > DESCRIPTION_BYTES:
            raise UserError(
                f"{path} is not a file of at most {DESCRIPTION_BYTES:,} bytes. {_way_out(weights)}"
            )
        return Description.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: it says which net {weights.name} belongs to. {_way_out(weights)}"
        ) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        reason = excerpt(f"{key}: {first['msg']}" if key else first["msg"])
        raise UserError(f"{path} does not describe a net ({reason}). {_way_out(weights)}") from None


def load_weights(model: keras.Model, weights: Path) -> None:
    """Load a `.weights.h5` file into a net of the same shape.

    Raises:
        UserError: as `load_model`.
    """
    other = UserError(
        f"{weights} holds the weights of a different net than {description_path(weights).name} "
        "or `unet:` in params.yaml describes"
    )
    try:
        if _numbers_in(weights) != model.count_params():
            raise other
        model.load_weights(weights)
    except (OSError, EOFError, RuntimeError) as error:
        raise UserError(f"{weights} is broken: {one_line(error)}. {_way_out(weights)}") from None
    except (ValueError, KeyError):
        raise other from None
    _check_finite(model, str(weights))


def find_weights(name: str, folder: Path = RELEASED) -> Path:
    """The weights file of the net `name`: a folder in `folder` with the layout of `models/`.

    Raises:
        UserError: there is no such net; the message lists the existing ones.
    """
    weights = folder / name / WEIGHTS_FILE
    if weights.is_file():
        return weights
    names = sorted(file.parent.name for file in folder.glob(f"*/{WEIGHTS_FILE}"))
    raise UserError(
        f"there is no net `{name}` in {folder}: {weights} is missing. "
        f"There {'are: ' + ', '.join(names) if names else 'is none yet'}"
    )


def _check_finite(model: keras.Model, owner: str) -> None:
    for variable in model.weights:
        if not np.isfinite(variable.numpy()).all():
            raise UserError(
                f"{owner} holds numbers that are not finite (in {variable.path}). Train again, "
                "with a lower train.learning_rate or train.precision=float32."
            )


def _way_out(weights: Path) -> str:
    if weights.parent.parent.parts[-2:] == RELEASED.parts:
        return f"Restore it in the project's folder: `git restore {RELEASED}`."
    return "Restore it, or train again: `dvc repro -f train`."


def _numbers_in(weights: Path) -> int:
    """The number of weights in a `.weights.h5` file.

    Keras checks the shapes of the layers it loads, but ignores further ones in the file.
    """
    held = 0

    def count(_: str, item: h5py.Group | h5py.Dataset) -> None:
        nonlocal held
        held += item.size if isinstance(item, h5py.Dataset) else 0

    with open_contained(weights, _way_out(weights)) as file:
        if "layers" in file:
            file["layers"].visititems(count)
    return held
