"""Damaged files by the thousand, read in a process of their own that may crash or hang.

`run_inputs` starts the process, and a further one after each crash; `python -m tests.hostile.fuzz`
is that process. Input number n of a seed is the same in every run.
"""

import collections
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

from roads.runtime.errors import UserError
from tests.hostile.mutations import mutate
from tests.project import ROOT

SECONDS = 20  # an input may take; then it hangs
MEMORY = 1_500_000_000  # bytes an input may take on top of what the process has
FINDINGS, COUNTS, AT = "findings.jsonl", "counts.json", "at"


def run_inputs(folder: Path, seed: int, first: int, count: int) -> tuple[dict[str, int], list[str]]:
    """Read `count` damaged files; return how each kind ended, and what went wrong, a line each.

    Args:
        folder: for the files; an input that went wrong is kept there.
        seed: of all inputs.
        first: number of the first input.
        count: how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total: collections.Counter[str] = collections.Counter()
    findings: list[str] = []
    stop = first + count
    while first < stop:
        command = [sys.executable, "-m", "tests.hostile.fuzz"]
        command += [str(folder), str(seed), str(first), str(stop)]
        with (folder / "stderr").open("wb") as stderr:
            status = subprocess.run(command, cwd=ROOT, stderr=stderr).returncode
        told = (folder / "stderr").read_text(errors="replace")
        if status > 0:  # a valid file is refused, or the driver is wrong
            raise AssertionError(told)
        found = folder / FINDINGS
        findings += found.read_text(encoding="utf-8").splitlines() if found.exists() else []
        total.update(json.loads((folder / COUNTS).read_text()) if status == 0 else {})
        if status == 0:
            break
        first = int((folder / AT).read_text())
        how = "hangs" if status == -signal.SIGALRM else f"ends with signal {-status}"
        findings.append(f"input {first} of seed {seed} {how}: {told.strip()[-300:]}")
        total["crashed"] += 1
        shutil.copytree(folder / "work", folder / f"crash{first}", dirs_exist_ok=True)
        first += 1
    return dict(total), findings


def read_inputs(folder: Path, seed: int, first: int, stop: int) -> None:
    """Read the inputs from `first` up to `stop`, and write down what is no UserError."""
    from tests.hostile.readers import SUBJECTS

    for name, subject in SUBJECTS.items():
        if not (folder / "valid" / name).exists():
            (folder / "valid" / name).mkdir(parents=True)
            subject.make(folder / "valid" / name)
        for path in (folder / "valid" / name).glob(subject.damaged):
            subject.read(path)  # the valid file is read, or its damage would prove nothing
    limit = _memory_in_use() + MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    counts: collections.Counter[str] = collections.Counter()
    names = list(SUBJECTS)
    shares = [SUBJECTS[name].share for name in names]
    with (folder / FINDINGS).open("w", encoding="utf-8") as findings:
        for number in range(first, stop):
            draw = random.Random(f"{seed}/{number}")
            (name,) = draw.choices(names, shares)
            (folder / AT).write_text(str(number))
            complaint = _read_one(folder, SUBJECTS[name], name, draw, counts)
            if complaint:
                shutil.copytree(folder / "work", folder / f"input{number}", dirs_exist_ok=True)
                findings.write(f"input {number} of seed {seed} ({name}): {complaint}\n")
                findings.flush()
    (folder / COUNTS).write_text(json.dumps(counts))


def _read_one(
    folder: Path, subject: Any, name: str, draw: random.Random, counts: collections.Counter[str]
) -> str | None:
    """Damage a file of a kind, read it, and return what is wrong with how that ended."""
    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(folder / "valid" / name, work)
    path = draw.choice(sorted(work.glob(subject.damaged)))
    path.write_bytes(mutate(path.read_bytes(), draw, subject.text))
    signal.alarm(SECONDS)
    try:
        subject.read(path)
    except UserError as error:
        counts[f"{name} refused"] += 1
        told = str(error)
        if not told.isprintable() or len(told) > 2000:
            return f"not one line: {told[:300]!r}"
        if str(work) not in told:
            return f"does not name the file: {told[:300]!r}"
    except BaseException as error:
        counts[f"{name} raised"] += 1
        frame = traceback.extract_tb(error.__traceback__)[-1]
        ours = [
            f"{Path(f.filename).name}:{f.lineno}"
            for f in traceback.extract_tb(error.__traceback__)
            if str(ROOT / "roads") in f.filename or str(ROOT / "stages") in f.filename
        ]
        place = f"{Path(frame.filename).name}:{frame.lineno}, through {' '.join(ours)}"
        return (
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]} ({place}, {path.name})"
        )
    else:
        counts[f"{name} read"] += 1
    finally:
        signal.alarm(0)
    return None


def _memory_in_use() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    read_inputs(Path(sys.argv[1]), *map(int, sys.argv[2:]))
