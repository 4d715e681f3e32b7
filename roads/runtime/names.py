"""Names of tiles, and of their files and folders."""

from collections.abc import Sequence

SPLITS = ("train", "valid", "test")
NAMED = 20  # in a message
MAX_NAME = 200  # bytes; file systems allow 255, and suffixes are added


def sound_name(name: str) -> bool:
    """Whether a tile may have this name; the project's files are named after it."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= MAX_NAME
        and not name.startswith(".")
        and "/" not in name
    )


def some(names: Sequence[str]) -> str:
    """The first NAMED of the names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more
