"""Names that files and folders of tiles go by."""

SPLITS = ("train", "valid", "test")
MAX_NAME = 200  # bytes; file systems end at 255, and endings are added


def sound_name(name: str) -> bool:
    """Whether a tile may have this name: files are called by it, in folders that are ours."""
    return (
        name.isprintable()
        and 0 < len(name.encode()) <= MAX_NAME
        and not name.startswith(".")
        and "/" not in name
    )
