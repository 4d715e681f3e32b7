import itertools
from pathlib import Path

import pytest
from pydantic import Field

from roads.runtime.errors import UserError
from roads.runtime.params import Section, read_section


class Oven(Section):
    degrees: float = Field(gt=0, le=300)
    trays: int = Field(ge=1)


def read(tmp_path: Path, text: str) -> Oven:
    path = tmp_path / "params.yaml"
    path.write_text(text, encoding="utf-8")
    return read_section(Oven, "oven", path)


def test_a_float_written_by_dvc_is_a_number(tmp_path: Path) -> None:
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
        ("oven: {degrees: 5, trays: 1, a: 2, b: 3}", "degrees, trays); oven.b is not a parameter"),
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


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{after}: &{after} [{', '.join([f'*{name}'] * 9)}]\n"
    for name, after in itertools.pairwise("abcdefghijklmnop")
)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB + "oven: *p", "write the value out, not `*`"),
        ("<<: &x {degrees: 1}\noven: {<<: *x, trays: 1}", "write the value out, not `*`"),
        ("oven: {degrees: 1, trays: 1, degrees: 2}", "line 1: \"duplicate key 'degrees'"),
        (
            "oven: {degrees: 1, trays: 1}\noven: {degrees: 2, trays: 1}",
            "line 2: \"duplicate key 'oven'",
        ),
        ("oven:\n\tdegrees: 1", "line 2: "),
        ("x: " + "[" * 20_000, "is not valid YAML"),
        ("x: " + "9" * 5000, "is not valid YAML"),
        ("x: 2026-13-45", "is not valid YAML"),
        ("x: !!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("# " + "x" * 10_000_000, "has over 100,000 bytes"),
        (f"oven: {{degrees: {'x' * 50_000}, trays: 1}}", "oven.degrees is 'xxx"),
        (f"oven: {{degrees: 0x{'f' * 5000}, trays: 1}}", "oven.degrees is a number of over"),
        (f"oven: {{{'x' * 1000}: 5, degrees: 5, trays: 1}}", "is not a parameter"),
        ('oven: {degrees: 5, trays: 1, "a\\nb\\e": 2}', r"oven.'a\nb\x1b' is not a parameter"),
        ("oven: {degrees: 5, trays: 1, 3: 2}", "oven.'3' is not a parameter"),
        (f"oven: {{{', '.join(f'k{n}: 1' for n in range(1000))}}}", "and 992 more"),
        ("oven: {degrees: .inf, trays: 1}", "oven.degrees is inf: should be a finite number"),
        ("oven: {degrees: 4.0, trays: 2, kitchen: 1}", "oven.kitchen is not a parameter"),
    ],
    ids=lambda text: text[:30],
)
def test_hostile_params_are_refused_in_one_short_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(UserError) as error:
        read(tmp_path, text)
    assert told in str(error.value)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1500


def test_bytes_that_are_not_text_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes("oven: {degrees: 5, trays: 1} # café".encode("latin-1"))
    with pytest.raises(UserError, match=r"params\.yaml is not valid YAML: 'utf-8' codec"):
        read_section(Oven, "oven", path)
