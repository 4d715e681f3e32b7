"""The rules between keys and sections of params.yaml."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from roads.params.parallel import ParallelParams
from roads.params.whole import read_params
from roads.runtime.errors import UserError
from tests.project import params, write_params


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"crop.stride": 300}, "crop.stride 300 is larger than crop.size 256"),
        ({"split.valid": 0.5, "split.test": 0.5}, "leave nothing to train on"),
        ({"split.valid": 1.2}, "split.valid is 1.2: should be less than 1"),
        ({"split.valid": 0}, "split.valid is 0: should be greater than 0"),
        ({"evaluate.overlap": 512}, "evaluate.overlap 512 is not less than"),
        ({"unet.filters": 512}, "unet.filters 512 and unet.depth 5 make 8,192"),
        (
            {"unet.encoder": "efficientnet_lite0", "unet.depth": 1},
            "unet.depth is 1: with unet.encoder eff",
        ),
        ({"train.batch_size": 10**9}, "train.batch_size is 1000000000"),
        ({"train.learning_rate": math.inf}, "train.learning_rate is inf"),
        ({"train.clip_norm": math.inf}, "train.clip_norm is inf"),
        ({"train.ema": 1}, "train.ema is 1: should be less than 1"),
        ({"train.minutes": 5, "train.schedule": "plateau"}, "train.minutes cannot be"),
        (
            {"unet.encoder": "efficientnet_lite0", "train.freeze_encoder_epochs": 10},
            "train.freeze_encoder_epochs is 10 and train.epochs is 10",
        ),
        ({"train.warmup_epochs": 12}, "train.warmup_epochs is 12 and train.epochs is 10"),
        ({"train.epochs": 0}, "train.epochs is 0 and train.initial_weights is none"),
        (
            {"train.freeze_encoder_epochs": 2},
            "unet.encoder to efficientnet_lite0 and unet.encoder_weights to imagenet",
        ),
        (
            {"unet.encoder": "efficientnet_lite0", "train.freeze_encoder_epochs": 2},
            "random weights would be kept. Set the first to 0, or unet.encoder_weights to imagenet",
        ),
        (
            {"unet.encoder_weights": "imagenet"},
            "to none, or unet.encoder to efficientnet_lite0",
        ),
        (
            {"train.freeze_encoder_epochs": 2, "train.initial_weights": "mine"},
            "Set the first to 0, or unet.encoder to efficientnet_lite0",
        ),
        *(
            (
                {
                    "unet.encoder": encoder,
                    "unet.encoder_weights": "imagenet",
                    "train.initial_weights": "mine",
                },
                "cannot be combined with train.initial_weights 'mine', which overrides them. Set "
                "unet.encoder_weights to none",
            )
            for encoder in ("plain", "efficientnet_lite0")
        ),
        (
            {"train.devices": True},
            "train.devices is True: should be auto or a number of at least 1",
        ),
        (
            {"train.devices": "all"},
            "train.devices is 'all': should be auto or a number of at least 1",
        ),
        ({"train.devices": 0}, "train.devices is 0: should be auto or a number of at least 1"),
        (
            {
                "train.minutes": 5,
                "train.freeze_encoder_epochs": 2,
                "unet.encoder": "efficientnet_lite0",
            },
            "train.minutes cannot be combined with train.freeze_encoder_epochs",
        ),
        ({"crop.size": 250}, "crop.stride 256 is larger than crop.size 250"),
        (
            {"crop.size": 250, "crop.stride": 250},
            "crop.size is 250: with unet.depth 5 it must be a multiple of 16",
        ),
        ({"evaluate.window": 500}, "evaluate.window is 500: with unet.depth 5"),
        ({"augment.window": 100}, "augment.window is 100: with unet.depth 5"),
        ({"augment.window": 512}, "augment.window 512 is larger than crop.size 256"),
    ],
)
def test_keys_that_contradict_each_other_are_both_named(
    tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    values = params()
    for name, value in changes.items():
        section, _, key = name.partition(".")
        values[section][key] = value
    write_params(tmp_path, values)
    with pytest.raises(UserError) as error:
        read_params(tmp_path / "params.yaml")
    assert told in str(error.value)
    assert str(error.value).isprintable()
    assert "{" not in str(error.value)


def test_without_epochs_sizes_need_not_fit_the_net_of_params_yaml(tmp_path: Path) -> None:
    values = params()
    values["train"] |= {
        "epochs": 0,
        "initial_weights": "massachusetts-cpu",
        "freeze_encoder_epochs": 3,
    }
    values["unet"] |= {"depth": 7, "encoder_weights": "imagenet"}
    values["evaluate"]["window"] = 544
    write_params(tmp_path, values)
    assert read_params(tmp_path / "params.yaml").evaluate.window == 544


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda values: values.pop("crop"), "params.yaml: the section `crop:` is missing"),
        (lambda values: values.update(crop=None), "the section `crop:` is missing"),
        (lambda values: values.update(corp={}), "corp is not a section (known: augment, bin"),
    ],
)
def test_sections_missing_and_unknown_are_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    values = params()
    change(values)
    write_params(tmp_path, values)
    with pytest.raises(UserError) as error:
        read_params(tmp_path / "params.yaml")
    assert told in str(error.value)


@pytest.mark.parametrize("address", ["localhost:8786", "http://localhost:8786", "tcp://localhost"])
def test_an_address_in_another_form_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="scheduler"):
        ParallelParams(scheduler=address)
