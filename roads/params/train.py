"""The section `train:` of params.yaml: how a net is trained."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from roads.runtime.params import Section

NO_NET = "none"  # random initial weights; DVC's dep is then the folder of this name


class TrainParams(Section):
    loss: Literal["soft_dice", "weighted_bce", "bce_dice"]
    road_weight: float | None = Field(gt=0)
    cldice_weight: float = Field(ge=0)
    ignore_blank: bool
    optimizer: Literal["adam", "adamw"]
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(ge=0)
    ema: float = Field(ge=0, lt=1)
    learning_rate: float = Field(gt=0, le=1)
    warmup_epochs: float = Field(ge=0)
    batch_size: int = Field(ge=1, le=65_536)
    epochs: int = Field(ge=0, le=100_000)
    minutes: float | None = Field(gt=0)
    freeze_encoder_epochs: int = Field(ge=0)
    schedule: Literal["plateau", "cosine", "constant"]
    plateau_factor: float = Field(gt=0, lt=1)
    plateau_patience: int = Field(ge=1)
    plateau_min_delta: float = Field(ge=0)
    monitor: Literal["loss", "dice", "iou"]
    early_stopping_patience: int = Field(ge=0)
    keep: Literal["best", "last"]
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    loop: Literal["auto", "fit", "resident"]
    devices: Literal["auto"] | int
    weights_folder: Path
    initial_weights: str
    seed: int = Field(ge=0, lt=2**32)

    @field_validator("devices", mode="before")
    @classmethod
    def _auto_or_a_number(cls, value: Any) -> Any:
        if value == "auto" or (type(value) is int and value >= 1):
            return value
        raise ValueError("auto or a number of at least 1")

    @model_validator(mode="after")
    def _epochs_leave_some_to_train(self) -> Self:
        for key in ("freeze_encoder_epochs", "warmup_epochs"):
            value = getattr(self, key)
            if self.minutes is None and value > 0 and value >= self.epochs > 0:
                raise ValueError(
                    f"train.{key} is {value:g} and train.epochs is {self.epochs}: no epochs would "
                    f"be left after it. Lower train.{key}"
                )
        return self

    @model_validator(mode="after")
    def _minutes_go_with_the_rest(self) -> Self:
        if self.minutes is not None and self.freeze_encoder_epochs > 0:
            raise ValueError(
                "train.minutes cannot be combined with train.freeze_encoder_epochs: the time might "
                "end before the encoder is trained. Set one of them to its default"
            )
        if self.minutes is not None and self.schedule == "plateau":
            raise ValueError(
                "train.minutes cannot be combined with train.schedule plateau. Set the schedule to "
                "cosine (it falls to 0 at the end of the time) or constant"
            )
        return self
