from pathlib import Path

import pytest

from roads.dataset.packs import PackReader
from roads.runtime.errors import UserError
from roads.training import checks
from roads.training.checks import check_pack, check_processes
from tests.packed import train_params, write_pack


def test_minutes_are_for_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    params = train_params(minutes=1, schedule="cosine", warmup_epochs=9)
    check_processes(params)
    monkeypatch.setattr(checks, "process_count", lambda: 2)
    with pytest.raises(UserError, match=r"train\.minutes works in one process"):
        check_processes(params)


@pytest.mark.parametrize(("empty", "use"), [("train", "train on"), ("valid", "validate with")])
def test_an_empty_split_is_refused(empty: str, use: str, tmp_path: Path) -> None:
    write_pack(tmp_path, 32, **{"train": 1, "valid": 1, empty: 0})
    with (
        PackReader(tmp_path) as pack,
        pytest.raises(UserError, match=rf"{use}.*`{empty}` is empty.*split\."),
    ):
        check_pack(pack, tmp_path)
