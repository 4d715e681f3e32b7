import math
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader, pack_writer
from roads.models.backend import keras
from roads.models.unet import build_unet
from roads.runtime.errors import UserError
from roads.training import callbacks
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.curves import Row
from roads.training.fit import fit
from roads.training.results import Fitted
from tests.packed import augment_params, train_params, unet_params, write_pack

SIZE = 16
TRAIN, VALID, BATCH = 22, 6, 4
EPOCHS = 5


class KilledError(Exception):
    """Stands for the process ending where it is."""


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[PackReader]:
    write_pack(tmp_path / "packed", SIZE, TRAIN, VALID)
    with PackReader(tmp_path / "packed") as reader:
        yield reader


RECIPE: dict[str, Any] = {
    "epochs": EPOCHS, "batch_size": BATCH, "plateau_min_delta": 0.02, "normalization": "batch",
}  # fmt: skip
TOGETHER: dict[str, Any] = {
    "optimizer": "adamw", "clip_norm": 0.1, "warmup_epochs": 2.5, "ema": 0.9, "monitor": "dice",
    "schedule": "cosine", "early_stopping_patience": 0,
}  # fmt: skip
PLATEAU: dict[str, Any] = {
    "schedule": "plateau", "monitor": "iou", "ignore_blank": True, "loss": "weighted_bce",
    "road_weight": None,
}  # fmt: skip
COSINE: dict[str, Any] = {
    "schedule": "cosine", "loss": "bce_dice", "cldice_weight": 0.5,
    "augment": {"flips": True, "gamma": 0.2, "saturation": 0.2, "window": 8},
}  # fmt: skip
CONSTANT: dict[str, Any] = {
    "schedule": "constant", "warmup_epochs": 2.5, "ema": 0.9, "monitor": "dice",
    "normalization": "none",
}  # fmt: skip
FROZEN: dict[str, Any] = {
    "encoder": "efficientnet_lite0", "freeze_encoder_epochs": 2, "epochs": 4,
    "plateau_min_delta": 0.9, "early_stopping_patience": 0,
}  # fmt: skip


class Training:
    """A small training, with everything in it that has a state, fresh at every start."""

    def __init__(self, pack: PackReader, folder: Path, **changes: Any):
        self.pack, self.folder = pack, folder
        settings = {**RECIPE, **changes}
        self.unet = unet_params(
            depth=2,
            normalization=settings.pop("normalization"),
            encoder=settings.pop("encoder", "plain"),
        )
        self.augmentation = augment_params(**settings.pop("augment", {}))
        self.recipe = train_params(**settings)
        folder.mkdir(exist_ok=True)

    def start(
        self,
        on_epoch: Callable[[Row], None] = lambda row: None,
        extra: keras.callbacks.Callback | None = None,
        snapshot: Callable[[list[Any], Fitted], None] | None = None,
    ) -> tuple[keras.Model, Fitted]:
        model = build_unet(self.unet, seed=0)
        blank = self.recipe.ignore_blank
        fitted = fit(
            model,
            CropBatches(
                self.pack,
                "train",
                BATCH,
                seed=1,
                ignore_blank=blank,
                augmentation=self.augmentation,
            ),
            CropBatches(self.pack, "valid", BATCH, ignore_blank=blank),
            self.recipe,
            backup=Backup(self.folder, "key"),
            callbacks=[extra] if extra else [],
            on_epoch=on_epoch,
            snapshot=snapshot,
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
        if self.epoch == self.fatal and batch >= 2:
            raise KilledError


def check_killed(broken: Training, kills: Iterable[int], whole: tuple[keras.Model, Fitted]) -> None:
    """Kill a training in these epochs; started again, it must end as one that nobody killed."""
    for epoch in kills:
        with pytest.raises(KilledError):
            broken.start(extra=KillAt(epoch))
    seen: list[Row] = []
    model, fitted = broken.start(on_epoch=seen.append)
    assert fitted == whole[1]
    assert seen == fitted.rows
    for one, other in zip(model.get_weights(), whole[0].get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len({row["train/loss"] for row in fitted.rows}) == len(fitted.rows)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills", "changes"),
    [
        pytest.param((1, 3), PLATEAU, id="plateau", marks=pytest.mark.soak),
        pytest.param((2,), COSINE, id="cosine", marks=pytest.mark.soak),
        pytest.param((1, 3), TOGETHER, id="together", marks=pytest.mark.soak),
        pytest.param((1, 2), {"warmup_epochs": 2.5, "ema": 0.9}, id="plateau after warmup"),
        pytest.param((1,), CONSTANT, id="constant", marks=pytest.mark.soak),
    ],
)
def test_a_killed_training_ends_like_an_uninterrupted_one(
    pack: PackReader, tmp_path: Path, changes: dict[str, Any], kills: tuple[int, ...]
) -> None:
    whole = Training(pack, tmp_path / "whole", **changes).start()
    check_killed(Training(pack, tmp_path / "broken", **changes), kills, whole)


class EncoderWeights(keras.callbacks.Callback):
    """The encoder's weights before training, and those that each epoch validated with."""

    def __init__(self) -> None:
        super().__init__()
        self.epochs: list[list[np.ndarray]] = []

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        if not self.epochs:
            self.epochs.append(self.model.get_layer("encoder").get_weights())

    def on_test_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.last = self.model.get_layer("encoder").get_weights()

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        self.epochs.append(self.last)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "rates", "kills"),
    [
        (FROZEN, [0.01, 0.01, 0.001, 0.0001], ()),
        # Killed in a frozen epoch, in the first that is not, and in a later one.
        pytest.param(
            FROZEN | TOGETHER,
            [0.004, 0.008, 0.0075, 0],
            (1, 2, 3),
            id="together",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_an_encoder_keeps_its_weights_while_frozen_and_the_rate_goes_on(
    pack: PackReader,
    tmp_path: Path,
    changes: dict[str, Any],
    rates: list[float],
    kills: tuple[int, ...],
) -> None:
    encoder = EncoderWeights()
    whole = Training(pack, tmp_path / "whole", **changes).start(extra=encoder)
    start, *frozen, trained, last = encoder.epochs
    assert len(frozen) == 2
    for epoch in frozen:
        for one, other in zip(start, epoch, strict=True):
            np.testing.assert_array_equal(one, other)
    for before, between, after in zip(start, trained, last, strict=True):
        assert not np.array_equal(before, between)
        assert not np.array_equal(between, after)
    assert [row["learning_rate"] for row in whole[1].rows] == pytest.approx(rates, abs=1e-8)
    if kills:
        check_killed(Training(pack, tmp_path / "broken", **changes), kills, whole)


@pytest.mark.slow
def test_a_training_killed_after_the_last_epoch_only_returns(
    pack: PackReader, tmp_path: Path
) -> None:
    training = Training(pack, tmp_path / "backup")
    model, fitted = training.start()
    resumed, again = training.start(extra=KillAt(len(fitted.rows)))
    assert again == fitted
    for one, other in zip(model.get_weights(), resumed.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("monitor", "ema"),
    [("dice", 0), pytest.param("loss", 0, marks=pytest.mark.soak), ("loss", 0.8)],
)
def test_the_weights_are_those_of_the_best_epoch_and_each_epoch_has_a_line(
    pack: PackReader, tmp_path: Path, capsys: pytest.CaptureFixture[str], monitor: str, ema: float
) -> None:
    training = Training(
        pack,
        tmp_path / "backup",
        schedule="constant",
        learning_rate=0.05,
        early_stopping_patience=0,
        monitor=monitor,
        ema=ema,
    )
    model, fitted = training.start()
    values = [row[f"valid/{monitor}"] for row in fitted.rows]
    assert len(values) == EPOCHS
    assert fitted.best == fitted.rows[int((np.argmin if monitor == "loss" else np.argmax)(values))]
    output = capsys.readouterr()
    compiling, first, rest, *lines = output.out.splitlines()
    assert compiling == "compiling the net; the first steps can take a minute"
    assert re.fullmatch(r"the first steps took \d+\.\d s, most of it compilation", first)
    assert re.fullmatch(r"training takes at most \d+ s more \(24 steps of .* s\), .*", rest)
    assert [line.split(":")[0] for line in lines] == [f"epoch {n}/5" for n in range(1, 6)]
    assert all(re.search(r", \d+\.\d s, [1-9]\d* crops/s", line) for line in lines)
    assert output.err == ""  # no progress bar off a terminal
    loss = model.evaluate(CropBatches(pack, "valid", BATCH), verbose=0)[0]
    assert loss == pytest.approx(fitted.best["valid/loss"], abs=1e-6)


@pytest.mark.parametrize(
    ("epochs", "told"),
    [
        (2, "training takes at most 66 s more (33 steps of 2 s), plus validation\n"),
        (30, "training takes at most 22 min more (649 steps of 2 s), plus validation\n"),
        (
            300,
            "3.7 h more (6,589 steps of 2 s), plus validation\nshorter: fewer train.epochs",
        ),
        (None, ""),
    ],
)
def test_the_duration_of_a_training_is_printed(
    pack: PackReader,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    epochs: int | None,
    told: str,
) -> None:
    now = 0.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    console = callbacks.Console(CropBatches(pack, "train", batch_size=1, seed=0), epochs)
    assert len(console.train) == TRAIN == 22
    console.on_epoch_begin(0)
    for batch in range(TRAIN):
        now += 60 if batch == 0 else 2
        console.on_train_batch_end(batch, {"loss": 1.0})
    console.on_test_begin()
    lines = capsys.readouterr().out.split("compilation\n")[1]
    assert told in lines
    assert bool(told) == bool(lines)


@pytest.mark.slow
def test_early_stopping_and_plateau_act_on_the_monitored_value(
    pack: PackReader, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    training = Training(
        pack,
        tmp_path / "backup",
        learning_rate=1e-30,  # the weights stay as they are
        early_stopping_patience=2,
        normalization="none",
        monitor="iou",
    )
    _, fitted = training.start()
    rates = [row["learning_rate"] for row in fitted.rows]
    assert rates == pytest.approx([1e-30, 1e-30, 1e-31])
    assert fitted.best["epoch"] == 1
    assert "stopped after epoch 3: the validation IoU no longer rises" in capsys.readouterr().out


class Late(keras.callbacks.Callback):
    """Makes a training measure five seconds for each step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        super().__init__()
        self.now, self.rates = 0.0, list[float]()
        monkeypatch.setattr(callbacks.time, "monotonic", lambda: self.now)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.now += 5
        self.rates.append(float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)))


TIMED: dict[str, Any] = {
    "minutes": 1, "schedule": "cosine", "ema": 0.9, "early_stopping_patience": 1, "epochs": 1,
    "learning_rate": 0.01,
}  # fmt: skip


@pytest.mark.slow
def test_a_timed_training_ends_in_time_with_a_rate_of_zero(
    pack: PackReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = Late(monkeypatch)
    _, fitted = Training(pack, tmp_path / "timed", **TIMED).start(extra=late)
    # Twelve steps take a minute, a thirteenth finds it over; an epoch has six.
    assert fitted.steps == 13
    assert [row["epoch"] for row in fitted.rows] == [1, 2, 3]
    expected = [0.01 * (1 + math.cos(math.pi * min(5 * n / 60, 1))) / 2 for n in range(13)]
    assert late.rates == pytest.approx(expected, abs=1e-8)
    assert fitted.rows[-1]["learning_rate"] == 0


@pytest.mark.slow
def test_a_timed_training_that_was_killed_has_only_the_minutes_left(
    pack: PackReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(pack, tmp_path / "timed", **TIMED)

    class KillLate(Late):
        def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            if epoch == 1:
                raise KilledError

    with pytest.raises(KilledError):
        training.start(extra=KillLate(monkeypatch))
    late = Late(monkeypatch)
    _, fitted = training.start(extra=late)
    assert (fitted.steps, len(late.rates)) == (13, 7)
    assert late.rates[0] == pytest.approx(0.005, abs=1e-8)  # half of the minute is gone


@pytest.mark.slow
def test_the_last_weights_are_kept_on_request(pack: PackReader, tmp_path: Path) -> None:
    changes: dict[str, Any] = {"learning_rate": 0.03, "early_stopping_patience": 0, "ema": 0.5}
    changes |= {"monitor": "dice", "schedule": "constant"}
    model, fitted = Training(pack, tmp_path / "last", keep="last", **changes).start()
    _, best = Training(pack, tmp_path / "best", **changes).start()
    assert fitted.rows == best.rows
    assert fitted.best == fitted.rows[-1] != best.best
    loss = model.evaluate(CropBatches(pack, "valid", BATCH), verbose=0)[0]
    assert loss == pytest.approx(fitted.rows[-1]["valid/loss"], abs=1e-6)


@pytest.mark.slow
def test_snapshots_are_of_the_weights_that_were_validated(pack: PackReader, tmp_path: Path) -> None:
    training = Training(pack, tmp_path / "backup", ema=0.5, epochs=3, keep="last")
    taken: list[tuple[list[Any], int, int]] = []
    model, fitted = training.start(
        snapshot=lambda weights, so_far: taken.append((weights, len(so_far.rows), so_far.steps))
    )
    # The first epoch, and not the next ones, which come within SNAPSHOT_SECONDS, but the last.
    assert [(rows, steps) for _, rows, steps in taken] == [(1, 6), (3, 18)]
    for one, other in zip(taken[-1][0], model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert fitted.steps == 18


@pytest.mark.slow
def test_a_nan_loss_ends_training_with_a_remedy(pack: PackReader, tmp_path: Path) -> None:
    training = Training(pack, tmp_path / "backup", learning_rate=1, schedule="constant")
    training.recipe = training.recipe.model_copy(update={"learning_rate": math.inf})
    with pytest.raises(UserError, match=r"epoch 1: the loss is nan.*train\.learning_rate"):
        training.start()


@pytest.mark.slow
class Finalized:
    """Is interrupted while Python runs its finalizer."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_lost_ctrl_c_still_ends_the_training(pack: PackReader, tmp_path: Path) -> None:
    class Loses(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
            Finalized()

    rows: list[Row] = []
    with pytest.raises(KeyboardInterrupt):
        Training(pack, tmp_path / "run").start(rows.append, Loses())
    assert rows == []


@pytest.mark.slow
@pytest.mark.parametrize(("bias", "told"), [(-99, "no road at all"), (99, "road everywhere")])
def test_a_net_that_sees_the_same_everywhere_is_named(
    pack: PackReader, tmp_path: Path, capsys: pytest.CaptureFixture[str], bias: float, told: str
) -> None:
    class Blind(keras.callbacks.Callback):
        def on_test_begin(self, logs: dict[str, float] | None = None) -> None:
            self.model.get_layer("head").bias.assign([bias])

    Training(pack, tmp_path / "backup", epochs=1).start(extra=Blind())
    *_, line, verdict = capsys.readouterr().out.splitlines()
    assert line.endswith(f"predicts {told}")
    assert f"the best epoch predicts {told}" in verdict
    assert "train.learning_rate" in verdict


@pytest.mark.slow
def test_missing_imagery_does_not_affect_training(tmp_path: Path) -> None:
    """Whatever the maps say there, the net ends the same."""
    trained = []
    for name, value in (("one", 0), ("other", 1)):
        draw = np.random.default_rng(0)
        images = draw.integers(0, 200, (8, 32, 32, 3), np.uint8)
        masks = (draw.random((8, 32, 32)) < 0.2).astype(np.uint8)
        images[:, :16], masks[:, :14] = 255, value
        rows = {"train": 6, "valid": 2, "test": 0}
        with pack_writer(tmp_path / name, rows, 32) as writer:
            writer.append("train", images[:6], masks[:6])
            writer.append("valid", images[6:], masks[6:])
        with PackReader(tmp_path / name) as pack:
            model, _ = Training(
                pack, tmp_path / f"{name}_state", ignore_blank=True, epochs=1
            ).start()
        trained.append(model.get_weights())
    for one, other in zip(*trained, strict=True):
        np.testing.assert_array_equal(one, other)
