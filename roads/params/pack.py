"""The section `pack:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class PackParams(Section):
    min_road: float = Field(ge=0, lt=1)
    min_road_everywhere: bool
