"""The packages of roads/: what each may import, and that code is found wherever it lies."""

import ast
import importlib
import inspect
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, STAGES, imported_modules, stage_module

# Each package may import those on its right, and nothing else of roads/.
ARROWS = {
    "runtime": "",
    "params": "runtime",
    "parallel": "params runtime",
    "imagery": "runtime",
    "dataset": "imagery params runtime",
    "sources": "dataset imagery parallel params runtime",
    "models": "params runtime",
    "training": "models dataset imagery params runtime",
    "prediction": "models dataset params runtime",
    "graph": "runtime",
    "metrics": "graph prediction dataset params runtime",
    "mapping": "prediction graph imagery models params runtime",
}
ON_TOP = {"__init__.py", "__main__.py", "recipes.py", "verify.py"}  # may import any package


def packages_imported(path: Path) -> set[str]:
    """The packages of roads/ that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        found |= {module.split(".")[1] for module in modules if module.startswith("roads.")}
    return found


def test_every_module_lies_in_a_package() -> None:
    assert {path.name for path in (ROOT / "roads").glob("*.py")} == ON_TOP
    folders = {path.parent.name for path in (ROOT / "roads").glob("*/__init__.py")}
    assert folders == set(ARROWS)


@pytest.mark.parametrize("package", ARROWS)
def test_arrows_between_packages_go_one_way(package: str) -> None:
    allowed = {package, *ARROWS[package].split()}
    for path in (ROOT / "roads" / package).rglob("*.py"):
        assert packages_imported(path) <= allowed, path


def test_the_arrows_have_no_circle() -> None:
    above: set[str] = set()
    for package, imported in ARROWS.items():
        assert set(imported.split()) <= above, package
        above.add(package)


def test_no_stage_imports_another_and_nothing_shared_imports_a_stage() -> None:
    for stage in STAGES:
        others = {path for path in imported_modules(stage_module(stage)) if "stages/" in path}
        assert others == {stage_module(stage)}


@pytest.mark.parametrize("package", ["stages", *(f"roads.{name}" for name in ARROWS)])
def test_packages_say_what_they_hold_and_hold_no_code_themselves(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert all(isinstance(node, ast.Expr) for node in ast.parse(inspect.getsource(module)).body)


@pytest.mark.parametrize(
    ("code", "edited"),
    [
        (
            "from roads.training.backup import fingerprint, imported_code;"
            "print(fingerprint({}, imported_code()))",
            "roads/runtime/files.py",
        ),
        ("from roads.parallel.cluster import _code; print(_code())", "roads/graph/edges.py"),
        ("from roads.parallel.cluster import _code; print(_code())", "stages/crop.py"),
    ],
)
def test_an_edit_of_a_module_changes_the_hash_of_the_code(
    code: str, edited: str, tmp_path: Path
) -> None:
    for folder in ("roads", "stages"):
        shutil.copytree(
            ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__")
        )

    def printed() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, check=True
        ).stdout.decode()

    before = printed()
    assert printed() == before
    with (tmp_path / edited).open("a") as file:
        file.write("# edited\n")
    assert printed() != before
