"""The files in recipes/, and `roads run` up to where DVC takes over."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from roads.__main__ import main
from roads.recipes import _as_dvc_reads_it, changed_params, read_changes, read_recipe
from roads.runtime.errors import UserError
from tests.project import ROOT, run, write_params

RECIPES = sorted((ROOT / "recipes").glob("*.yaml"))
NAMES = [path.stem for path in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_every_recipe_has_valid_params_and_says_what_it_is_for(path: Path) -> None:
    recipe = read_recipe(path)
    params = changed_params(recipe, ROOT / "params.yaml")
    for name, value in recipe.items():
        section, _, key = name.partition(".")
        assert params[section][key] == value
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# ")
    assert max(map(len, text.splitlines())) <= 100


def test_documents_name_existing_recipes() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        text = page.read_text(encoding="utf-8")
        named = re.findall(r"roads run ([a-z]+)|recipes/([a-z]+)\.yaml", text)
        assert {name for pair in named for name in pair if name} <= set(NAMES), page


def test_the_page_of_the_best_recipe_has_its_repeats() -> None:
    repeats = read_recipe(ROOT / "recipes/best.yaml")["augment.repeats"]
    text = (ROOT / "docs/recipes.md").read_text(encoding="utf-8")
    assert f"drawn {repeats} times an epoch" in text


def test_changes_are_numbers_booleans_null_or_text() -> None:
    words = [
        "a.b=3", "a.c=1e-4", "a.d=true", "a.e=null", "a.f=/my tiles", "a.g=0.5", "a.h=2.e-3",
        "a.i=010", "a.j=1:30", "a.k='123'", "a.l=2024-12-31", "a.m=2024-13-45",
        "a.n=nan", f"a.o={10**400}",
    ]  # fmt: skip
    assert read_changes(words) == {
        "a.b": 3, "a.c": 1e-4, "a.d": True, "a.e": None, "a.f": "/my tiles", "a.g": 0.5,
        "a.h": 2e-3, "a.i": 10, "a.j": "1:30", "a.k": "123", "a.l": "2024-12-31",
        "a.m": "2024-13-45", "a.n": "nan", "a.o": str(10**400),
    }  # fmt: skip
    for word in ("train.epochs", "train.epochs=[1, 2]", "a={b: 3}"):
        with pytest.raises(UserError, match=r"is not a change of params\.yaml"):
            read_changes([word])


@pytest.mark.parametrize(
    "value",
    [
        1,
        0.25,
        1e-05,
        True,
        False,
        None,
        "adamw",
        "/my/it's, [here]",
        "tcp://host:8786",
        "a=b",
        "123",
        "true",
        "null",
        "nan",
        "/tmp/é",
        r"/tmp/a\b",
    ],
)
def test_a_value_reaches_params_yaml_unchanged(value: Any, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text("section: {key: 0}\n")
    apply_overrides(path, [_as_dvc_reads_it("section.key", value)])
    found = yaml.safe_load(path.read_text())["section"]["key"]
    assert (float(found) if value == 1e-05 else found) == value  # YAML 1.1 reads 1e-05 as text


@pytest.mark.parametrize("value", ["/tmp/${sample.seed}", "yes", "1:30", "ends with \\"])
def test_a_value_that_would_change_in_params_yaml_is_refused(value: str) -> None:
    with pytest.raises(UserError, match=r"^DVC cannot set download\.folder to '"):
        _as_dvc_reads_it("download.folder", value)


@pytest.mark.parametrize("line", ["3: 4", "true: 3", "null: 1", "train: {epochs: 3}"])
def test_a_recipe_consists_of_lines_with_keys(line: str, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(line)
    with pytest.raises(UserError, match=r"must hold lines such as `train\.epochs: 3`"):
        read_recipe(tmp_path / "a.yaml")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, folder / name)
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    run(folder, "git", "init", "--quiet")
    run(folder, "git", "config", "user.name", "Tester")
    run(folder, "git", "config", "user.email", "tester@example.org")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=start")
    return folder


def refused(folder: Path, *words: str) -> str:
    """What `roads run` says in a folder where nothing can be run; it is one line."""
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from roads.__main__ import main; "
    command = [sys.executable, "-c", f"{code}sys.exit(main())", "run", *words]
    answer = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr.startswith("error: ")
    assert answer.stderr.count("\n") == 1
    return answer.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["nonesuch"], f"no recipe nonesuch. There are: {', '.join(NAMES)}"),
        (["best", "train.epoch=3"], "train.epoch is not a key of params.yaml"),
        (["best", "epochs=3"], "epochs is not a key of params.yaml"),
        (["best", "train.epochs=many"], "train.epochs is 'many': should be a valid integer"),
        (["best", "augment.window=768"], "augment.window 768 is larger than crop.size 752"),
        (["best", "train.seed=2024-13-45"], "train.seed is '2024-13-45': should be a valid"),
        (["best", f"train.seed={'9' * 5000}"], "train.seed is '999"),
        (["best", "download.folder=/${sample.seed}"], "DVC cannot set download.folder to '/${samp"),
        (["best", "train.epochs"], "train.epochs is not a change of params.yaml such as"),
    ],
)
def test_a_mistake_takes_one_line_and_changes_nothing(
    words: list[str], told: str, project: Path
) -> None:
    assert told in refused(project, *words)
    assert run(project, "git", "status", "--porcelain").stdout == ""


def test_dvc_is_run_with_the_changes_the_options_and_this_python(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("PATH", f"/other{os.pathsep}{os.environ['PATH']}")
    run_by: list[tuple[Any, ...]] = []
    monkeypatch.setattr("os.execve", lambda *how: run_by.append(how))
    assert main(["run", "released", "train.seed=3", "--temp", "--queue"]) == 0
    ((program, command, environment),) = run_by
    assert (program, command) == (
        sys.executable,
        [
            *(sys.executable, "-m", "dvc", "exp", "run", "--queue", "--temp"),
            *("-S", "train.initial_weights='massachusetts-gpu'"),
            *("-S", "train.epochs=0", "-S", "train.seed=3"),
        ],
    )
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)


@pytest.mark.parametrize("staged", [False, True])
def test_a_recipe_starts_from_the_committed_params(
    project: Path, tmp_path: Path, staged: bool
) -> None:
    edited = Path(shutil.copytree(project, tmp_path / "edited"))
    path = edited / "params.yaml"
    committed = path.read_text(encoding="utf-8")
    os.utime(path, (0, 0))
    run(edited, "git", "config", "core.trustctime", "false")
    run(edited, "git", "update-index", "--refresh")
    path.write_text(committed.replace("epochs: 10 ", "epochs: 11 "))
    if staged:
        run(edited, "git", "add", "params.yaml")
    else:
        os.utime(path, (0, 0))  # as if in the same second, so Git does not see the change
    told = refused(edited, "best")
    assert "params.yaml has uncommitted changes" in told
    run(edited, "git", "restore", "-SW", "params.yaml")
    assert path.read_text(encoding="utf-8") == committed
    way_out = re.search(r"`(.*)`", told)
    assert way_out
    run(edited, *way_out[1].split())
    assert "no recipe other" in refused(edited, "other")


def test_without_a_commit_the_message_is_gits(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "bare", ignore=shutil.ignore_patterns(".git"))
    assert "Git says: fatal: not a git repository" in refused(tmp_path / "bare", "best")


def test_an_unknown_section_is_named(project: Path, tmp_path: Path) -> None:
    edited = Path(shutil.copytree(project, tmp_path / "edited"))
    values = yaml.safe_load((edited / "params.yaml").read_text(encoding="utf-8"))
    write_params(edited, values | {"train": 3})
    run(edited, "git", "commit", "--all", "--quiet", "--message=odd")
    assert "the section `train:` is missing" in refused(edited, "best")


def test_outside_the_project_the_message_says_where_to_run(tmp_path: Path) -> None:
    assert f"{tmp_path} is not the project's folder" in refused(tmp_path, "best")
