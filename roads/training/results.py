"""The results of a training: a net with its description, and its scores."""

from dataclasses import dataclass
from pathlib import Path

from roads.models.backend import backend_name, device_name, keras, versions
from roads.models.weights import WEIGHTS_FILE, Description, save_model
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.runtime.files import write_csv
from roads.training.backup import Arrays
from roads.training.curves import Row

CURVES_FILE = "curves.csv"


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        rows: the curves, a row for each epoch.
        best: the row of the epoch whose weights the net has.
        steps: number of steps.
    """

    rows: list[Row]
    best: Row
    steps: int


def describe(
    net: keras.Model, crop_size: int, params: TrainParams, unet: UnetParams, augment: AugmentParams
) -> Description:
    """The description of a net to be trained."""
    recipe = params.model_dump(exclude={"precision", "weights_folder"})  # a path of this host
    return Description(
        unet=unet,
        precision=params.precision,
        backend=backend_name(),
        device=device_name(),
        versions=versions(),
        crop_size=crop_size,
        parameters=net.count_params(),
        training={**recipe, "augment": augment.model_dump()},
    )


def save_trained(
    net: keras.Model, described: Description, fitted: Fitted, folder: Path, *, half: bool = False
) -> None:
    """Write a net and its description, with the course of training; `half` as in `save_model`."""
    went = {"epochs_run": len(fitted.rows), "steps": fitted.steps, "best": fitted.best}
    described = described.model_copy(update={"training": described.training | went})
    save_model(net, folder / WEIGHTS_FILE, described, half=half)


def save_snapshot(
    net: keras.Model, described: Description, folder: Path, weights: Arrays, so_far: Fitted
) -> None:
    """Write weights during training, and the curves so far; the net is not changed."""
    own = net.get_weights()
    net.set_weights(weights)
    save_trained(net, described, so_far, folder, half=True)
    net.set_weights(own)
    rows = so_far.rows
    write_csv(folder / CURVES_FILE, list(rows[0]), [list(row.values()) for row in rows])


def scores(fitted: Fitted) -> dict[str, float]:
    """The contents of `metrics/train.json`: the best epoch, and its validation loss and Dice.

    The net's description has its other values and the number of epochs run.
    """
    return {
        "best_epoch": int(fitted.best["epoch"]),
        "valid_loss": round(fitted.best["valid/loss"], 6),
        "valid_dice": round(fitted.best["valid/dice"], 6),
    }
