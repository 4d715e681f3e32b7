"""The section `unet:` of params.yaml."""

from typing import Literal, Self

from pydantic import Field, model_validator

from roads.runtime.params import Section

PRETRAINED = "efficientnet_lite0"  # the encoder with ImageNet weights
DEEPEST = 6  # levels with that encoder; its last output is at stride 32
MOST_FILTERS = 4096  # at the bottom; more is a typo, and would fill the memory


class UnetParams(Section):
    filters: int = Field(ge=1, le=512)
    depth: int = Field(ge=1, le=7)
    dropout: float = Field(ge=0, le=0.2)
    activation: Literal["elu", "relu", "leaky_relu", "gelu", "silu"]
    normalization: Literal["batch", "none"]
    momentum: float = Field(ge=0, lt=1)
    encoder: Literal["plain", "residual", "efficientnet_lite0"] = "plain"
    encoder_weights: Literal["none", "imagenet"] = "none"

    @model_validator(mode="after")
    def _net_can_be_built(self) -> Self:
        most = self.filters * 2 ** (self.depth - 1)
        if most > MOST_FILTERS:
            raise ValueError(
                f"unet.filters {self.filters} and unet.depth {self.depth} make {most:,} filters at "
                f"the bottom: at most {MOST_FILTERS:,}"
            )
        if self.encoder == PRETRAINED and not 2 <= self.depth <= DEEPEST:
            raise ValueError(
                f"unet.depth is {self.depth}: with unet.encoder {self.encoder} it must be from 2 "
                f"to {DEEPEST}"
            )
        return self


def size_step(params: UnetParams) -> int:
    """The number of pixels that the height and width of a picture must be multiples of."""
    return int(2 ** (params.depth - 1))
