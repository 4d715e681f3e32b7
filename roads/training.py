"""Trains a net on crops; a training that was killed goes on where it stood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from roads.averaging import AveragedWeights
from roads.backend import jit_compile, keras
from roads.batches import CropBatches, background_per_road
from roads.callbacks import (
    BestEpoch,
    Console,
    Curves,
    EpochSeeds,
    FiniteLoss,
    Keeper,
    Row,
    blindness,
)
from roads.devices import ONE, Devices
from roads.errors import UserError
from roads.losses import Loss, RoadScores, make_loss
from roads.optimization import MONITORS, learning_rate, make_optimizer, progress_callbacks
from roads.recipe import TrainParams
from roads.resident import device_room, fit_resident, resolve_loop
from roads.resume import Backup


@dataclass(frozen=True)
class Fitted:
    """The curves, a row for each epoch, and the row of the epoch whose weights the net has."""

    rows: list[Row]
    best: Row


def compile_model(model: keras.Model, loss: Loss, optimizer: keras.optimizers.Optimizer) -> None:
    """Make a net ready to train: a loss, an optimizer, Dice and IoU at 0.5."""
    model.compile(optimizer=optimizer, loss=loss, metrics=[RoadScores()], jit_compile=jit_compile())


def choose_loss(recipe: TrainParams, train: CropBatches) -> Loss:
    """The loss that the recipe names, its class weight computed from the crops if need be."""
    weight = 1.0
    if recipe.loss == "weighted_bce":
        weight = recipe.road_weight or background_per_road(train)
        print(f"a road pixel counts {weight:.4g} times in the loss")
    return make_loss(recipe.loss, weight, recipe.cldice_weight)


def phases(recipe: TrainParams) -> list[tuple[int, int]]:
    """The epochs with one set of trainable weights, from and to, counted from 0.

    Raises:
        UserError: training would end before the encoder is trained.
    """
    frozen, epochs = recipe.freeze_encoder_epochs, recipe.epochs
    if frozen == 0:
        return [(0, epochs)]
    if frozen >= epochs:
        raise UserError(
            f"train.freeze_encoder_epochs is {frozen} and train.epochs {epochs}: training would "
            "end before the encoder is trained. Lower the first."
        )
    return [(0, frozen), (frozen, epochs)]


def fit(
    model: keras.Model,
    train: CropBatches,
    valid: CropBatches,
    recipe: TrainParams,
    *,
    backup: Backup,
    devices: Devices = ONE,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Fitted:
    """Train a net, and leave it with the weights of its best epoch by `train.monitor`.

    In the first `train.freeze_encoder_epochs` the layer `encoder` keeps its weights, and its batch
    normalization its statistics. Then everything trains, with an optimizer that begins anew, its
    moments and its average of the weights too; learning rate, patience and best epoch go on.

    Where `backup` holds the progress of a run that was killed, training goes on from there, and
    ends with the same weights and rows as one that was not.

    Args:
        model: from `build_unet`.
        train, valid: the batches of an epoch, and those it is judged by.
        recipe: how to train; its `seed` draws the dropout, anew each epoch.
        backup: replaced after every epoch.
        devices: where to train; model and batches must have been made for them.
        callbacks: more of them; they must remember nothing from epoch to epoch.
        on_epoch: gets the row of each epoch when it ends (see `Curves`); in a run that goes on,
            first the rows of the epochs before.

    Raises:
        UserError: the loss is no longer a number, the warm-up or the frozen epochs outlast
            the training, or it cannot run in `train.loop`.
    """
    loop = resolve_loop(recipe.loop, devices)
    loss = choose_loss(recipe, train)
    rows: list[Row] = []
    averaged = AveragedWeights(train) if recipe.ema > 0 else None
    best = BestEpoch(*MONITORS[recipe.monitor], averaged)
    judging: list[Any] = progress_callbacks(recipe, len(train))
    keeper = Keeper(backup, rows, best, judging, recipe.epochs)
    keeper.load()
    if rows:
        print(f"going on after epoch {len(rows)} of {recipe.epochs}, where the last run stopped")
    for row in rows:
        on_epoch(row)
    for start, end in phases(recipe):
        if keeper.finished or len(rows) >= end:
            continue
        if recipe.freeze_encoder_epochs > 0:
            model.get_layer("encoder").trainable = start > 0
        rate = learning_rate(recipe, len(train), start)
        with devices.scope():
            compile_model(model, loss, make_optimizer(recipe, rate))
            keeper.restore(model, new_optimizer=len(rows) == start)
            devices.prepare(model)
        epochs: dict[str, Any] = {
            "epochs": end,
            "initial_epoch": len(rows),
            "callbacks": [
                EpochSeeds(train, recipe.seed),
                FiniteLoss(),
                Console(train, recipe.epochs),
                Curves(rows, on_epoch),
                *([averaged] if averaged else []),
                *judging,
                *callbacks,
                best,
                keeper,
            ],
        }
        if loop == "resident":
            fit_resident(model, train, valid, room=device_room(), **epochs)
            continue
        with devices.running():
            model.fit(
                train.feed(), validation_data=valid.feed(), shuffle=False, verbose=0, **epochs
            )
    if len(rows) < recipe.epochs:
        change = "falls" if recipe.monitor == "loss" else "rises"
        name = {"loss": "loss", "dice": "Dice", "iou": "IoU"}[recipe.monitor]
        print(f"stopped after epoch {len(rows)}: the validation {name} no longer {change}")
    blind = blindness(rows[best.epoch]["valid/road_share"])
    if blind:
        print(
            f"the best epoch predicts {blind} on the validation crops (threshold 0.5): the model "
            "has not learned. Train longer, or look at train.learning_rate and train.loss."
        )
    model.set_weights(best.weights)
    return Fitted(rows, rows[best.epoch])
