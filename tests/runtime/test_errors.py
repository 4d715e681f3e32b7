"""How a command line ends."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from roads.runtime.errors import UserError, exit_status
from tests.project import ROOT

RUN = """
import sys
from roads.runtime.errors import exit_status
from roads.runtime.progress import progress

def main():
    list(progress(range(3), "three"))
    print("said")
    print("said", file=sys.stderr)
    raise {error}

sys.exit(exit_status(main))
"""


@pytest.mark.parametrize("closed", ["", ">&-", "2>&-", ">&- 2>&-"])
@pytest.mark.parametrize(
    ("error", "status"),
    [("SystemExit(0)", 0), ("OSError(28, 'full', 'a')", 1), ("KeyboardInterrupt", 130)],
)
def test_the_status_does_not_depend_on_closed_streams(closed: str, error: str, status: int) -> None:
    command = f"exec {sys.executable} -c '{RUN.format(error=error).replace(chr(39), chr(34))}'"
    answer = subprocess.run(
        ["/bin/sh", "-c", f"{command} {closed}"],
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == status, answer.stderr
    assert "Traceback" not in answer.stderr


@pytest.mark.parametrize(
    ("to", "reason"), [("| true", "Broken pipe"), (">/dev/full", "No space left on device")]
)
def test_output_that_cannot_be_written_is_reported_once(to: str, reason: str) -> None:
    code = (
        "import time; from roads.runtime.errors import exit_status; time.sleep(0.5); "
        "raise SystemExit(exit_status(lambda: print(1)))"
    )
    answer = subprocess.run(
        ["/bin/sh", "-c", f"{{ {sys.executable} -c \"{code}\"; echo $? >&2; }} {to}"],
        env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.stderr == f"error: {reason}\n1\n"


SAVE = """
import resource, signal, sys
from pathlib import Path
from roads.runtime.errors import exit_status
from roads.runtime.files import write_csv

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
rows = ((number,) for number in range(100_000))
sys.exit(exit_status(lambda: write_csv(Path("table.csv"), ["n"], rows)))
"""


def test_a_limit_on_the_size_of_files_names_the_file(tmp_path: Path) -> None:
    answer = subprocess.run(
        [sys.executable, "-c", SAVE],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: table.csv could not be written: file too large. ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        UserError("photos/\x1b[2J\n7.tif is broken"),
        OSError(13, "is broken", "photos/\x1b[2J\n7.tif"),
    ],
)
def test_control_characters_in_file_names_are_escaped(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    assert exit_status(fail) == 1
    line = capsys.readouterr().err
    assert line.startswith(r"error: photos/\x1b[2J\n7.tif")
    assert line[:-1].isprintable()
