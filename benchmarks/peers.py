"""A peer that ours is measured beside, in a process of its own."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class Peer:
    """A script of this folder that answers `train N` and `predict N` with the seconds they took.

    While it waits it computes nothing. `facts` is what it says of itself when it is ready.
    """

    def __init__(self, python: Path, script: str, words: Sequence[str]):
        command = [str(python), str(Path(__file__).with_name(script)), *words]
        self.script = script
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()

    def seconds(self, what: str, steps: int) -> float:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {steps}\n")
        self.process.stdin.flush()
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # PyTorch's compiler may say something, too
                found: dict[str, Any] = json.loads(line)
                return found
        raise SystemExit(f"the process of {self.script} ended")

    def close(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
