"""The section `binarize:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class BinarizeParams(Section):
    threshold: int = Field(ge=0, le=254)
