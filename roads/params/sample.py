"""The section `sample:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class SampleParams(Section):
    seed: int = Field(ge=0, lt=2**32)
    size: int = Field(ge=256, le=5000)
    train: int = Field(ge=1, le=1000)
    valid: int = Field(ge=1, le=1000)
    test: int = Field(ge=1, le=1000)
