"""Which sockets of a process wait for connections."""

import os
from pathlib import Path

LISTEN = "0A"  # the state in /proc/net/tcp


def listening_sockets() -> set[str]:
    """The addresses that this process and its children listen on, as /proc/net writes them."""
    waiting = {}
    for table in ("tcp", "tcp6"):
        path = Path("/proc/net") / table
        for line in path.read_text().splitlines()[1:] if path.exists() else ():
            fields = line.split()
            if fields[3] == LISTEN:
                waiting[f"socket:[{fields[9]}]"] = fields[1]
    held = _open_files(os.getpid()) if waiting else set()
    return {address for socket, address in waiting.items() if socket in held}


def _open_files(process: int) -> set[str]:
    """What the file descriptors of a process and of its children point to."""
    root = Path("/proc") / str(process)
    found = set()
    try:
        for descriptor in (root / "fd").iterdir():
            found.add(str(descriptor.readlink()))
        for task in (root / "task").iterdir():
            for child in (task / "children").read_text().split():
                found |= _open_files(int(child))
    except OSError:  # it has ended, or closed the file
        pass
    return found
