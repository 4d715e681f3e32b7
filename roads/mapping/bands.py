"""What a picture's bands mean: which are red, green and blue, and which levels their values are."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader

from roads.runtime.arrays import Image8
from roads.runtime.errors import UserError

STRETCH = (2, 98)  # percentiles that become 0 and 255 where a band has 16 bits
LEVELS_16 = 2**16


def choose_bands(path: Path, dataset: DatasetReader) -> tuple[list[int], list[str]]:
    """Numbers from 1 of the bands that are grey, or red, green and blue.

    Returns:
        The bands, and notes on what was decided.

    Raises:
        UserError: their values have another type than 8 or 16 bits, or the file does not say which
            of many bands are red, green and blue.
    """
    notes = []
    dtypes = set(dataset.dtypes)
    if not dtypes <= {"uint8", "uint16"}:
        raise UserError(
            f"{path} has pixels of type {', '.join(sorted(dtypes))}. Convert it to 8 or "
            "16 bits without sign: `rio convert --dtype uint8 --scale-ratio 0.1 IN OUT.tif`."
        )
    colours = list(dataset.colorinterp)
    rgb = [ColorInterp.red, ColorInterp.green, ColorInterp.blue]
    pictures = [n for n, what in enumerate(colours, 1) if what != ColorInterp.alpha]
    if all(colours.count(colour) == 1 for colour in rgb):
        chosen = [colours.index(colour) + 1 for colour in rgb]
    elif len(pictures) == 1:
        chosen = pictures
    elif len(pictures) in (3, 4):
        chosen = pictures[:3]
    else:
        raise UserError(
            f"{path} has {len(colours)} bands and does not say which are red, green and "
            "blue. Pick them: `rio stack --bidx 3,2,1 IN -o OUT.tif`."
        )
    left_out = [n for n in pictures if n not in chosen]
    if left_out:
        notes.append(
            f"has {len(colours)} bands: {', '.join(map(str, chosen))} are taken for red, "
            f"green and blue, {', '.join(map(str, left_out))} left out"
        )
    return chosen, notes


def colours_of_values(dataset: DatasetReader) -> Image8 | None:
    """Red, green, blue and alpha of each value: (256 or more, 4). None if it is a level."""
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if dataset.colorinterp[0] == ColorInterp.palette:
        colours = dataset.colormap(1)
        table = np.full((LEVELS_16, 4), 255, np.uint8)
        table[list(colours)] = list(colours.values())
        return table
    negative = "MINISWHITE" in dataset.tags(ns="IMAGE_STRUCTURE")
    if dataset.dtypes == ("uint8",) and (bits < 8 or negative):
        table = np.full((2**bits, 4), 255, np.uint8)
        levels = np.linspace(0, 255, 2**bits).round()
        table[:, :3] = (levels[::-1] if negative else levels)[:, None]
        return table
    return None


def stretch_table(values: NDArray[Any]) -> tuple[Image8, str]:
    """The table that stretches the 2nd to 98th percentile of each 16-bit band to 0 to 255.

    Args:
        values: (n, bands), a sample of the picture's pixels.

    Returns:
        (65536, 3), and a note on the percentiles.
    """
    if len(values) == 0:
        values = np.zeros((1, values.shape[1]))
    low, high = np.percentile(values, STRETCH, axis=0)
    ranges = ", ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high, strict=True))
    note = (
        f"has 16 bits: each band's percentiles {STRETCH[0]} to {STRETCH[1]} ({ranges}) "
        "are stretched to 0 to 255"
    )
    levels = np.repeat(np.arange(LEVELS_16)[:, None], 3, axis=1)
    stretched = (levels - low) * 255 / np.maximum(high - low, 1)
    return np.rint(stretched.clip(0, 255)).astype(np.uint8), note
