"""Trains a net on crops; a training that was killed goes on where it stood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from roads.models.backend import jit_compile, keras
from roads.params.train import TrainParams
from roads.runtime.errors import UserError
from roads.training.backup import Arrays, Backup
from roads.training.batches import CropBatches, background_per_road
from roads.training.callbacks import (
    BestEpoch,
    Clock,
    Console,
    Curves,
    EpochSeeds,
    FiniteLoss,
    Keeper,
    Row,
    Snapshots,
    TimedRate,
    blindness,
)
from roads.training.devices import ONE, Devices
from roads.training.losses import Loss, RoadScores, make_loss
from roads.training.optimizer import (
    MONITORS,
    learning_rate,
    make_optimizer,
    progress_callbacks,
    warmup_steps,
)
from roads.training.resident_loop import device_room, fit_resident, resolve_loop
from roads.training.weight_averaging import AveragedWeights

ENDLESS = 10**9  # epochs, where the clock ends the training


@dataclass(frozen=True)
class Fitted:
    """How a training went.

    Attributes:
        rows: the curves, a row for each epoch.
        best: the row of the epoch whose weights the net has.
        steps: how many were made.
    """

    rows: list[Row]
    best: Row
    steps: int


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
    frozen, epochs = recipe.freeze_encoder_epochs, planned_epochs(recipe)
    if frozen == 0:
        return [(0, epochs)]
    if frozen >= epochs:
        raise UserError(
            f"train.freeze_encoder_epochs is {frozen} and train.epochs {epochs}: training would "
            "end before the encoder is trained. Lower the first."
        )
    return [(0, frozen), (frozen, epochs)]


def planned_epochs(recipe: TrainParams) -> int:
    """How many epochs there are at most."""
    return recipe.epochs if recipe.minutes is None else ENDLESS


def check_time(recipe: TrainParams, devices: Devices) -> None:
    """Raise a UserError where a length in minutes does not go with the rest."""
    if recipe.minutes is None:
        return
    if recipe.freeze_encoder_epochs > 0:
        raise UserError(
            "train.minutes does not go with train.freeze_encoder_epochs: the time could be over "
            "before the encoder is trained. Set one of the two to its default."
        )
    if recipe.schedule == "plateau":
        raise UserError(
            "train.minutes needs a learning rate that does not wait for a plateau. Set "
            "train.schedule to cosine (it falls to 0 when the time is over) or constant."
        )
    if devices.processes > 1:
        raise UserError(
            "train.minutes works in one process: several would not end at the same step. Set it "
            "to null, and train.epochs to a number."
        )


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
    snapshot: Callable[[Arrays, list[Row], int], None] | None = None,
) -> Fitted:
    """Train a net, and leave it with the weights of its best epoch by `train.monitor`.

    With `train.keep` last they are those of the last epoch. With `train.minutes` training ends by
    itself when they are over, in the middle of an epoch; what a run that was killed has used up
    counts. The steps such a run takes depend on the machine's speed, so it cannot be repeated to
    the bit.

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
        snapshot: now and then gets the weights that an epoch was validated with, in Keras' order,
            the rows so far, and the number of steps.

    Raises:
        UserError: the loss is no longer a number, the warm-up or the frozen epochs outlast
            the training, or it cannot run in `train.loop` or for `train.minutes`.
    """
    check_time(recipe, devices)
    loop = resolve_loop(recipe.loop, devices)
    loss = choose_loss(recipe, train)
    rows: list[Row] = []
    averaged = AveragedWeights(train) if recipe.ema > 0 else None
    best = BestEpoch(*MONITORS[recipe.monitor], averaged, last=recipe.keep == "last")
    clock = TimedRate(recipe, warmup_steps(recipe, len(train))) if recipe.minutes else Clock()
    judging: list[Any] = progress_callbacks(recipe, len(train))
    epochs_told = None if recipe.minutes else recipe.epochs
    keeper = Keeper(backup, rows, best, [clock, *judging], planned_epochs(recipe))
    keeper.load()
    if rows:
        of = f" of {epochs_told}" if epochs_told else ""
        print(f"going on after epoch {len(rows)}{of}, where the last run stopped")
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
            model.optimizer.build(model.trainable_variables)
        epochs: dict[str, Any] = {
            "epochs": end,
            "initial_epoch": len(rows),
            "callbacks": [
                EpochSeeds(train, recipe.seed),
                FiniteLoss(),
                Console(train, epochs_told),
                Curves(rows, on_epoch),
                *([averaged] if averaged else []),
                clock,
                *judging,
                *callbacks,
                *([Snapshots(snapshot, rows, end, clock, averaged)] if snapshot else []),
                best,
                keeper,
            ],
        }
        if loop == "resident":
            fit_resident(model, train, valid, room=device_room(), **epochs)
            continue
        model.fit(train.feed(), validation_data=valid.feed(), shuffle=False, verbose=0, **epochs)
    if epochs_told and len(rows) < epochs_told:
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
    return Fitted(rows, rows[best.epoch], clock.steps)
