"""The tests that need JAX, or hold on both backends, in one process with JAX as the backend."""

import os
import re
import subprocess
import sys

import pytest

from roads.models.backend import backend_name
from tests.project import ROOT

TESTS = [
    "tests/models/test_layers.py",
    "tests/prediction/test_inference.py",
    "tests/training/test_resident_loop.py",
]


@pytest.mark.slow
@pytest.mark.skipif(backend_name() == "jax", reason="they run on JAX anyway")
def test_tests_pass_on_jax() -> None:
    answer = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *TESTS],
        cwd=ROOT, env=os.environ | {"KERAS_BACKEND": "jax"}, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stdout
    assert re.search(r"\b[1-9]\d+ passed, 1 skipped", answer.stdout), answer.stdout
