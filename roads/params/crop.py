"""The section `crop:` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from roads.runtime.params import Section


class CropParams(Section):
    size: int = Field(ge=16, le=4096)
    stride: int = Field(ge=1)
    edge: Literal["drop", "shift", "pad"]
    max_blank: float = Field(ge=0, le=1)

    @model_validator(mode="after")
    def _leaves_no_gaps(self) -> Self:
        if self.stride > self.size:
            raise ValueError(f"crop.stride {self.stride} is larger than crop.size {self.size}")
        return self
