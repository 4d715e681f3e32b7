"""Trains a net on crops; a training that was killed goes on where it stood."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from roads.backend import jit_compile, keras
from roads.batches import CropBatches
from roads.callbacks import BestEpoch, Console, Curves, EpochSeeds, FiniteLoss, Keeper, Row
from roads.losses import Loss, RoadScores
from roads.resume import Backup


@dataclass(frozen=True)
class Fitted:
    """The curves, a row for each epoch, and the row of the epoch whose weights the net has."""

    rows: list[Row]
    best: Row


def learning_rate(schedule: str, rate: float, steps: int) -> Any:
    """What Adam takes for a rate: a number, or for `cosine` a decay to 0 over all the steps."""
    if schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(rate, decay_steps=steps)
    return rate


def compile_model(model: keras.Model, loss: Loss, rate: Any) -> None:
    """Make a net ready for `fit`: Adam, a loss (see `make_loss`), Dice and IoU at 0.5."""
    model.compile(
        optimizer=keras.optimizers.Adam(rate),
        loss=loss,
        metrics=[RoadScores()],
        jit_compile=jit_compile(),
    )


def fit(
    model: keras.Model,
    train: CropBatches,
    valid: CropBatches,
    *,
    epochs: int,
    seed: int,
    backup: Backup,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    on_epoch: Callable[[Row], None] = lambda row: None,
) -> Fitted:
    """Train a net, and leave it with the weights of the epoch of lowest validation loss.

    Where `backup` holds the progress of a run that was killed, training goes on from there, and
    ends with the same weights and rows as one that was not.

    Args:
        model: from `compile_model`.
        train, valid: the batches of an epoch, and those it is judged by.
        epochs: at most so many, at least one.
        seed: draws the dropout, anew each epoch.
        backup: replaced after every epoch.
        callbacks: such as `early_stopping` and `plateau`.
        on_epoch: gets the row of each epoch when it ends (see `Curves`); in a run that goes on,
            first the rows of the epochs before.

    Raises:
        UserError: the loss is no longer a number.
    """
    rows: list[Row] = []
    best = BestEpoch()
    keeper = Keeper(backup, rows, best, list(callbacks), epochs)
    finished = keeper.restore(model)
    if rows:
        print(f"going on after epoch {len(rows)} of {epochs}, where the last run was stopped")
    for row in rows:
        on_epoch(row)
    if not finished:
        model.fit(
            train.feed(),
            validation_data=valid.feed(),
            epochs=epochs,
            initial_epoch=len(rows),
            shuffle=False,
            verbose=0,
            callbacks=[
                EpochSeeds(train, seed),
                FiniteLoss(),
                Console(train, epochs),
                Curves(rows, on_epoch),
                *callbacks,
                best,
                keeper,
            ],
        )
    if len(rows) < epochs:
        print(f"stopped after epoch {len(rows)}: the validation loss no longer falls")
    model.set_weights(best.weights)
    return Fitted(rows, rows[best.epoch])
