"""The ladder: its rungs have valid params, and docs/recipes.md names the same ones."""

import itertools

import pytest

from benchmarks.ladder import INSTEAD, RUNGS, SEEDS, runs, table
from roads.recipes import changed_params
from tests.project import ROOT

PAGE = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("only_last", [False, True])
def test_each_rung_has_valid_params_and_is_in_the_table(only_last: bool) -> None:
    for _, added, changes, _ in runs(only_last):
        changed_params(changes, ROOT / "params.yaml")
        assert f"| `{added}` |" in PAGE


def test_rungs_add_up_and_replacements_are_of_the_last_one() -> None:
    rows = runs(only_last=False)
    assert [name for name, *_ in rows] == [*RUNGS, *INSTEAD]
    assert [len(seeds) for *_, seeds in rows[: len(RUNGS)]] == [3, *[1] * (len(RUNGS) - 2), 3]
    changes = [each for _, _, each, _ in rows]
    last = changes[len(RUNGS) - 1]
    for one, other in itertools.pairwise(changes[: len(RUNGS)]):
        assert one.keys() <= other.keys()
    assert last["train.loss"] == "bce_dice"
    assert last["evaluate.tta"]
    for each in changes[len(RUNGS) :]:
        assert 1 <= len(each.items() - last.items()) <= 2


def test_the_last_rung_alone_comes_with_three_seeds_each() -> None:
    names, seeds = zip(*((name, seeds) for name, _, _, seeds in runs(only_last=True)), strict=True)
    assert list(names) == [next(reversed(RUNGS)), *INSTEAD]
    assert set(seeds) == {SEEDS}


def test_the_table_has_the_mean_and_the_range_over_seeds() -> None:
    seeds = [{"iou": iou, "break_even": 0.8} for iou in (0.4, 0.5, 0.6)]
    assert table([("one", "a.b=1", seeds[:1]), ("three", "a.b=2", seeds)]).splitlines()[2:] == [
        "| one | `a.b=1` | 0.400 | 0.800 |",
        "| three | `a.b=2` | 0.500 (0.400 to 0.600) | 0.800 (0.800 to 0.800) |",
    ]
