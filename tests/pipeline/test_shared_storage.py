"""Two machines that share a DVC remote: what one computed, the other only fetches."""

from pathlib import Path

import pytest
import yaml

from tests.project import copy_project, run, write_params


def set_param(project: Path, section: str, **values: object) -> None:
    params = yaml.safe_load((project / "params.yaml").read_text(encoding="utf-8"))
    params[section] |= values
    write_params(project, params)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine that pushed two runs, and committed the first."""
    root = tmp_path_factory.mktemp("machines")
    project = copy_project(root / "first")
    set_param(project, "train", epochs=1)
    set_param(project, "evaluate", overlays=0)
    run(project, "dvc", "remote", "add", "--default", "shared", str(root / "shared"))
    run(project, "dvc", "repro")
    run(project, "git", "add", "--all")
    run(project, "git", "commit", "--quiet", "--message=first run")
    set_param(project, "binarize", threshold=120)
    run(project, "dvc", "repro", "binarize")
    run(project, "dvc", "push", "--run-cache")  # the files are those of the dvc.lock at hand
    run(project, "git", "restore", ".")
    run(project, "dvc", "checkout", "--quiet")
    run(project, "dvc", "push")
    return project


@pytest.fixture
def second(first: Path, tmp_path: Path) -> Path:
    """Another machine: a fresh clone with a cache of its own."""
    run(tmp_path, "git", "clone", "--quiet", str(first), "second")
    return tmp_path / "second"


def test_another_machine_pulls_and_computes_nothing_again(first: Path, second: Path) -> None:
    run(second, "dvc", "pull")
    answer = run(second, "dvc", "repro")
    assert "Running stage" not in answer.stdout
    assert "Data and pipelines are up to date" in answer.stdout
    for name in ("data/packed/images.h5", "models/unet.weights.h5", "data/masks/pixels.csv"):
        assert (second / name).read_bytes() == (first / name).read_bytes()
    assert run(second, "git", "status", "--porcelain").stdout == ""


def test_what_was_run_and_not_committed_comes_with_the_run_cache(second: Path) -> None:
    run(second, "dvc", "pull", "--run-cache")
    set_param(second, "binarize", threshold=120)
    answer = run(second, "dvc", "repro", "--pull", "binarize")
    assert "Stage 'binarize' is cached - skipping run, checking out outputs" in answer.stdout
    assert "Running stage" not in answer.stdout
