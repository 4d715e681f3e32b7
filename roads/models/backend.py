"""Imports Keras without its backend's start-up messages, and describes the machine.

Every module imports Keras from here (`from roads.models.backend import keras`), so that the
messages never come back, whatever the order of imports. Keras chooses the backend:
`KERAS_BACKEND`, or TensorFlow.
"""

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

CPU_FLAGS = Path("/proc/cpuinfo")
FAST_BFLOAT16 = {"avx512_bf16", "amx_bf16"}  # processor features that multiply bfloat16 in hardware
BFLOAT16_CAPABILITY = 8.0  # least NVIDIA compute capability that does (Ampere)

# What TensorFlow's libraries print before its log level takes effect: notes (I), the line about
# absl, and the missing driver on a machine without a GPU.
CHATTER = re.compile(
    rb"I0000 |WARNING: All log messages before absl|To enable the following instructions"
    rb"|E0000 .*failed call to cuInit|$"
)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Capture what C++ code writes to stderr, then print all lines that are not chatter."""
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)
            held.seek(0)
            for line in held:
                if not CHATTER.match(line):
                    os.write(2, line)


os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # errors only, once TensorFlow reads it
# By default TensorFlow uses oneDNN only on processors with more than AVX2. With AVX2 it doubles the
# speed of training too.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
with _without_chatter():
    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow

        # This loads the driver, which also prints messages.
        if not tensorflow.config.list_physical_devices("GPU"):
            # If two operations run at once, a convolution's sums are split differently between
            # threads each time, and two trainings end with different weights. One operation at a
            # time is no slower: each uses all cores.
            tensorflow.config.threading.set_inter_op_parallelism_threads(1)


def backend_name() -> str:
    """The backend that Keras computes with: `tensorflow`, `jax` or `torch`."""
    return str(keras.backend.backend())


def versions() -> dict[str, str]:
    """The versions of Keras and of its backend."""
    packages = ("keras", {"tensorflow": "tensorflow", "jax": "jaxlib"}.get(backend_name(), "torch"))
    return {package: metadata.version(package) for package in packages}


def device_name() -> str:
    """The GPU's name, such as `NVIDIA H100 80GB HBM3`, or `CPU`."""
    gpu = _gpu()
    return gpu[0] if gpu else "CPU"


def resolve_precision(precision: str) -> str:
    """Replace `auto` by the dtype policy that suits this machine; others are returned unchanged.

    Returns:
        `mixed_bfloat16` if the hardware multiplies bfloat16, else `float32`. On a CPU only
        TensorFlow's kernels are faster with it, so other backends get float32 there.
    """
    if precision != "auto":
        return precision
    gpu = _gpu()
    if gpu:
        fast = gpu[1] >= BFLOAT16_CAPABILITY
    else:
        fast = backend_name() == "tensorflow" and _cpu_multiplies_bfloat16()
    return "mixed_bfloat16" if fast else "float32"


def jit_compile() -> bool | str:
    """Keras' `jit_compile`; on a CPU, TensorFlow's own kernels are faster than XLA's."""
    return False if backend_name() == "tensorflow" and _gpu() is None else "auto"


def _gpu() -> tuple[str, float] | None:
    """Name and compute capability of the first GPU that the backend sees; None if there is none."""
    if backend_name() == "tensorflow":
        gpus = tensorflow.config.list_physical_devices("GPU")
        if not gpus:
            return None
        details: dict[str, Any] = tensorflow.config.experimental.get_device_details(gpus[0])
        major, minor = details.get("compute_capability", (0, 0))
        return str(details.get("device_name", "GPU")), float(f"{major}.{minor}")
    if backend_name() == "jax":
        import jax

        device = jax.devices()[0]
        if device.platform != "gpu":
            return None
        return str(device.device_kind), float(device.compute_capability)
    return None


def _cpu_multiplies_bfloat16() -> bool:
    """Whether /proc/cpuinfo lists such a feature; False if there is no such file."""
    text = CPU_FLAGS.read_text() if CPU_FLAGS.exists() else ""
    found = re.search(r"^flags\s*:(.*)$", text, re.MULTILINE)
    return bool(found and FAST_BFLOAT16.intersection(found[1].split()))
