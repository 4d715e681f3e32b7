"""The notebook's cells, run as one script; a notebook server is not needed."""

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from tests.project import ROOT


@pytest.mark.slow
def test_the_tour_gives_the_pictures_and_scores_that_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = json.loads((ROOT / "notebooks/tour.ipynb").read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    outputs = json.dumps([cell["outputs"] for cell in cells])
    shown: list[int] = []

    def show() -> None:
        shown.extend(plt.get_fignums())
        plt.close("all")

    monkeypatch.setattr(plt, "show", show)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("ROADS_STATE", "")  # the notebook sets it
    monkeypatch.chdir(ROOT / "notebooks")
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    for cell in cells:
        exec("".join(cell["source"]), names)
    assert len(shown) == outputs.count('"image/jpeg"') == 7
    (dice,) = re.findall(r"Dice (0\.\d+), IoU", outputs)[-1:]
    assert names["dice"] == pytest.approx(float(dice), abs=0.005)
    assert names["kilometres"] > 1
