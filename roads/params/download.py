"""The section `download:` of params.yaml."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from roads.runtime.params import Section


class DownloadParams(Section):
    source: Literal["sample", "massachusetts", "folder"]
    folder: Path
    base_url: str = Field(pattern=r"^https?://[^\s/]+\S*$")
    limit: int | None = Field(ge=1)
    allow_missing: bool
    connections: int = Field(ge=1, le=64)
    retries: int = Field(ge=0, le=100)
    timeout: float = Field(gt=0, le=3600)
