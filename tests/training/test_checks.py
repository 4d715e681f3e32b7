from pathlib import Path
from typing import Any

import pytest

from roads.dataset.packs import PackReader
from roads.runtime.errors import UserError
from roads.training import checks
from roads.training.checks import check_pack, check_params
from tests.packed import augment_params, train_params, unet_params, write_pack

TIMED: dict[str, Any] = {"minutes": 1, "schedule": "cosine"}


@pytest.mark.parametrize(
    ("changes", "encoder", "told"),
    [
        ({"freeze_encoder_epochs": 1}, "plain", r"epochs is 1, .*encoder plain has no pretrained"),
        ({"freeze_encoder_epochs": 1}, "residual", r"epochs is 1, .*encoder residual"),
        ({"freeze_encoder_epochs": 6}, "resnet50", r"freeze_encoder_epochs is 6 .*epochs 6"),
        ({"warmup_epochs": 6}, "plain", r"train\.warmup_epochs is 6 and train\.epochs 6"),
        (TIMED | {"schedule": "plateau"}, "plain", r"train\.minutes .* Set train\.schedule"),
        (TIMED | {"freeze_encoder_epochs": 1}, "resnet50", r"minutes .*freeze_encoder_epochs"),
    ],
)
def test_params_that_do_not_go_together(changes: dict[str, Any], encoder: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check_params(train_params(**changes), unet_params(encoder=encoder))


def test_minutes_are_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    params, unet = train_params(**TIMED, warmup_epochs=9), unet_params()
    check_params(params, unet)
    monkeypatch.setattr(checks, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"train\.minutes works in one process"):
        check_params(params, unet)


def test_packs_that_do_not_fit(tmp_path: Path) -> None:
    def check(window: int | None = None, train: int = 1, valid: int = 1, **unet: Any) -> None:
        write_pack(tmp_path, 32, train, valid)
        with PackReader(tmp_path) as pack:
            check_pack(pack, tmp_path, unet_params(**unet), augment_params(window=window))

    check(window=16)
    with pytest.raises(UserError, match=r"train on.*`train` is empty.*split\."):
        check(train=0)
    with pytest.raises(UserError, match=r"validate with.*`valid` is empty"):
        check(valid=0)
    with pytest.raises(UserError, match="multiple of 64"):
        check(depth=7, filters=1)
    for window in (30, 64):
        with pytest.raises(UserError, match=rf"augment\.window is {window}: .* multiple of 4"):
            check(window, depth=3)
