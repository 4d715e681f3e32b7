"""The section `evaluate:` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from roads.runtime.params import CHECKOUT, PARAMS_FILE, Section, has_section, read_section


class EvaluateParams(Section):
    batch_size: int = Field(ge=1, le=65_536)
    overlays: int = Field(ge=0, le=10_000)
    window: int = Field(ge=16, le=8192)
    overlap: int = Field(ge=0)
    tta: bool
    spur: float = Field(ge=0)
    tolerance: float = Field(ge=0)
    join: float = Field(ge=0)
    disagreements: Literal["test", "all"]
    disagreement_pictures: int = Field(ge=0, le=1000)

    @model_validator(mode="after")
    def _windows_go_forward(self) -> Self:
        if self.overlap >= self.window:
            raise ValueError(
                f"evaluate.overlap {self.overlap} is not less than evaluate.window {self.window}"
            )
        return self


def read_evaluate() -> EvaluateParams:
    """Read `evaluate:` from the params.yaml here, or from the project's if that has none.

    Raises:
        UserError: as `read_section`.
    """
    file = PARAMS_FILE if has_section("evaluate") else CHECKOUT / PARAMS_FILE
    return read_section(EvaluateParams, "evaluate", file)
