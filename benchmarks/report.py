"""The facts recorded with every measurement: the machine, versions and date."""

import argparse
import contextlib
import datetime
import os
import platform
import tempfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from roads.parallel.pool import worker_count
from roads.runtime.files import write_json

PACKAGES = ("numpy", "pillow", "h5py", "dvc", "tensorflow", "keras")


def parser(description: str | None) -> argparse.ArgumentParser:
    """A command line with the options of all measurements: `--json` and `--scratch`."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, help="file that gets the values")
    options.add_argument("--scratch", type=Path, help="folder on the disk to measure")
    return options


@contextlib.contextmanager
def scratch(options: argparse.Namespace) -> Iterator[Path]:
    """The folder of `--scratch`, or a temporary one."""
    if options.scratch:
        yield options.scratch
    else:
        with tempfile.TemporaryDirectory(prefix="roads-bench-") as folder:
            yield Path(folder)


def save(options: argparse.Namespace, values: dict[str, Any]) -> None:
    """Write the values, and the machine's facts, to the file of `--json`."""
    if options.json:
        write_json(options.json, machine() | values)


def machine() -> dict[str, Any]:
    """Processor, number of processes, load, date and versions."""
    return {
        "processor": processor(),
        "processes": worker_count(),
        "load": round(os.getloadavg()[1], 1),  # over the last 5 minutes, including this measurement
        "date": datetime.date.today().isoformat(),
        "python": platform.python_version(),
        "versions": versions(),
    }


def versions() -> dict[str, str]:
    """The versions of those PACKAGES that are installed."""
    found = {}
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def processor() -> str:
    """The processor's name and its instructions for bfloat16."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    facts = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    special = [flag for flag in ("avx512_bf16", "amx_bf16") if flag in facts.get("flags", "")]
    return ", ".join([facts.get("model name", platform.machine()), *special])
