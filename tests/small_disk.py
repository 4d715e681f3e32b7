"""A disk of a few kilobytes: a tmpfs in a mount namespace, which needs no root where the kernel
lets users make one."""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest


class SmallDisk:
    """A folder whose files lie on a disk of their own, for commands run by `run` only."""

    def __init__(self, folder: Path, holder: int):
        self.folder, self._holder = folder, holder

    def run(
        self, *command: str, cwd: Path, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the small disk."""
        enter = ["nsenter", f"--target={self._holder}", "--user", "--mount"]
        return subprocess.run(
            [*enter, "--preserve-credentials", f"--wd={cwd}", *command],
            env=os.environ | (env or {}), capture_output=True, text=True, timeout=900,
        )  # fmt: skip

    def resize(self, kilobytes: int) -> None:
        """Give the disk another size."""
        option = f"remount,size={kilobytes}k"
        answer = self.run("mount", "-o", option, str(self.folder), cwd=Path("/"))
        assert answer.returncode == 0, answer.stderr

    def seen(self, path: Path) -> Path:
        """A path on the disk as this process can open it."""
        return Path(f"/proc/{self._holder}/root{path}")


@contextlib.contextmanager
def small_disk(folder: Path, kilobytes: int) -> Iterator[SmallDisk]:
    """Put a disk of that size at `folder`, whose files are gone afterwards; or skip the test."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = f"mount -t tmpfs -o size={kilobytes}k tmpfs '{folder}' && echo ready && exec cat"
    holder = subprocess.Popen(
        ["unshare", "--map-root-user", "--mount", "sh", "-c", mount],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        if holder.stdout.readline() != "ready\n":
            pytest.skip(f"no disk can be mounted here: {holder.communicate()[1].strip()}")
        yield SmallDisk(folder, holder.pid)
    finally:
        holder.stdin.close()
        holder.wait()
