"""Damaged files, some hundreds in `make test` and more than ten thousand in `make soak`."""

import random
from pathlib import Path

import pytest

from tests.hostile.fuzz import run_inputs
from tests.hostile.mutations import mutate
from tests.hostile.readers import SUBJECTS


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed", "count"),
    [(1, 200), pytest.param(2, 12_000, marks=pytest.mark.soak)],
)
def test_damaged_files_are_read_or_refused_in_one_line(
    tmp_path: Path, seed: int, count: int
) -> None:
    """No other error, no crash, no hang, no memory without end, nothing outside the folder."""
    counts, findings = run_inputs(tmp_path, seed, 0, count)
    assert not findings, "\n".join(findings)
    assert sum(counts.values()) == count
    for name in SUBJECTS:
        assert counts.get(f"{name} refused"), f"no damage to {name} was found"


def test_damage_depends_only_on_the_seed() -> None:
    whole = bytes(range(256)) * 8
    damaged = [mutate(whole, random.Random(f"3/{number}"), True) for number in range(50)]
    assert damaged == [mutate(whole, random.Random(f"3/{number}"), True) for number in range(50)]
    assert len(set(damaged)) > 45
