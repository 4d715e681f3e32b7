"""dvc.yaml and params.yaml against the code."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from roads.params.parallel import ParallelParams
from roads.runtime.params import Section, read_section
from tests.project import (
    ABSENT_ON_GPU_MACHINE,
    ROOT,
    STAGES,
    hide,
    imported_modules,
    params,
    pipeline,
    stage_module,
)


def sections_read(stage: str) -> dict[str, type[Section]]:
    """The sections that a stage's code reads: name → model."""
    path = stage_module(stage)
    module = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    return {
        ast.literal_eval(call.args[1]): getattr(module, ast.unparse(call.args[0]))
        for call in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8")))
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "read_section"
    }


def test_the_stages_stand_in_order() -> None:
    assert list(pipeline()["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_every_imported_module_is_a_dep_and_the_other_way_round(stage: str) -> None:
    deps = {dep for dep in pipeline()["stages"][stage]["deps"] if dep.endswith(".py")}
    assert deps == imported_modules(stage_module(stage))


@pytest.mark.parametrize("stage", STAGES)
def test_params_read_are_params_declared(stage: str) -> None:
    sections = sections_read(stage).items()
    read = {f"{name}.{key}" for name, section in sections for key in section.model_fields}
    assert set(pipeline()["stages"][stage]["params"]) == read


@pytest.mark.parametrize("stage", STAGES)
def test_keys_stand_in_one_order_and_the_stage_is_described(stage: str) -> None:
    keys = list(pipeline()["stages"][stage])
    assert keys == [k for k in ("desc", "cmd", "deps", "params", "outs", "metrics") if k in keys]
    assert keys[0] == "desc"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_takes_the_place_of_the_shell_that_dvc_starts(stage: str) -> None:
    module = stage_module(stage).removesuffix(".py").replace("/", ".")
    assert pipeline()["stages"][stage]["cmd"].split()[:4] == ["exec", "python", "-m", module]


def test_the_committed_params_are_valid_and_all_are_read() -> None:
    # `parallel` says where stages run, not what comes out: one that declared it would rerun.
    elsewhere: dict[str, type[Section]] = {"parallel": ParallelParams}
    read: dict[str, set[str]] = {}
    for sections in (elsewhere, *map(sections_read, STAGES)):
        for name, section in sections.items():
            read_section(section, name, ROOT / "params.yaml")
            read.setdefault(name, set()).update(section.model_fields)
    assert {name: set(values) for name, values in params().items()} == read


def test_paths_on_the_command_lines_are_deps_and_outs() -> None:
    for stage in pipeline()["stages"].values():
        named = [word for word in stage["cmd"].split() if "/" in word]
        known = stage["deps"] + [
            next(iter(out)) if isinstance(out, dict) else out
            for out in stage["outs"] + stage.get("metrics", [])
        ]
        for word in named:
            assert any(path == word or Path(word) in Path(path).parents for path in known), word


def test_what_stages_share_runs_without_dvc_and_loads_tensorflow_only_as_a_backend() -> None:
    for path in sorted((ROOT / "roads").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in ("tensorflow", "dvc", "dvclive"), path


def test_every_stage_starts_on_a_machine_with_jax_alone(tmp_path: Path) -> None:
    path = [str(ROOT), hide(ABSENT_ON_GPU_MACHINE, tmp_path / "hidden")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "KERAS_BACKEND": "jax"}
    modules = [stage_module(stage).removesuffix(".py").replace("/", ".") for stage in STAGES]
    code = f"import importlib; [importlib.import_module(name) for name in {modules}]"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
