from pathlib import Path

import pytest
from pydantic import Field

from roads.errors import UserError
from roads.params import Section, read_section


class Oven(Section):
    degrees: float = Field(gt=0, le=300)
    trays: int = Field(ge=1)


def read(tmp_path: Path, text: str) -> Oven:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return read_section(Oven, "oven", path)


def test_a_float_that_dvc_wrote_back_is_a_number(tmp_path: Path) -> None:
    assert read(tmp_path, "oven: {degrees: 1e-05, trays: 2}").degrees == 1e-5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("oven: {degrees: 500, trays: 1}", "oven.degrees is 500: should be less than or equal"),
        ("oven: {degrees: hot, trays: 1}", "oven.degrees is 'hot': should be a valid number"),
        ("oven: {degrees: 5, trays: 1.5}", "oven.trays is 1.5: should be"),
        ("oven: {degrees: 5, trays: true}", "oven.trays is True"),
        ("oven: {degrees: .nan, trays: 1}", "oven.degrees is nan"),
        ("oven: {degrees: 5}", "oven.trays is missing"),
        ("oven: {degrees: 5, trays: 1, trys: 2}", "oven.trys is not a parameter (known: degrees"),
        ("oven: 3", "the section `oven:` is missing"),
        ("kitchen: {}", "the section `oven:` is missing"),
        ("- oven", "must hold sections"),
        ("oven: {", "is not valid YAML"),
        ("", "must hold sections"),
    ],
)
def test_a_mistake_is_one_line_with_the_key(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_says_how_to_get_it_back(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="git restore"):
        read_section(Oven, "oven", tmp_path / "params.yaml")
