"""The section `handpick:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class HandpickParams(Section):
    max_blank: float = Field(ge=0, le=1)
