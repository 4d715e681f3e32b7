"""The meaning of a picture's bands: which are red, green and blue, which is a mask, and levels."""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio.enums import ColorInterp
from rasterio.io import DatasetReader
from rasterio.windows import Window

from roads.imagery.missing import opaque_level
from roads.runtime.arrays import Float64, Image8
from roads.runtime.errors import UserError

RGB = ("red", "green", "blue")
INFRARED = "nir"
STRETCH = (2, 98)  # percentiles that become 0 and 255 in bands that are not 8-bit
SAMPLED_ROWS = 64  # for statistics of a picture
SAMPLED_COLUMNS = 4096  # at most, of each row
LEVELS_16 = 2**16


class Bands(NamedTuple):
    """The bands of a picture, numbered from 1.

    Attributes:
        colours: the grey band, or the red, green and blue bands.
        alpha: the band that is a mask; None without one.
        opaque: the lowest value of `alpha` with imagery; None without it.
        notes: decisions, for the user.
    """

    colours: list[int]
    alpha: int | None
    opaque: float | None
    notes: list[str]


def choose_bands(path: Path, dataset: DatasetReader, wanted: Sequence[int] | None) -> Bands:
    """Identify the bands of a picture: as wanted, or by descriptions, or else by colour tags.

    Raises:
        UserError: a wanted band does not exist, or the file has many bands without saying which
            are red, green and blue.
    """
    notes: list[str] = []
    tags = [what.name for what in dataset.colorinterp]
    named = [(text or "").strip().lower() for text in dataset.descriptions]
    described = {
        colour: [n for n, name in enumerate(named, 1) if name in (colour, colour[0])]
        for colour in (*RGB, INFRARED)
    }
    alpha = tags.index("alpha") + 1 if "alpha" in tags else None
    opaque: float | None = None
    if any(alpha in numbers for numbers in (wanted or (), *described.values())):
        alpha = None
    elif alpha:
        row = functools.partial(Window, 0, width=dataset.width, height=1)
        values = sample(lambda top: dataset.read(alpha, window=row(top)), dataset.height)
        if (opaque := opaque_level(values)) is None:
            notes.append(
                f"has band {alpha} tagged as alpha, but its values are not only 0 and the maximum: "
                "it is not used as a mask"
            )
            alpha = None
    if wanted:
        if max(wanted) > dataset.count:
            raise UserError(f"{path} has {dataset.count} bands, but --bands names {max(wanted)}")
        return Bands(list(wanted), alpha, opaque, notes)

    infrared = described[INFRARED] + [n for n, tag in enumerate(tags, 1) if tag == INFRARED]
    tagged = {
        colour: [n for n, tag in enumerate(tags, 1) if tag == colour and n not in infrared]
        for colour in RGB
    }
    pictures = [n for n in range(1, dataset.count + 1) if n not in (alpha, *infrared)]
    said = [by for by in (described, tagged) if all(len(by[colour]) == 1 for colour in RGB)]
    if said:
        chosen = [said[0][colour][0] for colour in RGB]
    elif len(pictures) == 1:
        chosen = pictures
    elif len(pictures) in (3, 4):
        chosen = pictures[:3]
    else:
        numbers = "3,2,1" if dataset.count > 2 else "1"
        raise UserError(
            f"{path} has {dataset.count} bands and does not say which are red, green and blue, or "
            f"grey. Name them, for example with `--bands {numbers}`."
        )
    unused = [n for n in range(1, dataset.count + 1) if n not in (alpha, *chosen)]
    if unused or chosen != sorted(chosen):
        used = "are used as red, green and blue" if len(chosen) == 3 else "is used as grey"
        ignored = f", {_listed(unused)} ignored" if unused else ""
        notes.append(f"has {dataset.count} bands: {_listed(chosen)} {used}{ignored}")
    return Bands(chosen, alpha, opaque, notes)


def sample(read: Callable[[int], NDArray[Any]], height: int) -> NDArray[Any]:
    """The results of `read` for rows that are spread over a picture, as one array."""
    tops = np.unique(np.linspace(0, height - 1, SAMPLED_ROWS).astype(int)).tolist()
    return np.concatenate([read(top) for top in tops])


def _listed(bands: Sequence[int]) -> str:
    return ", ".join(map(str, bands))


def colours_of_values(dataset: DatasetReader) -> Image8 | None:
    """Red, green, blue and alpha by value, (n, 4); None if values are levels of a colour."""
    bits = int(dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS", 8))
    if dataset.colorinterp[0] == ColorInterp.palette:
        colours = dataset.colormap(1)
        table = np.full((LEVELS_16, 4), 255, np.uint8)
        table[list(colours)] = list(colours.values())
        return table
    negative = "MINISWHITE" in structure_of(dataset)
    if dataset.dtypes == ("uint8",) and (bits < 8 or negative):
        table = np.full((2**bits, 4), 255, np.uint8)
        levels = np.linspace(0, 255, 2**bits).round()
        table[:, :3] = (levels[::-1] if negative else levels)[:, None]
        return table
    return None


def structure_of(dataset: DatasetReader) -> dict[str, str]:
    """How a TIFF stores its pixels; asking this of a damaged JPEG 2000, GDAL would hang."""
    tags: dict[str, str] = dataset.tags(ns="IMAGE_STRUCTURE") if dataset.driver == "GTiff" else {}
    return tags


def percentiles(values: NDArray[Any]) -> tuple[Float64, Float64]:
    """The 2nd and the 98th percentile of each band, (bands,) each, of a sample, (n, bands)."""
    if len(values) == 0:
        values = np.zeros((1, values.shape[1]))
    low, high = np.percentile(values, STRETCH, axis=0)
    return low, high


def stretched(values: NDArray[Any], low: Float64, high: Float64) -> Image8:
    """Map values, (rows, width, bands), from `low` to `high` to levels from 0 to 255."""
    with np.errstate(invalid="ignore"):  # NaN is missing imagery, which becomes white later
        levels = (values - low) * 255 / np.where(high > low, high - low, 1)
        return np.rint(levels.clip(0, 255)).astype(np.uint8)
