"""Reads params.yaml: one section, one pydantic model, errors that name the key."""

from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from roads.errors import UserError

PARAMS_FILE = Path("params.yaml")


class Section(pydantic.BaseModel):
    """A section of params.yaml. Unknown keys are refused; `1e-05` as text is a number.

    (`dvc exp run -S` writes 0.00001 as `1e-05`, which YAML 1.1 reads as a string.)
    """

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _a_number_is_not_true_or_false(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation in (int, float, int | None, float | None):
            raise ValueError("a number")
        return value


SomeSection = TypeVar("SomeSection", bound=Section)


def load_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """All sections of the file as plain values.

    Raises:
        UserError: the file is missing, is not YAML, or is not a mapping of sections.
    """
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing; `git restore {path}` brings it back") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is not valid YAML: {reason}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold sections such as `crop:`; it holds {loaded!r}")
    return loaded


def read_section(section: type[SomeSection], name: str, path: Path = PARAMS_FILE) -> SomeSection:
    """Read and check one section, for example `read_section(CropParams, "crop")`.

    Raises:
        UserError: the section is missing, or a key in it is missing, unknown or out of range.
    """
    values = load_params(path).get(name)
    if not isinstance(values, dict):
        raise UserError(f"{path}: the section `{name}:` is missing")
    try:
        return section.model_validate(values)
    except pydantic.ValidationError as error:
        raise UserError(f"{path}: " + "; ".join(_complaints(name, section, error))) from None


def _complaints(name: str, section: type[Section], error: pydantic.ValidationError) -> list[str]:
    lines = []
    for problem in error.errors():
        key = ".".join([name, *map(str, problem["loc"])])
        if problem["type"] == "extra_forbidden":
            known = ", ".join(sorted(section.model_fields))
            lines.append(f"{key} is not a parameter (known: {known})")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            rule = problem["msg"].removeprefix("Value error, ")
            rule = rule.removeprefix("Input should be ")
            lines.append(f"{key} is {problem['input']!r}: should be {rule}")
    return lines
