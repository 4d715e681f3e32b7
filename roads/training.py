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
from roads.losses import Loss, RoadScores, make_loss
from roads.optimization import MONITORS, learning_rate, make_optimizer, progress_callbacks
from roads.recipe import TrainParams
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


def fit(
    model: keras.Model,
    train: CropBatches,
    valid: CropBatches,
    recipe: TrainParams,
    *,
    backup: Backup,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Fitted:
    """Train a net, and leave it with the weights of its best epoch by `train.monitor`.

    Where `backup` holds the progress of a run that was killed, training goes on from there, and
    ends with the same weights and rows as one that was not.

    Args:
        model: from `build_unet`.
        train, valid: the batches of an epoch, and those it is judged by.
        recipe: how to train; its `seed` draws the dropout, anew each epoch.
        backup: replaced after every epoch.
        callbacks: more of them; they must remember nothing from epoch to epoch.
        on_epoch: gets the row of each epoch when it ends (see `Curves`); in a run that goes on,
            first the rows of the epochs before.

    Raises:
        UserError: the loss is no longer a number, or the warm-up outlasts the training.
    """
    rate = learning_rate(recipe, len(train))
    compile_model(model, choose_loss(recipe, train), make_optimizer(recipe, rate))
    rows: list[Row] = []
    averaged = AveragedWeights(train) if recipe.ema > 0 else None
    best = BestEpoch(*MONITORS[recipe.monitor], averaged)
    judging: list[Any] = progress_callbacks(recipe, len(train))
    keeper = Keeper(backup, rows, best, judging, recipe.epochs)
    finished = keeper.restore(model)
    if rows:
        print(f"going on after epoch {len(rows)} of {recipe.epochs}, where the last run stopped")
    for row in rows:
        on_epoch(row)
    if not finished:
        model.fit(
            train.feed(),
            validation_data=valid.feed(),
            epochs=recipe.epochs,
            initial_epoch=len(rows),
            shuffle=False,
            verbose=0,
            callbacks=[
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
