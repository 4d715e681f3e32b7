"""Whatever stands in params.yaml: a section comes out, or one line that names the key."""

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from roads.params.crop import CropParams
from roads.params.evaluate import EvaluateParams
from roads.params.split import SplitParams
from roads.params.train import TrainParams
from roads.runtime.errors import UserError
from roads.runtime.params import read_section
from tests.hostile.readers import SECTIONS
from tests.project import params

ODD = st.one_of(
    st.none(), st.booleans(), st.integers(), st.integers(-3, 5000), st.floats(), st.text(),
    st.sampled_from([1e400, -1.0, 10**30, "1e-05", "1e999", "1_000", "", "../..", "/etc", "a\0b"]),
    st.lists(st.integers(), max_size=3), st.dictionaries(st.text(), st.integers(), max_size=3),
)  # fmt: skip


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
    name = data.draw(st.sampled_from(sorted(SECTIONS)))
    values = dict(params()[name])
    key = data.draw(st.sampled_from([*values, "lerning_rate", "size "]))
    change = data.draw(st.sampled_from(["set", "remove"])) if key in values else "set"
    if change == "remove":
        del values[key]
    else:
        values[key] = data.draw(ODD)
    path = Path("params.yaml")  # as `read_section` takes what the loader gave
    try:
        section = check(name, values, path)
    except UserError as error:
        told = str(error)
        assert told.isprintable()
        assert len(told) < 1000
        assert f"{name}.{key.strip()}" in told or f"{name}.'{key}'" in told
    else:
        for value in section.model_dump().values():
            assert not isinstance(value, float) or math.isfinite(value)
        assert change == "set" or not SECTIONS[name].model_fields[key].is_required()


def check(name: str, values: dict[str, Any], path: Path) -> Any:
    """The section as `read_section` gives it, without a file between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("roads.runtime.params.load_params", lambda _: {name: values})
        return read_section(SECTIONS[name], name, path)


@pytest.mark.parametrize(
    ("section", "model", "changes", "told"),
    [
        ("crop", CropParams, {"stride": 300}, "crop.stride 300 is larger than crop.size 256"),
        ("split", SplitParams, {"valid": 0.5, "test": 0.5}, "leave nothing to train on"),
        ("split", SplitParams, {"valid": 1.2}, "split.valid is 1.2: should be less than 1"),
        ("split", SplitParams, {"valid": 0}, "split.valid is 0: should be greater than 0"),
        ("evaluate", EvaluateParams, {"overlap": 512}, "evaluate.overlap 512 is not less than"),
        (
            "unet",
            SECTIONS["unet"],
            {"filters": 512},
            "unet.filters 512 and unet.depth 5 make 8,192",
        ),
        ("train", TrainParams, {"batch_size": 10**9}, "train.batch_size is 1000000000"),
        ("train", TrainParams, {"learning_rate": math.inf}, "train.learning_rate is inf"),
        ("train", TrainParams, {"clip_norm": math.inf}, "train.clip_norm is inf"),
        ("train", TrainParams, {"ema": 1}, "train.ema is 1: should be less than 1"),
    ],
)
def test_keys_that_contradict_each_other_are_both_named(
    tmp_path: Path, section: str, model: Any, changes: dict[str, Any], told: str
) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump({section: params()[section] | changes}))
    with pytest.raises(UserError) as error:
        read_section(model, section, path)
    assert told in str(error.value)
    assert str(error.value).isprintable()
    assert "{" not in str(error.value)
