"""The section `train:` of params.yaml: how a net is trained."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from roads.params import Section


class TrainParams(Section):
    """The section `train:` of params.yaml."""

    loss: Literal["soft_dice", "weighted_bce", "bce_dice"]
    road_weight: float | None = Field(gt=0)
    cldice_weight: float = Field(ge=0)
    ignore_blank: bool
    learning_rate: float = Field(gt=0, le=1)
    batch_size: int = Field(ge=1)
    epochs: int = Field(ge=0)
    schedule: Literal["plateau", "cosine", "constant"]
    plateau_factor: float = Field(gt=0, lt=1)
    plateau_patience: int = Field(ge=1)
    plateau_min_delta: float = Field(ge=0)
    early_stopping_patience: int = Field(ge=0)
    precision: Literal["auto", "float32", "mixed_bfloat16"]
    weights_folder: Path
    initial_weights: str
    seed: int = Field(ge=0)
