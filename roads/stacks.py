"""Stacks: one multi-page TIFF per tile, a page per crop.

44,000 single files cost DVC minutes; a stack per tile keeps the tile's name and opens in any
viewer. Nothing is compressed but one-bit masks, so that the bytes depend on no codec's version.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageSequence

from roads.errors import UserError
from roads.tiles import Image8

BIG_TIFF_BYTES = 4_000_000_000  # classic TIFF ends at 4 GiB


def write_stack(path: Path, pages: Sequence[Image8 | NDArray[np.bool_]]) -> None:
    """Write pages (height, width, 3) or (height, width) uint8 as they are, or bool as Group 4."""
    one_bit = pages[0].dtype == np.bool_
    if not one_bit and sum(page.nbytes for page in pages) > BIG_TIFF_BYTES:
        _write_big_stack(path, pages)
        return
    first, *others = (Image.fromarray(page) for page in pages)
    first.save(
        path,
        save_all=True,
        append_images=others,
        compression="group4" if one_bit else None,
    )


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
    try:
        with Image.open(path, formats=["TIFF"]) as stack:
            for page in ImageSequence.Iterator(stack):
                yield np.asarray(page)
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run `dvc repro`.") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is broken ({reason}). Run `dvc repro -f crop`.") from None
