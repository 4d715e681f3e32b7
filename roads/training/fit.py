"""Trains a net on crops; a killed training resumes after its last finished epoch."""

from collections.abc import Callable, Sequence
from typing import Any

from roads.models.backend import jit_compile, keras
from roads.params.train import TrainParams
from roads.training.backup import Arrays, Backup
from roads.training.batches import CropBatches, background_per_road
from roads.training.callbacks import (
    Clock,
    Console,
    EpochSeeds,
    FiniteLoss,
    Interrupts,
    Keeper,
    TimedRate,
    blindness,
)
from roads.training.curves import Row, kept_epoch
from roads.training.losses import Loss, RoadScores, make_loss
from roads.training.optimizer import WarmUp, learning_rate, make_optimizer, warmup_steps
from roads.training.resident_loop import device_room, fit_resident, resolve_loop
from roads.training.results import Fitted
from roads.training.weight_averaging import AveragedWeights

ENDLESS = 10**9  # epochs, if the clock ends training


def compile_model(model: keras.Model, loss: Loss, optimizer: keras.optimizers.Optimizer) -> None:
    """Compile a net with a loss, an optimizer, and Dice and IoU at 0.5."""
    model.compile(optimizer=optimizer, loss=loss, metrics=[RoadScores()], jit_compile=jit_compile())


def choose_loss(recipe: TrainParams, train: CropBatches) -> Loss:
    """The loss named by the recipe; its class weight is computed from the crops if not given."""
    weight = 1.0
    if recipe.loss == "weighted_bce":
        weight = recipe.road_weight or background_per_road(train)
        print(f"a road pixel has weight {weight:.4g} in the loss")
    return make_loss(recipe.loss, weight, recipe.cldice_weight)


def phases(recipe: TrainParams) -> list[tuple[int, int]]:
    """Ranges of epochs (start, stop), from 0, with one set of trainable weights each."""
    frozen = recipe.freeze_encoder_epochs
    epochs = recipe.epochs if recipe.minutes is None else ENDLESS
    return [(0, frozen), (frozen, epochs)] if frozen > 0 else [(0, epochs)]


def fit(
    model: keras.Model,
    train: CropBatches,
    valid: CropBatches,
    recipe: TrainParams,
    *,
    backup: Backup,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[Row], None] = lambda row: None,
    snapshot: Callable[[Arrays, Fitted], None] | None = None,
) -> Fitted:
    """Train a net, and leave it with the weights of its best epoch by `train.monitor`.

    With `train.keep` last they are those of the last epoch. With `train.minutes`, training ends in
    the middle of an epoch, after a number of steps that depends on the machine's speed; the time of
    a killed run counts.

    During the first `train.freeze_encoder_epochs` the layer `encoder` keeps its weights and
    statistics. After that everything is trained with a new optimizer: its moments and average of
    the weights start again, while learning rate, patience and best epoch continue.

    If `backup` holds the progress of a killed run, training resumes from there, and ends with the
    same weights and rows as an uninterrupted one.

    Args:
        model: from `build_unet`, on the devices of `train`.
        train, valid: the batches of training and of validation.
        recipe: how to train; `seed` is also that of dropout, which differs in each epoch.
        backup: replaced after every epoch.
        callbacks: further ones; they must not keep state from epoch to epoch.
        on_epoch: gets the row of each epoch when it ends (`make_row`); a resumed run first gives
            it the rows of the earlier epochs.
        snapshot: from time to time gets the weights that an epoch was validated with, in Keras'
            order, and how training went so far.

    Raises:
        UserError: the loss is not finite, or training cannot run in `train.loop`.
    """
    loop = resolve_loop(recipe.loop, train.devices)
    loss = choose_loss(recipe, train)
    averaged = AveragedWeights(train) if recipe.ema > 0 else None
    warmup = warmup_steps(recipe, len(train))
    clock = TimedRate(recipe, warmup) if recipe.minutes else Clock()
    warms_up = recipe.schedule == "plateau" and warmup > 0
    keeper = Keeper(backup, recipe, phases(recipe)[-1][1], clock, averaged, on_epoch, snapshot)
    rows = keeper.progress.rows
    epochs_told = None if recipe.minutes else recipe.epochs
    if rows:
        of = f" of {epochs_told}" if epochs_told else ""
        print(f"resuming after epoch {len(rows)}{of}, where the last run stopped")
    for row in rows:
        on_epoch(row)
    for start, end in phases(recipe):
        if keeper.progress.finished or len(rows) >= end:
            continue
        if recipe.freeze_encoder_epochs > 0:
            model.get_layer("encoder").trainable = start > 0
        rate = learning_rate(recipe, len(train), start)
        with train.devices.scope():
            compile_model(model, loss, make_optimizer(recipe, rate))
            keeper.restore(model, new_optimizer=len(rows) == start)
            model.optimizer.build(model.trainable_variables)
        epochs: dict[str, Any] = {
            "epochs": end,
            "initial_epoch": len(rows),
            "callbacks": [
                Interrupts(),
                EpochSeeds(train, recipe.seed),
                FiniteLoss(),
                Console(train, epochs_told),
                *([averaged] if averaged else []),
                clock,
                *([WarmUp(recipe.learning_rate, warmup, len(train))] if warms_up else []),
                *callbacks,
                keeper,
            ],
        }
        if loop == "resident":
            fit_resident(model, train, valid, room=device_room(), **epochs)
        else:
            batches, judged = train.feed(), valid.feed()
            model.fit(batches, validation_data=judged, shuffle=False, verbose=0, **epochs)
    if epochs_told and len(rows) < epochs_told:
        change = "falls" if recipe.monitor == "loss" else "rises"
        name = {"loss": "loss", "dice": "Dice", "iou": "IoU"}[recipe.monitor]
        print(f"stopped after epoch {len(rows)}: the validation {name} no longer {change}")
    best = rows[kept_epoch(rows, recipe)]
    blind = blindness(best["valid/road_fraction"])
    if blind:
        print(
            f"the best epoch predicts {blind} on the validation crops (threshold 0.5): the model "
            "has not learned. Train longer, or look at train.learning_rate and train.loss."
        )
    model.set_weights(keeper.progress.best)
    return Fitted(rows, best, clock.steps)
