"""Reads params.yaml: a pydantic model per section, and errors that name the key."""

from pathlib import Path
from typing import Any, TypeVar

import pydantic
import yaml

from roads.runtime.errors import UserError, excerpt, one_line

PARAMS_FILE = Path("params.yaml")
CHECKOUT = Path(__file__).resolve().parents[2]  # holds roads/, stages/, params.yaml and models/
MAX_BYTES = 100_000  # of the file; ours has 8,000
COMPLAINTS = 10  # listed in a message


class Section(pydantic.BaseModel):
    """A section of params.yaml. Unknown keys are refused; `1e-05` as text is a number.

    (`dvc exp run -S` writes 0.00001 as `1e-05`, which YAML 1.1 reads as a string.)
    """

    model_config = pydantic.ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    @pydantic.field_validator("*", mode="before")
    @classmethod
    def _a_number_is_not_true_or_false(cls, value: Any, info: pydantic.ValidationInfo) -> Any:
        field = cls.model_fields[str(info.field_name)]
        if isinstance(value, bool) and field.annotation in (int, float, int | None, float | None):
            raise ValueError("a number")
        return value


SomeSection = TypeVar("SomeSection", bound=Section)


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain values, without duplicate keys or aliases.

    A few lines of nested aliases can expand to more than fits in memory.
    """

    def compose_node(self, parent: Any, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "write the value out, not `*`", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[Any] = set()
        for key, _ in node.value:
            if key.value in seen:
                told = f"duplicate key {excerpt(key.value)}"
                raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
            seen.add(key.value if isinstance(key.value, str) else None)
        return super().construct_mapping(node, deep)


def load_params(path: Path = PARAMS_FILE) -> dict[str, Any]:
    """All sections of the file as plain values.

    Raises:
        UserError: the file is missing, too long, not YAML, or not a mapping of sections.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UserError(
                f"{path} has over {MAX_BYTES:,} bytes; restore it: `git restore {path}`"
            )
        loaded = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it: `git restore {path}`") from None
    except UserError:
        raise
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise UserError(f"{path} is not valid YAML: {line}{excerpt(error.problem)}") from None
    except Exception as error:  # a date, number or tag that Python cannot represent
        raise UserError(f"{path} is not valid YAML: {one_line(error)}") from None
    if not isinstance(loaded, dict):
        raise UserError(f"{path} must hold sections such as `crop:`; it holds {excerpt(loaded)}")
    return loaded


def has_section(name: str, path: Path = PARAMS_FILE) -> bool:
    """Whether the file can be read and has the section; it may belong to another program."""
    try:
        return name in load_params(path)
    except UserError:
        return False


def read_section(section: type[SomeSection], name: str, path: Path = PARAMS_FILE) -> SomeSection:
    """Read and check one section, for example `read_section(CropParams, "crop")`.

    Raises:
        UserError: the section is missing, or a key in it is missing, unknown or out of range.
    """
    model = pydantic.create_model("Params", __base__=Section, **{name: section})  # type: ignore[call-overload]
    values = {key: value for key, value in load_params(path).items() if key == name}
    found: SomeSection = getattr(validated(model, values, path), name)
    return found


def validated(model: type[SomeSection], values: dict[str, Any], source: object) -> SomeSection:
    """Check values against a model with a field for each; errors begin with `source`.

    Raises:
        UserError: a section, or a key in it, is missing, unknown or out of range.
    """
    try:
        return model.model_validate(values)
    except pydantic.ValidationError as error:
        raise UserError(f"{source}: " + "; ".join(_complaints(model, error))) from None


def _complaints(model: type[Section], error: pydantic.ValidationError) -> list[str]:
    lines = []
    listed = set()  # sections whose keys were listed
    for problem in error.errors()[:COMPLAINTS]:
        place = problem["loc"]
        key = ".".join(map(_key, place))
        if problem["type"] == "value_error" and len(place) <= 1:  # keys contradict each other
            lines.append(problem["msg"].removeprefix("Value error, "))
        elif problem["type"] in ("extra_forbidden", "invalid_key"):
            inside = place[:-1]
            fields = _section(model, inside).model_fields
            known = "" if inside in listed else f" (known: {', '.join(sorted(fields))})"
            lines.append(f"{key} is not a {'parameter' if inside else 'section'}{known}")
            listed.add(inside)
        elif problem["type"] in ("missing", "model_type") and len(place) == 1:
            lines.append(f"the section `{key}:` is missing")
        elif problem["type"] == "missing":
            lines.append(f"{key} is missing")
        else:
            rule = problem["msg"].removeprefix("Value error, ")
            rule = rule.removeprefix("Input should be ")
            lines.append(f"{key} is {excerpt(problem['input'])}: should be {rule}")
    more = error.error_count() - len(lines)
    return [*lines, f"and {more} more"] if more else lines


def _section(model: type[Section], place: tuple[int | str, ...]) -> type[Section]:
    return model.model_fields[str(place[0])].annotation if place else model  # type: ignore[return-value]


def _key(part: object) -> str:
    text = str(part)
    return text if text.isidentifier() and len(text) < 40 else excerpt(text)
