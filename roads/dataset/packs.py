"""The packed crops: two HDF5 files with matching rows.

Where a person noted that labels are wrong, the masks' file also has a dataset `ignored` of the
boxes to ignore, (k, 6) int64: number of the split, row in it, top, left, bottom, right.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import h5py
import numpy as np
from numpy.typing import NDArray

from roads.runtime.arrays import Image8, Int64
from roads.runtime.errors import UserError
from roads.runtime.files import read_csv, replacing, table_of
from roads.runtime.names import SPLITS
from roads.runtime.safe_hdf5 import open_contained

IMAGES_FILE = "images.h5"
MASKS_FILE = "masks.h5"
IMAGE_CHANNELS = 3
HEADERS = 65_536  # bytes, more than HDF5 needs in addition to the data
MASKS_AT_ONCE = 256  # in memory while all values are checked
WAY_OUT = "Run `dvc repro -f pack-h5`."

IGNORED_BOXES = "ignored"
NO_BOXES = np.zeros((0, 6), np.int64)

ROWS_FILE = "rows.csv"  # which crop each row is
COUNTS_FILE = "counts.json"  # numbers of crops and tiles, kept and dropped
ROWS_COLUMNS = ("split", "row", "tile", "page", "top", "left")


class PackWriter:
    """Fills the datasets `train`, `valid` and `test` of both files, row by row.

    The datasets are contiguous, so that any crop takes a single read.
    """

    def __init__(
        self,
        images: h5py.File,
        masks: h5py.File,
        rows: Mapping[str, int],
        size: int,
        ignored: Int64,
    ):
        self._images, self._masks = images, masks
        self._filled = dict.fromkeys(SPLITS, 0)
        for split in SPLITS:
            images.create_dataset(split, (rows[split], size, size, IMAGE_CHANNELS), np.uint8)
            masks.create_dataset(split, (rows[split], size, size, 1), np.uint8)
        if len(ignored):  # else the bytes are those of a pack without notes
            masks.create_dataset(IGNORED_BOXES, data=ignored)

    def append(self, split: str, images: Image8, masks: Image8) -> None:
        """Add crops (n, size, size, 3) and their 0/1 masks (n, size, size)."""
        start = self._filled[split]
        stop = start + len(images)
        self._images[split][start:stop] = images
        self._masks[split][start:stop] = masks[..., None]
        self._filled[split] = stop

    def check_full(self) -> None:
        """Raise an AssertionError if fewer rows were appended than announced."""
        for split in SPLITS:
            announced = len(self._images[split])
            if self._filled[split] != announced:
                raise AssertionError(f"{split}: {self._filled[split]} of {announced} rows appended")


@contextlib.contextmanager
def pack_writer(
    folder: Path, rows: Mapping[str, int], size: int, ignored: Int64 = NO_BOXES
) -> Iterator[PackWriter]:
    """Open both files of `folder` for writing; they get their names once they are complete.

    Args:
        folder: gets `images.h5` and `masks.h5`.
        rows: how many crops each split will have.
        size: side of a crop in pixels.
        ignored: (k, 6), the boxes to ignore.
    """
    pixels = sum(rows.values()) * size**2
    with (
        replacing(folder / IMAGES_FILE) as images,
        _roomy_file(images, pixels * IMAGE_CHANNELS) as image_file,
        replacing(folder / MASKS_FILE) as masks,
        _roomy_file(masks, pixels + ignored.nbytes) as mask_file,
    ):
        writer = PackWriter(image_file, mask_file, rows, size, ignored)
        yield writer
        writer.check_full()


@contextlib.contextmanager
def _roomy_file(path: Path, data: int) -> Iterator[h5py.File]:
    """Open an HDF5 file for writing, with disk space reserved for `data` bytes.

    HDF5 crashes the process if the disk is full when a file is closed, so space is reserved first.
    """
    with path.open("wb") as stream, h5py.File(path, "w") as file:
        os.posix_fallocate(stream.fileno(), 0, data + HEADERS)
        yield file
        file.flush()
        end = file.id.get_filesize()
    os.truncate(path, end)


class PackReader:
    """Reads crops of a folder with `images.h5` and `masks.h5`, in any order.

    Raises:
        UserError: a file is missing or broken, or the two do not match.
    """

    def __init__(self, folder: Path):
        with contextlib.ExitStack() as opened:
            self._images, self._masks = (
                opened.enter_context(open_contained(folder / name, WAY_OUT))
                for name in (IMAGES_FILE, MASKS_FILE)
            )
            for split in SPLITS:
                self._check(split)
            self._ignored = self._read_ignored()
            self._opened = opened.pop_all()

    def _check(self, split: str) -> None:
        for file, channels in ((self._images, IMAGE_CHANNELS), (self._masks, 1)):
            data = file.get(split)
            fits = (
                isinstance(data, h5py.Dataset)
                and data.ndim == 4
                and data.shape[1] == data.shape[2]
                and data.shape[3] == channels
                and data.dtype == np.uint8
            )
            if not fits:
                raise UserError(
                    f"{file.filename} has no dataset `{split}` of uint8 crops "
                    f"(n, size, size, {channels}). {WAY_OUT}"
                )
        images, masks = self._images[split], self._masks[split]
        if images.shape[:3] != masks.shape[:3]:
            raise UserError(
                f"{self._images.filename} and {MASKS_FILE} do not match: `{split}` "
                f"is {images.shape} and {masks.shape}. {WAY_OUT}"
            )
        for start in range(0, len(masks), MASKS_AT_ONCE):
            if masks[start : start + MASKS_AT_ONCE].max(initial=0) > 1:
                raise UserError(
                    f"{self._masks.filename} has values other than 0 and 1 in `{split}`. {WAY_OUT}"
                )

    def _read_ignored(self) -> dict[tuple[str, int], list[tuple[slice, slice]]]:
        boxes = self._masks.get(IGNORED_BOXES, NO_BOXES)
        fits = (
            isinstance(boxes, h5py.Dataset | np.ndarray)
            and boxes.dtype == np.int64
            and boxes.shape[1:] == (6,)
            and np.isin(boxes[:, 0], range(len(SPLITS))).all()
        )
        if not fits:
            raise UserError(
                f"{self._masks.filename} has a dataset `{IGNORED_BOXES}` that is not of boxes "
                f"(k, 6). {WAY_OUT}"
            )
        ignored: dict[tuple[str, int], list[tuple[slice, slice]]] = {}
        for split, row, top, left, bottom, right in boxes[:].tolist():
            box = slice(top, bottom), slice(left, right)
            ignored.setdefault((SPLITS[split], row), []).append(box)
        return ignored

    def ignored(self, split: str, row: int) -> Sequence[tuple[slice, slice]]:
        """The rows and columns of the boxes of a crop in which the label is wrong."""
        return self._ignored.get((split, row), ())

    def rows(self, split: str) -> int:
        """How many crops the split has."""
        return len(self._images[split])

    @property
    def size(self) -> int:
        """Side of a crop in pixels."""
        return int(self._images[SPLITS[0]].shape[1])

    def read(self, split: str, rows: Sequence[int] | NDArray[np.integer]) -> tuple[Image8, Image8]:
        """Read crops in the order asked for.

        h5py's indexing by a list is hundreds of times slower than one read per row.

        Returns:
            images (n, size, size, 3) uint8 and masks (n, size, size, 1) uint8 of 0/1.
        """
        images = np.empty((len(rows), *self._images[split].shape[1:]), np.uint8)
        masks = np.empty((len(rows), *self._masks[split].shape[1:]), np.uint8)
        for place, row in enumerate(rows):
            self._images[split].read_direct(images, np.s_[int(row)], np.s_[place])
            self._masks[split].read_direct(masks, np.s_[int(row)], np.s_[place])
        return images, masks

    def close(self) -> None:
        self._opened.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class CropPlace(NamedTuple):
    """Where a packed crop was cut: the tile, and the position of its first pixel."""

    tile: str
    top: int
    left: int


def read_places(folder: Path) -> dict[tuple[str, int], CropPlace]:
    """Where each row of a pack was cut, by (split, row).

    Raises:
        UserError: `rows.csv` is missing or damaged.
    """
    table = folder / ROWS_FILE
    with table_of("pack-h5", table):
        rows = (row.values() for _, row in read_csv(table, ROWS_COLUMNS))
        return {
            (split, int(number)): CropPlace(tile, int(top), int(left))
            for split, number, tile, _, top, left in rows
        }
