"""Stacks: one multi-page TIFF per tile, a page per crop.

44,000 single files cost DVC minutes; a stack per tile keeps the tile's name and opens in any
viewer. Nothing is compressed but one-bit masks, so that the bytes depend on no codec's version.
"""

import io
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.TiffImagePlugin import (
    BITSPERSAMPLE,
    COMPRESSION,
    IMAGELENGTH,
    IMAGEWIDTH,
    PHOTOMETRIC_INTERPRETATION,
    ROWSPERSTRIP,
    STRIPBYTECOUNTS,
    STRIPOFFSETS,
    AppendingTiffWriter,
    ImageFileDirectory_v2,
    TiffImageFile,
)

from roads.imagery.pictures import decoding
from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError

PAGE_MODES = ("1", "L", "RGB")
PAGE_TAGS = (
    IMAGEWIDTH, IMAGELENGTH, BITSPERSAMPLE, COMPRESSION, PHOTOMETRIC_INTERPRETATION, ROWSPERSTRIP,
)  # fmt: skip
FAR = 500  # pages, from which on it takes longer to walk to one than to take it out
BIG_TIFF_BYTES = 4_000_000_000  # classic TIFF ends at 4 GiB


def write_stack(path: Path, pages: Sequence[Image8 | NDArray[np.bool_]]) -> None:
    """Write pages (height, width, 3) or (height, width) uint8 as they are, or bool as Group 4."""
    one_bit = pages[0].dtype == np.bool_
    if not one_bit and sum(page.nbytes for page in pages) > BIG_TIFF_BYTES:
        _write_big_stack(path, pages)
        return
    with _StackWriter(path, new=True) as stack:
        for page in pages:
            Image.fromarray(page).save(stack, "TIFF", compression="group4" if one_bit else None)
            stack.newFrame()


class _StackWriter(AppendingTiffWriter):
    """Pillow's, which looks for the last page from the first one on each time it adds another."""

    _last: int | None = None  # where the last page says what follows it

    def skipIFDs(self) -> None:  # noqa: N802 - Pillow named it
        if self._last is not None:
            self.f.seek(self._last)
        super().skipIFDs()
        self._last = self.whereToWriteNewIFDOffset


def _write_big_stack(path: Path, pages: Sequence[Image8 | NDArray[np.bool_]]) -> None:
    """Write uncompressed pages as BigTIFF; Pillow 12.2 gives wrong offsets to those past 4 GiB."""
    import tifffile  # here, since hardly any stack is so large

    with tifffile.TiffWriter(path, bigtiff=True, byteorder="<") as stack:
        for page in pages:
            photometric = "rgb" if page.ndim == 3 else "minisblack"
            stack.write(page, photometric=photometric, metadata=None, software=False)


def read_stack(path: Path) -> Iterator[Image8 | NDArray[np.bool_]]:
    """Yield the pages of a stack: uint8, or bool where they are one-bit.

    Raises:
        UserError: the stack is missing or broken.
    """
    way_out = "Run `dvc repro -f crop`."
    with decoding(path, way_out):
        stack = cast(TiffImageFile, Image.open(path, formats=["TIFF"]))
    with stack:
        for number in itertools.count():
            with decoding(path, way_out):
                try:
                    stack.seek(number)
                except EOFError:
                    return
                if stack.mode not in PAGE_MODES:
                    raise UserError(f"{path} has pages of type {stack.mode}. {way_out}")
                far = stack.mode == "1" and number >= FAR
                page = np.asarray(_alone(stack) if far else stack)
            yield page


def _alone(stack: TiffImageFile) -> Image.Image:
    """The page at hand as a picture of its own: libtiff would walk to it from the first one.

    Raises:
        ValueError: its parts are longer than the file.
    """
    tags, file = stack.tag_v2, cast(BinaryIO, stack.fp)
    starts, sizes = tags[STRIPOFFSETS], tags[STRIPBYTECOUNTS]
    if sum(sizes) > file.seek(0, io.SEEK_END):
        raise ValueError("its parts are longer than the file")
    own = ImageFileDirectory_v2(prefix=tags.prefix)
    for tag in PAGE_TAGS:
        own[tag] = tags[tag]
    own[STRIPBYTECOUNTS] = sizes
    own[STRIPOFFSETS] = (0, *itertools.accumulate(sizes[:-1]))  # from the end of the tags on
    page = io.BytesIO()
    own.save(page)
    for start, size in zip(starts, sizes, strict=True):
        file.seek(start)
        page.write(file.read(size))
    return Image.open(page, formats=["TIFF"])
