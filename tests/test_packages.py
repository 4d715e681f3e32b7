"""The packages of roads/: what each may import, and that code is found wherever it lies."""

import ast
import importlib
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, STAGES, stage_module

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


OURS = {"roads", "stages", "benchmarks", "tests"}


def modules_imported(code: str) -> set[str]:
    """The modules, and names in them, of this project that code imports, anywhere in it.

    Imports that this would miss are refused: `from .a import b`, `import roads` (which has the
    packages that others imported), `importlib.import_module("roads.a")`.
    """
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            named = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
            assert not any(name.split(".")[0] in OURS for name in named), "a call imports"
    ours = {module for module in found if module.split(".")[0] in OURS}
    assert "roads" not in ours, "import roads"
    return ours


def packages_imported(path: Path) -> set[str]:
    """The packages of roads/ that a file in roads/ imports; it may import nothing else of ours."""
    modules = [module.split(".") for module in modules_imported(path.read_text(encoding="utf-8"))]
    assert {module[0] for module in modules} <= {"roads"}, path
    return {module[1] for module in modules}


@pytest.mark.parametrize(
    "line",
    [
        "from .binarize import binarize",
        "import roads",
        'importlib.import_module("roads.metrics.counts")',
        'import_module("stages.binarize")',
        '__import__("stages.binarize")',
    ],
)
def test_an_import_that_hides_what_it_imports_is_found(line: str) -> None:
    with pytest.raises(AssertionError):
        modules_imported(line)


def test_every_module_lies_in_a_package() -> None:
    assert {path.name for path in (ROOT / "roads").glob("*.py")} == ON_TOP
    folders = {path.parent for path in (ROOT / "roads").glob("*/**/*.py")}
    assert {folder.relative_to(ROOT / "roads").parts[0] for folder in folders} == set(ARROWS)
    assert all((folder / "__init__.py").is_file() for folder in folders)


@pytest.mark.parametrize("package", ARROWS)
def test_arrows_between_packages_go_one_way(package: str) -> None:
    allowed = {package, *ARROWS[package].split()}
    for path in (ROOT / "roads" / package).rglob("*.py"):
        assert packages_imported(path) <= allowed, path


@pytest.mark.parametrize("name", sorted(ON_TOP))
def test_modules_on_top_import_only_packages(name: str) -> None:
    assert packages_imported(ROOT / "roads" / name) <= {*ARROWS, "recipes", "verify"}


def test_the_arrows_have_no_cycle() -> None:
    above: set[str] = set()
    for package, imported in ARROWS.items():
        assert set(imported.split()) <= above, package
        above.add(package)


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_imports_only_packages(stage: str) -> None:
    modules = modules_imported((ROOT / stage_module(stage)).read_text(encoding="utf-8"))
    assert {module.split(".")[0] for module in modules} == {"roads"}
    assert {module.split(".")[1] for module in modules} <= set(ARROWS)


@pytest.mark.parametrize("package", ARROWS)
def test_packages_say_what_they_may_import(package: str) -> None:
    said = re.search(r"Imports (.*)\.\n", importlib.import_module(f"roads.{package}").__doc__ or "")
    assert said
    allowed = ARROWS[package].split() or ["no other package"]
    assert set(re.split(", | and ", said[1])) == set(allowed)


@pytest.mark.parametrize("package", [f"roads.{name}" for name in ARROWS])
def test_packages_have_a_docstring_and_no_code_in_init(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__doc__
    assert all(isinstance(node, ast.Expr) for node in ast.parse(inspect.getsource(module)).body)


@pytest.mark.slow
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
