"""The section `augment:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class AugmentParams(Section):
    repeats: int = Field(ge=1, le=100_000)
    flips: bool
    turns: bool
    rotation: float = Field(ge=0, le=180)
    scale: float = Field(ge=0, le=1)
    brightness: float = Field(ge=0, lt=1)
    contrast: float = Field(ge=0, lt=1)
    gamma: float = Field(ge=0, lt=1)
    saturation: float = Field(ge=0, le=1)
    window: int | None = Field(ge=1)

    @property
    def moves(self) -> bool:
        """Whether pixels move."""
        return self.flips or self.turns or self.window is not None or self.resamples

    @property
    def resamples(self) -> bool:
        """Whether pixels are interpolated."""
        return self.rotation > 0 or self.scale > 0

    @property
    def tones(self) -> bool:
        """Whether pixel values are changed by a table."""
        return self.brightness > 0 or self.contrast > 0 or self.gamma > 0

    @property
    def active(self) -> bool:
        """Whether any augmentation is on."""
        return self.moves or self.tones or self.saturation > 0
