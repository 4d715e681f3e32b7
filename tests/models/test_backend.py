import os
import subprocess
import sys
from pathlib import Path

import pytest

from roads.models import backend
from tests.project import ROOT


@pytest.mark.parametrize(
    ("flags", "precision"),
    [
        ("fpu sse avx512f avx512_bf16", "mixed_bfloat16"),
        ("fpu amx_bf16 amx_tile", "mixed_bfloat16"),
        ("fpu sse avx2 avx512f avx512_bf16_not", "float32"),
    ],
)
def test_auto_precision_follows_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: str, precision: str
) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: none\n")
    monkeypatch.setattr(backend, "CPU_FLAGS", cpuinfo)
    monkeypatch.setattr(backend, "_gpu", lambda: None)
    assert backend.resolve_precision("auto") == precision
    monkeypatch.setattr(backend, "backend_name", lambda: "jax")
    assert backend.resolve_precision("auto") == "float32"


def test_auto_precision_without_cpuinfo_is_float32(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backend, "CPU_FLAGS", tmp_path / "absent")
    monkeypatch.setattr(backend, "_gpu", lambda: None)
    assert backend.resolve_precision("auto") == "float32"


@pytest.mark.parametrize(
    ("capability", "precision"),
    [(7.5, "float32"), (8.0, "mixed_bfloat16"), (12.0, "mixed_bfloat16")],
)
def test_auto_precision_follows_the_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: float, precision: str
) -> None:
    monkeypatch.setattr(backend, "_gpu", lambda: ("Some GPU", capability))
    assert backend.resolve_precision("auto") == precision
    assert backend.device_name() == "Some GPU"


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_named_precision_is_taken_as_it_is(precision: str) -> None:
    assert backend.resolve_precision(precision) == precision


def test_only_chatter_is_suppressed(capfd: pytest.CaptureFixture[str]) -> None:
    def fail() -> None:
        with backend._without_chatter():
            os.write(2, b"I0000 00:00:1 port.cc:153] oneDNN custom operations are on.\n")
            os.write(2, b"E0000 00:00:1 gpu.cc:7] the GPU is on fire\n")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert capfd.readouterr().err == "E0000 00:00:1 gpu.cc:7] the GPU is on fire\n"


@pytest.mark.slow
def test_start_up_is_silent() -> None:
    code = (
        "from roads.models.backend import keras; from roads.models.unet import *;"
        "keras.layers.Dense(2)(keras.ops.ones((1, 3)))"
    )
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (answer.returncode, answer.stdout, answer.stderr) == (0, "", "")


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "used"), [(None, "True"), ("0", "False")])
def test_onednn_is_used_unless_it_is_turned_off(chosen: str | None, used: str) -> None:
    code = (
        "import roads.models.backend;"
        "from tensorflow.python.util._pywrap_util_port import IsMklEnabled; print(IsMklEnabled())"
    )
    environment = {key: value for key, value in os.environ.items() if "ONEDNN" not in key}
    if chosen is not None:
        environment["TF_ENABLE_ONEDNN_OPTS"] = chosen
    command = [sys.executable, "-c", code]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=environment)
    assert (answer.returncode, answer.stdout.strip()) == (0, used)
