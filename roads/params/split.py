"""The section `split:` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from roads.runtime.params import Section


class SplitParams(Section):
    by: Literal["official", "tile", "crop"]
    seed: int = Field(ge=0, lt=2**32)
    valid: float = Field(gt=0, lt=1)
    test: float = Field(gt=0, lt=1)

    @model_validator(mode="after")
    def _leaves_some_to_train(self) -> Self:
        if self.valid + self.test >= 1:
            raise ValueError(
                f"split.valid {self.valid:g} and split.test {self.test:g} leave nothing to train on"
            )
        return self
