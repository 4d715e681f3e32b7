"""Opens untrusted HDF5 files, only if everything they declare is inside the file.

An HDF5 file can name other files to read from (external links, external and virtual datasets),
load code to decompress its data (filter plugins), and declare any size.
"""

from collections.abc import Iterator
from pathlib import Path

import h5py

from roads.runtime.errors import UserError, one_line

MOST_ITEMS, DEEPEST = 20_000, 20  # groups and datasets; our nets have 300, four deep


class _RefusedError(Exception):
    """Something in the file that ours never have."""


def open_contained(path: Path, way_out: str) -> h5py.File:
    """Open a file for reading, if all its datasets are plain numbers stored in the file itself.

    Args:
        path: the file.
        way_out: the last sentence of an error message.

    Raises:
        UserError: it is missing, broken, not HDF5, or has too many or too deep groups; or it has a
            link, or a dataset that is not numeric, truncated, stored in another file, or in chunks
            (which may be compressed).
    """
    try:
        file = h5py.File(path, "r", locking=False)  # some NFS mounts have no locks
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {way_out}") from None
    except Exception as error:  # damaged bytes can raise any type
        raise UserError(f"{path} is broken: {one_line(error)}. {way_out}") from None
    try:
        size = path.stat().st_size
        for count, (name, item) in enumerate(_items(file)):
            if count == MOST_ITEMS:
                raise _RefusedError(f"it holds over {MOST_ITEMS:,} groups and datasets")
            _check_item(name, item, size)
    except _RefusedError as error:
        file.close()
        raise UserError(f"{path} was refused: {one_line(error)}. {way_out}") from None
    except Exception as error:
        file.close()
        raise UserError(f"{path} is broken: {one_line(error)}. {way_out}") from None
    return file


def _items(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset | h5py.Datatype]]:
    """All groups and datasets with their paths; links are refused before they are followed."""
    groups = [("", file)]
    while groups:
        place, group = groups.pop()
        if place.count("/") == DEEPEST:
            raise _RefusedError(f"its groups are over {DEEPEST} deep")
        for key in group:
            name = f"{place}{key}"
            if not isinstance(group.get(key, getlink=True), h5py.HardLink):
                raise _RefusedError(f"`{name}` is a link that may point outside the file")
            item = group[key]
            yield name, item
            if isinstance(item, h5py.Group):
                groups.append((f"{name}/", item))


def _check_item(name: str, item: h5py.Group | h5py.Dataset | h5py.Datatype, size: int) -> None:
    if isinstance(item, h5py.Group):
        return
    if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biuf":
        raise _RefusedError(f"`{name}` is not an array of numbers")
    if item.is_virtual or item.external:
        raise _RefusedError(f"`{name}` is stored in another file")
    if item.chunks is not None:
        raise _RefusedError(f"`{name}` is stored in chunks")
    if not item.nbytes == item.id.get_storage_size() <= size:
        raise _RefusedError(f"`{name}` declares {item.nbytes:,} bytes but has fewer")
