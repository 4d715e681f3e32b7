"""The section `parallel:` of params.yaml."""

from pydantic import Field

from roads.runtime.params import Section


class ParallelParams(Section):
    """`parallel:` in params.yaml. No stage declares it, since results do not depend on it."""

    scheduler: str | None = Field(pattern=r"^(tcp|tls)://\S+:\d+$")
