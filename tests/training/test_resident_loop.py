"""JAX's loop compared with Keras' `fit`; most of it runs on that backend alone."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roads.dataset.packs import PackReader
from roads.models.backend import backend_name, keras
from roads.runtime.errors import UserError
from roads.training import fit as training
from roads.training import resident_loop as resident
from roads.training.devices import ONE, Devices
from roads.training.resident_loop import resolve_loop
from roads.training.results import Fitted
from tests.packed import write_pack
from tests.training.test_fit import (
    SIZE,
    TIMED,
    TOGETHER,
    TRAIN,
    VALID,
    KillAt,
    KilledError,
    Late,
    Training,
)

on_jax = pytest.mark.skipif(backend_name() != "jax", reason="tests/test_on_jax.py runs these")
AUGMENTED: dict[str, Any] = {
    "loop": "resident",
    "schedule": "cosine",
    "loss": "bce_dice",
    "learning_rate": 0.001,  # a larger one makes more of rounding
    "ignore_blank": True,
    "augment": {"flips": True, "turns": True, "gamma": 0.2, "saturation": 0.2, "window": 8},
}
CROP = SIZE**2 * 4  # bytes


@pytest.fixture
def pack(tmp_path: Path) -> Iterator[PackReader]:
    write_pack(tmp_path / "packed", SIZE, TRAIN, VALID)
    with PackReader(tmp_path / "packed") as reader:
        yield reader


def assert_equal(one: tuple[keras.Model, Fitted], other: tuple[keras.Model, Fitted]) -> None:
    assert one[1] == other[1]
    for mine, theirs in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def assert_close(one: tuple[keras.Model, Fitted], other: tuple[keras.Model, Fitted]) -> None:
    assert len(one[1].rows) == len(other[1].rows)
    for mine, theirs in zip(one[1].rows, other[1].rows, strict=True):
        assert mine == pytest.approx(theirs, rel=2e-3)
    for mine, theirs in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=2e-3)


@on_jax
def test_the_resident_loop_trains_like_fit(
    pack: PackReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Training(pack, tmp_path / "fit", **{**AUGMENTED, "loop": "fit"}).start()
    whole = Training(pack, tmp_path / "whole", **AUGMENTED).start()
    assert_close(whole, plain)
    assert len({row["train/loss"] for row in whole[1].rows}) == len(whole[1].rows)
    monkeypatch.setattr(resident, "STEPS", 2)
    assert_equal(Training(pack, tmp_path / "short", **AUGMENTED).start(), whole)
    reads: list[int] = []
    read = resident._Feed._read

    def counted(feed: Any, rows: Any) -> Any:
        reads.append(len(rows))
        return read(feed, rows)

    monkeypatch.setattr(resident._Feed, "_read", counted)
    monkeypatch.setattr(training, "device_room", lambda: (TRAIN - 1) * CROP)
    assert_equal(Training(pack, tmp_path / "streamed", **AUGMENTED).start(), whole)
    # Validation's crops are read once; there is room for one batch of the others in a call.
    assert reads == [VALID] + [4] * 6 * len(whole[1].rows)


@on_jax
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(TOGETHER, id="together"),
        pytest.param(
            {"warmup_epochs": 2.5, "schedule": "plateau"},
            id="rate set at every step",
            marks=pytest.mark.soak,
        ),
    ],
)
def test_a_killed_training_ends_like_an_uninterrupted_one(
    pack: PackReader, tmp_path: Path, changes: dict[str, Any]
) -> None:
    whole = Training(pack, tmp_path / "whole", loop="resident", **changes).start()
    broken = Training(pack, tmp_path / "broken", loop="resident", **changes)
    with pytest.raises(KilledError):
        broken.start(extra=KillAt(2))
    assert_equal(broken.start(), whole)
    assert_close(Training(pack, tmp_path / "fit", loop="fit", **changes).start(), whole)


@on_jax
def test_a_changing_rate_does_not_recompile(
    pack: PackReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs: list[str] = []
    run = resident._Steps.run

    def noted(steps: Any, *arguments: Any) -> None:
        call, data = next(iter(steps.feed))
        lowered = steps.compiled.lower(steps._values(), data, call.steps, call.batch)
        programs.append(lowered.as_text())
        run(steps, *arguments)

    monkeypatch.setattr(resident._Steps, "run", noted)
    monkeypatch.setattr(resident, "STEPS", 2)
    late = Late(monkeypatch)
    Training(pack, tmp_path / "once", loop="resident", **TIMED).start(extra=late)
    # A call of two steps takes five seconds here; the thirteenth finds the minute over.
    expected = [0.01 * (1 + math.cos(math.pi * min(5 * n / 60, 1))) / 2 for n in range(13)]
    assert late.rates == pytest.approx(expected, abs=1e-8)
    ours = set(programs)
    assert len(ours) == 2  # of training and of validation
    programs.clear()
    late = Late(monkeypatch)
    longer = Training(pack, tmp_path / "longer", loop="resident", **{**TIMED, "minutes": 2})
    _, fitted = longer.start(extra=late)
    assert (fitted.steps, len(late.rates)) == (50, 25)
    assert set(programs) <= ours


@on_jax
def test_a_nan_loss_and_early_stopping_end_the_loop(
    pack: PackReader,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    still = Training(pack, tmp_path / "still", loop="resident", learning_rate=1e-30, seed=2)
    _, fitted = still.start()
    assert len(fitted.rows) < still.recipe.epochs
    assert "the validation loss no longer falls" in capsys.readouterr().out
    broken = Training(pack, tmp_path / "broken", loop="resident")
    monkeypatch.setattr(training, "make_loss", lambda *_: lambda masks, found: found.sum() * np.nan)
    with pytest.raises(UserError, match=r"^epoch 1: the loss is nan"):
        broken.start()


@pytest.mark.parametrize(("count", "most"), [(22, 64), (22, 2), (3, 2), (8, 64), (8, 1), (1, 1)])
def test_calls_have_every_crop_once_in_equal_batches_and_a_shorter_one(
    count: int, most: int
) -> None:
    order = np.random.default_rng(0).permutation(count) + 100
    calls = list(resident._calls(order, 4, most))
    rows = np.concatenate([call.rows[: call.steps * call.batch] for call in calls])
    np.testing.assert_array_equal(rows, order)
    assert [call.batch for call in calls if call.batch != 4] == [count % 4] * (count % 4 > 0)
    assert all(call.steps <= most for call in calls)
    lengths = {len(call.rows) for call in calls if call.batch == 4}
    assert len(lengths) <= 1  # so that they are compiled once


@pytest.mark.skipif(backend_name() == "jax", reason="how it is elsewhere")
def test_the_resident_loop_is_refused_without_jax() -> None:
    assert resolve_loop("auto", ONE) == resolve_loop("fit", ONE) == "fit"
    with pytest.raises(UserError, match=r"^train.loop is resident, which needs JAX"):
        resolve_loop("resident", ONE)


def test_the_resident_loop_is_chosen_with_jax_on_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "backend_name", lambda: "jax")
    assert resolve_loop("auto", ONE) == "fit"  # on a CPU
    assert resolve_loop("resident", ONE) == "resident"
    monkeypatch.setattr(resident, "device_name", lambda: "NVIDIA H200")
    assert resolve_loop("auto", ONE) == "resident"
    assert resolve_loop("auto", Devices(2)) == "fit"
    with pytest.raises(UserError, match=r"but this is jax on 2"):
        resolve_loop("resident", Devices(2))
