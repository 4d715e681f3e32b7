"""Whatever stands in params.yaml: a section comes out, or one line that names the key."""

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roads.params.whole import Params
from roads.runtime.errors import UserError
from roads.runtime.params import PARAMS_FILE, validated
from tests.project import params

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 5000), st.floats(), st.text(),
    st.sampled_from([1e400, -1.0, 10**30, "1e-05", "1e999", "1_000", "", "../..", "/etc", "a\0b"]),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(), st.integers(), max_size=3),
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_value_is_read_or_refused_by_its_key(data: st.DataObject) -> None:
    change_one_value(data)


@pytest.mark.soak
@settings(max_examples=5000, deadline=None)
@given(data=st.data())
def test_thousands_of_values_are_read_or_refused_by_their_keys(data: st.DataObject) -> None:
    change_one_value(data)


def change_one_value(data: st.DataObject) -> None:
    whole = params()
    name = data.draw(st.sampled_from(sorted(whole)))
    values = whole[name]
    key = data.draw(st.sampled_from([*values, "lerning_rate", "size "]))
    change = data.draw(st.sampled_from(["set", "remove"])) if key in values else "set"
    if change == "remove":
        del values[key]
    else:
        values[key] = data.draw(ODD)
    try:
        section = getattr(check(whole), name)
    except UserError as error:
        told = str(error)
        assert told.isprintable()
        assert len(told) < 1000
        assert f"{name}.{key.strip()}" in told or f"{name}.'{key}'" in told
    else:
        for value in section.model_dump().values():
            assert not isinstance(value, float) or math.isfinite(value)
        assert change == "set" or not type(section).model_fields[key].is_required()


def check(values: dict[str, Any]) -> Params:
    """What `read_params` gives for a file of these values."""
    return validated(Params, values, PARAMS_FILE)
