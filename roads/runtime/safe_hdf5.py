"""HDF5 files from anywhere: opened only where all that they say they hold is in them.

An HDF5 file can name other files to read from (external links, external and virtual datasets),
load code to decompress its data (filter plugins), and declare any size.
"""

from pathlib import Path

import h5py

from roads.runtime.errors import UserError, one_line


class _RefusedError(Exception):
    """Something in the file that ours never have."""


def open_contained(path: Path, way_out: str) -> h5py.File:
    """Open a file for reading whose every dataset is numbers, whole and plain, in this very file.

    Args:
        path: the file.
        way_out: a sentence for the end of an error.

    Raises:
        UserError: it is missing, broken, not HDF5, or holds a link, or a dataset that is stored
            elsewhere, in chunks (thus perhaps compressed), not to its end, or is no numbers.
    """
    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {way_out}") from None
    except Exception as error:  # of any type where the bytes are damaged
        raise UserError(f"{path} is broken: {one_line(error)}. {way_out}") from None
    try:
        links: dict[str, object] = {}
        file.visititems_links(links.__setitem__)  # h5py cannot propagate exceptions from here
        for name, link in links.items():
            if not isinstance(link, h5py.HardLink):
                raise _RefusedError(f"`{name}` is a link that may lead out of it")
        for name in links:
            _check_item(name, file[name], path.stat().st_size)
    except _RefusedError as error:
        file.close()
        raise UserError(f"{path} is not read: {one_line(error)}. {way_out}") from None
    except Exception as error:
        file.close()
        raise UserError(f"{path} is broken: {one_line(error)}. {way_out}") from None
    return file


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
        raise _RefusedError(f"`{name}` is said to have {item.nbytes:,} bytes and has fewer")
