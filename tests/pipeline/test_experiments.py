"""The commands of docs/experiments.md, run in their order in a copy of the project."""

import json
from pathlib import Path

import pytest

from tests.project import ROOT, code_blocks, copy_project, run

# What a shell has in which `make repro` made the environment and put it in front.
SHELL = """set -eux
export PYTHONPATH=$PWD
source() { :; }
make() { command make --old-file=.venv/pipeline "$@"; }
roads() { python -m roads "$@"; }
"""


@pytest.mark.soak
def test_the_page_on_experiments_does_what_it_says(tmp_path: Path) -> None:
    page = tmp_path / "experiments.md"
    text = (ROOT / "docs/experiments.md").read_text(encoding="utf-8")
    page.write_text(text.partition("## Recipes")[0].replace("/shared/", f"{tmp_path}/shared/"))
    first, baseline, *others, after_a_kill = code_blocks(page)
    assert "make repro" in baseline
    killed = "rm -r metrics/train && mkdir metrics/train && touch metrics/train/metrics.json"
    (tmp_path / "project").mkdir()
    project = copy_project(tmp_path / "project")
    for key, value in (("user.name", "Tester"), ("user.email", "tester@example.org")):
        run(project, "git", "config", key, value)
    script = "\n".join([SHELL, baseline, first, *others, killed, after_a_kill])
    shown = run(project, "bash", "-c", script)

    second = tmp_path / "second"
    names = run(project, "dvc", "exp", "list", "--all-commits", "--name-only").stdout.split()
    assert {"rate-1", "rate-2"} <= set(names)
    for branch, key in (("faster", "learning_rate"), ("soft", "loss")):
        told = json.loads(run(project, "dvc", "params", "diff", "main~1", branch, "--json").stdout)
        assert told["params.yaml"].keys() == {f"train.{key}"}
    assert run(project, "git", "status", "--porcelain").stdout == ""
    assert run(second, "dvc", "status").stdout.endswith("up to date.\n")
    registered = (second / "registered.weights.h5").read_bytes()
    assert registered == (project / "models/unet.weights.h5").read_bytes()
    assert "Traceback" not in shown.stderr
