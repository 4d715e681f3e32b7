import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.backend import keras
from roads.batches import CropBatches
from roads.callbacks import Row, early_stopping, plateau
from roads.errors import UserError
from roads.losses import soft_dice
from roads.packs import PackReader
from roads.resume import Backup
from roads.training import Fitted, compile_model, fit, learning_rate
from roads.unet import build_unet
from tests.packed import unet_params, write_pack

SIZE = 16
TRAIN, VALID, BATCH = 22, 6, 4
STEPS = math.ceil(TRAIN / BATCH)
EPOCHS = 5


class KilledError(Exception):
    """Stands for the process ending where it is."""


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[PackReader]:
    write_pack(tmp_path / "packed", SIZE, TRAIN, VALID)
    with PackReader(tmp_path / "packed") as reader:
        yield reader


class Training:
    """A small training, with everything in it that has a state, fresh at every start."""

    def __init__(self, pack: PackReader, folder: Path):
        self.pack, self.folder = pack, folder
        self.schedule, self.rate, self.patience = "plateau", 0.01, 3
        self.normalization = "batch"
        folder.mkdir(exist_ok=True)

    def start(
        self,
        on_epoch: Callable[[Row], None] = lambda row: None,
        extra: keras.callbacks.Callback | None = None,
    ) -> tuple[keras.Model, Fitted]:
        model = build_unet(unet_params(depth=2, normalization=self.normalization), seed=0)
        rate = learning_rate(self.schedule, self.rate, EPOCHS * STEPS)
        compile_model(model, soft_dice, rate)
        callbacks: list[Any] = early_stopping(self.patience)
        if self.schedule == "plateau":
            callbacks += plateau(0.1, 1, 0.02)
        fitted = fit(
            model,
            CropBatches(self.pack, "train", BATCH, seed=1),
            CropBatches(self.pack, "valid", BATCH),
            epochs=EPOCHS,
            seed=1,
            backup=Backup(self.folder, "key"),
            callbacks=[*callbacks, extra] if extra else callbacks,
            on_epoch=on_epoch,
        )
        return model, fitted


class KillAt(keras.callbacks.Callback):
    """Raises in the middle of an epoch."""

    def __init__(self, epoch: int):
        super().__init__()
        self.fatal, self.epoch = epoch, -1

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epoch = epoch

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        if self.epoch == self.fatal and batch == 2:
            raise KilledError


@pytest.mark.parametrize(("schedule", "kills"), [("plateau", (3,)), ("cosine", (2,))])
def test_killed_and_started_again_it_ends_as_if_it_never_was(
    pack: PackReader, tmp_path: Path, schedule: str, kills: tuple[int, ...]
) -> None:
    whole = Training(pack, tmp_path / "whole")
    broken = Training(pack, tmp_path / "broken")
    whole.schedule = broken.schedule = schedule
    model, fitted = whole.start()
    for epoch in kills:
        with pytest.raises(KilledError):
            broken.start(extra=KillAt(epoch))
    seen: list[Row] = []
    resumed, again = broken.start(on_epoch=seen.append)

    assert again == fitted
    assert seen == fitted.rows
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({row["train/loss"] for row in fitted.rows}) == len(fitted.rows)


def test_killed_after_the_last_epoch_it_only_returns(pack: PackReader, tmp_path: Path) -> None:
    training = Training(pack, tmp_path / "backup")
    model, fitted = training.start()
    resumed, again = training.start(extra=KillAt(len(fitted.rows)))
    assert again == fitted
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_weights_are_those_of_the_best_epoch_and_each_epoch_has_a_line(
    pack: PackReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(pack, tmp_path / "backup")
    training.schedule, training.rate, training.patience = "constant", 0.05, 0
    model, fitted = training.start()
    losses = [row["valid/loss"] for row in fitted.rows]
    assert len(losses) == EPOCHS
    assert fitted.best == fitted.rows[int(np.argmin(losses))]
    output = capsys.readouterr()
    lines = output.out.splitlines()
    assert [line.split(":")[0] for line in lines] == [f"epoch {n}/5" for n in range(1, 6)]
    assert output.err == ""  # no progress bar off a terminal
    loss = model.evaluate(CropBatches(pack, "valid", BATCH), verbose=0)[0]
    assert loss == pytest.approx(min(losses), abs=1e-6)


def test_early_stopping_and_plateau_act_on_the_validation_loss(
    pack: PackReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(pack, tmp_path / "backup")
    training.rate, training.patience = 1e-30, 2  # the weights stay as they are
    training.normalization = "none"
    _, fitted = training.start()
    rates = [row["learning_rate"] for row in fitted.rows]
    assert rates == pytest.approx([1e-30, 1e-30, 1e-31])
    assert fitted.best["epoch"] == 1
    assert "stopped after epoch 3: the validation loss no longer falls" in capsys.readouterr().out


def test_cosine_decays_to_zero(pack: PackReader, tmp_path: Path) -> None:
    rate = learning_rate("cosine", 0.01, 100)
    values = [float(keras.ops.convert_to_numpy(rate(step))) for step in (0, 50, 100)]
    assert values == pytest.approx([0.01, 0.005, 0], abs=1e-8)
    assert learning_rate("constant", 0.01, 100) == 0.01


def test_a_loss_that_is_no_number_ends_training_with_a_way_out(
    pack: PackReader, tmp_path: Path
) -> None:
    training = Training(pack, tmp_path / "backup")
    training.rate = math.inf
    training.schedule = "constant"
    with pytest.raises(UserError, match=r"epoch 1: the loss is nan.*train\.learning_rate"):
        training.start()
