"""dvc.yaml and params.yaml against the code."""

import ast
import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dvc.utils.hydra import apply_overrides
from dvc_data.hashfile.meta import Meta

from roads.params.whole import Params, read_params
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

ALL_SECTIONS = {f"roads/params/{name}.py" for name in Params.model_fields}
WHOLE = "roads/params/whole.py"
# A stage checks all of params.yaml; what it does not read can only refuse, so it is no dep.
CAN_ONLY_REFUSE = {WHOLE, *ALL_SECTIONS}


def sections_read(stage: str) -> set[str]:
    """The sections that a stage's `main` takes from params.yaml."""
    tree = ast.parse((ROOT / stage_module(stage)).read_text(encoding="utf-8"))
    main = next(n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == "main")
    return {
        node.attr
        for node in ast.walk(main)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "params"
    }


@functools.cache
def code_deps(stage: str) -> list[str]:
    deps = pipeline()["stages"][stage]["deps"]
    return [dep for dep in deps if dep.startswith(("roads/", "stages/"))]


def covers(dep: str, module: str) -> bool:
    return module == dep or module.startswith(f"{dep}/")


def reruns_on_edit(module: str) -> set[str]:
    """The stages that run again after an edit of a module."""
    return {stage for stage in STAGES if any(covers(dep, module) for dep in code_deps(stage))}


def test_the_stages_are_in_order() -> None:
    assert list(pipeline()["stages"]) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_every_imported_module_lies_in_a_dep(stage: str) -> None:
    own = {f"roads/params/{name}.py" for name in sections_read(stage)}
    modules = imported_modules(stage_module(stage)) - (CAN_ONLY_REFUSE - own)
    assert {m for m in modules if not any(covers(dep, m) for dep in code_deps(stage))} == set()


@pytest.mark.parametrize("stage", STAGES)
def test_every_dep_contains_an_imported_module(stage: str) -> None:
    modules = imported_modules(stage_module(stage))
    for dep in code_deps(stage):
        assert any(covers(dep, module) for module in modules), dep


def test_train_reruns_after_an_edit_of_its_code() -> None:
    modules = [path.relative_to(ROOT).as_posix() for path in ROOT.glob("roads/**/*.py")]
    found = {module for module in modules if "train" in reruns_on_edit(module)}
    packages = {m for m in modules if m.startswith(("roads/models/", "roads/training/"))}
    sections = {f"roads/params/{name}.py" for name in ("train", "unet", "augment")}
    others = {"roads/dataset/packs.py", "roads/imagery/blank.py"}
    runtime = {m for m in imported_modules("stages/train.py") if m.startswith("roads/runtime/")}
    assert found == packages | sections | others | runtime


def test_an_edit_of_a_section_reruns_the_stages_that_read_it() -> None:
    for name in Params.model_fields:
        readers = {stage for stage in STAGES if name in sections_read(stage)}
        # The description of a trained net, which evaluate reads, holds its section `unet:`.
        expected = readers | {"evaluate"} if name == "unet" else readers
        assert reruns_on_edit(f"roads/params/{name}.py") == expected, name
    assert reruns_on_edit("roads/params/evaluate.py") == {"evaluate"}
    assert reruns_on_edit(WHOLE) == set()


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_declares_the_sections_that_it_reads(stage: str) -> None:
    declared = pipeline()["stages"][stage]["params"]
    assert {name.partition(".")[0] for name in declared} == sections_read(stage)


@pytest.mark.parametrize("stage", STAGES)
def test_the_run_cache_distinguishes_every_param(stage: str) -> None:
    """Inside a section it overlooks keys that are called as what it notes of files."""
    declared = pipeline()["stages"][stage]["params"]
    for section in sections_read(stage) & set(declared):
        for key in params()[section].keys() & {Meta.PARAM_SIZE, Meta.PARAM_NFILES}:
            assert f"{section}.{key}" in declared


def test_evaluate_reads_only_the_split_params_that_it_declares() -> None:
    """Of other keys of `split:` only crop and what it then changes run again."""
    declared = pipeline()["stages"]["evaluate"]["params"]
    assert [name for name in declared if "." in name] == ["split.by"]
    source = (ROOT / "stages/evaluate.py").read_text(encoding="utf-8")
    assert re.findall(r"params\.split\b.*", source) == ["params.split.by,"]


@pytest.mark.parametrize("stage", STAGES)
def test_keys_have_one_order_and_stages_a_description(stage: str) -> None:
    keys = list(pipeline()["stages"][stage])
    assert keys == [k for k in ("desc", "cmd", "deps", "params", "outs", "metrics") if k in keys]
    assert keys[0] == "desc"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_replaces_the_shell_that_dvc_starts(stage: str) -> None:
    module = stage_module(stage).removesuffix(".py").replace("/", ".")
    assert pipeline()["stages"][stage]["cmd"].split()[:4] == ["exec", "python", "-m", module]


def test_the_committed_params_are_valid_and_all_are_read() -> None:
    read_params(ROOT / "params.yaml")
    keys = {name: set(f.annotation.model_fields) for name, f in Params.model_fields.items()}  # type: ignore[union-attr]
    assert {name: set(values) for name, values in params().items()} == keys
    # `parallel` says where stages run, not what comes out: a stage that declared it would rerun.
    assert set().union(*map(sections_read, STAGES)) == params().keys() - {"parallel"}


def test_dvc_changes_one_line_of_the_committed_params(tmp_path: Path) -> None:
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    apply_overrides(tmp_path / "params.yaml", ["train.learning_rate=0.01"])
    written = (tmp_path / "params.yaml").read_text(encoding="utf-8")
    assert written == text.replace("learning_rate: 0.001", "learning_rate: 0.01")


def test_paths_on_the_command_lines_are_deps_and_outs() -> None:
    for stage in pipeline()["stages"].values():
        named = [word for word in stage["cmd"].split() if "/" in word]
        known = stage["deps"] + [
            next(iter(out)) if isinstance(out, dict) else out
            for out in stage["outs"] + stage.get("metrics", [])
        ]
        for word in named:
            assert any(path == word or Path(word) in Path(path).parents for path in known), word


def test_no_dep_lies_inside_an_out() -> None:
    """For DVC's run cache would look for the folder that the committed dvc.lock names."""
    stages = pipeline()["stages"].values()
    outs = {Path(out) for stage in stages for out in stage["outs"] if isinstance(out, str)}
    for dep in (dep for stage in stages for dep in stage["deps"]):
        assert not outs & set(Path(dep).parents), dep


def test_shared_code_runs_without_dvc_and_loads_tensorflow_only_as_a_backend() -> None:
    for path in sorted((ROOT / "roads").rglob("*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Import | ast.ImportFrom):
                module = getattr(node, "module", None) or node.names[0].name
                assert module.split(".")[0] not in ("tensorflow", "dvc", "dvclive"), path


@pytest.mark.slow
def test_every_stage_starts_on_a_machine_with_jax_alone(tmp_path: Path) -> None:
    path = [str(ROOT), hide(ABSENT_ON_GPU_MACHINE, tmp_path / "hidden")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path), "KERAS_BACKEND": "jax"}
    modules = [stage_module(stage).removesuffix(".py").replace("/", ".") for stage in STAGES]
    code = f"import importlib; [importlib.import_module(name) for name in {modules}]"
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (answer.returncode, answer.stderr) == (0, "")
