"""Stacks: one multi-page TIFF per tile, with one page per crop.

DVC takes minutes for 44,000 single files. A stack per tile keeps the tile's name and opens in any
viewer. It is not compressed, so that its bytes do not depend on a codec's version.
"""

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import tifffile
from numpy.typing import NDArray
from tifffile import PHOTOMETRIC, TiffFile, TiffFileError, TiffPage

from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError, one_line

BIG_TIFF_BYTES = 4_000_000_000  # of pixels; classic TIFF ends at 4 GiB, directories included
PAGE_KINDS = (  # photometric interpretation, samples per pixel, bits per sample
    (PHOTOMETRIC.RGB, 3, 8),
    (PHOTOMETRIC.MINISBLACK, 1, 8),
    (PHOTOMETRIC.MINISBLACK, 1, 1),
)


def write_stack(path: Path, pages: Sequence[Image8 | NDArray[np.bool_]]) -> None:
    """Write pages of one shape: (height, width, 3) or (height, width) uint8, or one-bit bool."""
    one_bit = pages[0].dtype == np.bool_
    tifffile.imwrite(
        path,
        # As bytes, since NumPy does not report a full disk when it writes an array.
        ((np.packbits(page, axis=1) if one_bit else page).tobytes() for page in pages),
        shape=(len(pages), *pages[0].shape),
        dtype=pages[0].dtype,
        byteorder="<",
        bigtiff=sum(page.nbytes for page in pages) > BIG_TIFF_BYTES,
        photometric="rgb" if pages[0].ndim == 3 else "minisblack",
        metadata=None,
        software=False,  # the tag would contain tifffile's version
    )


def read_stack(path: Path) -> Iterator[Image8 | NDArray[np.bool_]]:
    """Yield the pages of a stack: uint8, or bool where they are one-bit.

    Raises:
        UserError: the stack is missing or broken, or holds pages that `write_stack` does not write.
    """
    way_out = "Run `dvc repro -f crop binarize`."
    try:
        with TiffFile(path) as stack:
            unread = stack.filehandle.size
            for page in cast(Iterator[TiffPage], stack.pages):
                unread -= _page_size(page)
                if unread < 0:  # otherwise a loop of pages would never end
                    raise TiffFileError("its pages are larger than the file")
                yield page.asarray()
    except FileNotFoundError:
        raise UserError(f"{path} is missing. {way_out}") from None
    except Exception as error:  # a damaged file can raise almost anything
        raise UserError(f"{path} is broken: {one_line(error)}. {way_out}") from None


def _page_size(page: TiffPage) -> int:
    """The size of a page's pixels in bytes.

    Raises:
        TiffFileError: it is not a page as `write_stack` writes it.
    """
    kind = (page.photometric, page.samplesperpixel, page.bitspersample)
    # 1: uncompressed, pixel by pixel, no predictor, high bits first, unsigned.
    plain = (
        page.compression, page.planarconfig, page.predictor, page.fillorder, page.sampleformat,
    )  # fmt: skip
    if kind not in PAGE_KINDS or plain != (1,) * len(plain) or page.is_tiled:
        raise TiffFileError(f"page {page.index} is not uncompressed 8-bit RGB, 8-bit grey or 1-bit")
    size = page.imagelength * math.ceil(page.imagewidth * kind[1] * kind[2] / 8)
    if size <= 0 or page.databytecounts != (size,):
        raise TiffFileError(f"page {page.index} does not hold its pixels in one strip")
    return size


def _raise(record: logging.LogRecord) -> bool:
    """Raise what tifffile only logs; it would return just the first pages of a truncated stack."""
    raise TiffFileError(record.getMessage())


tifffile.logger().addFilter(_raise)
