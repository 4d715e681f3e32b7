"""What a picture's bands mean: which are red, green and blue, which masks, and their levels."""

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
STRETCH = (2, 98)  # percentiles that become 0 and 255 in bands of other than 8 bits
SAMPLED_ROWS = 64  # rows by which a picture is judged
SAMPLED_COLUMNS = 4096  # at most, of each
LEVELS_16 = 2**16


class Bands(NamedTuple):
    """Which bands of a picture are what, numbered from 1.

    Attributes:
        colours: the band that is grey, or those that are red, green and blue.
        alpha: the band that masks; None without one.
        opaque: its value from which on there is imagery; None without one.
        notes: what was decided, for the user to know.
    """

    colours: list[int]
    alpha: int | None
    opaque: float | None
    notes: list[str]


def choose_bands(path: Path, dataset: DatasetReader, wanted: Sequence[int] | None) -> Bands:
    """Tell the bands of a picture apart: by their descriptions, else by their colour tags.

    Args:
        path: the file.
        dataset: the same, open.
        wanted: the bands for grey, or for red, green and blue; None leaves it to the file.

    Raises:
        UserError: a band is wanted that is not there, or the file does not say which of many bands
            are red, green and blue.
    """
    notes: list[str] = []
    tags = [what.name for what in dataset.colorinterp]
    named = [(text or "").strip().lower() for text in dataset.descriptions]
    described = {
        colour: [n for n, name in enumerate(named, 1) if name in (colour, colour[0])]
        for colour in (*RGB, INFRARED)
    }
    called_alpha = tags.index("alpha") + 1 if "alpha" in tags else None
    alpha: int | None = None
    opaque: float | None = None
    if called_alpha and all(
        called_alpha not in numbers for numbers in (wanted or (), *described.values())
    ):
        opaque = opaque_level(
            sample(
                lambda top: dataset.read(called_alpha, window=Window(0, top, dataset.width, 1)),
                dataset.height,
            )
        )
        if opaque is None:
            notes.append(
                f"calls its band {called_alpha} alpha, but the values there are not only 0 and "
                "their maximum: it is not used as a mask"
            )
        else:
            alpha = called_alpha
    if wanted:
        if max(wanted) > dataset.count:
            raise UserError(f"{path} has {dataset.count} bands, but --bands asks for {max(wanted)}")
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
        numbers = "the number of the grey one, for example `--bands 1`"
        if dataset.count > 2:
            numbers = "their numbers, for example `--bands 3,2,1`"
        raise UserError(
            f"{path} has {dataset.count} bands and does not say which are red, green and blue. "
            f"Give {numbers}."
        )
    left_out = [n for n in range(1, dataset.count + 1) if n not in (alpha, *chosen)]
    if left_out or chosen != sorted(chosen):
        colours = "red, green and blue" if len(chosen) == 3 else "grey"
        verb = "are" if len(chosen) == 3 else "is"
        without = f", {_listed(left_out)} left out" if left_out else ""
        notes.append(
            f"has {dataset.count} bands: {_listed(chosen)} {verb} taken for {colours}{without}"
        )
    return Bands(chosen, alpha, opaque, notes)


def sample(read: Callable[[int], NDArray[Any]], height: int) -> NDArray[Any]:
    """What `read` gives for rows all over a picture, from the first to the last, as one array."""
    tops = np.unique(np.linspace(0, height - 1, SAMPLED_ROWS).astype(int)).tolist()
    return np.concatenate([read(top) for top in tops])


def _listed(bands: Sequence[int]) -> str:
    return ", ".join(map(str, bands))


def colours_of_values(dataset: DatasetReader) -> Image8 | None:
    """Red, green, blue and alpha of each value: (256 or more, 4). None if it is a level."""
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
    """How a TIFF stores its pixels; of a damaged JPEG 2000, GDAL would search without end."""
    tags: dict[str, str] = {}
    if dataset.driver == "GTiff":
        tags = dataset.tags(ns="IMAGE_STRUCTURE")
    return tags


def percentiles(values: NDArray[Any]) -> tuple[Float64, Float64]:
    """The 2nd and the 98th percentile of each band: (bands,) each.

    Args:
        values: (n, bands), a sample of the picture's pixels.
    """
    if len(values) == 0:
        values = np.zeros((1, values.shape[1]))
    low, high = np.percentile(values, STRETCH, axis=0)
    return low, high


def stretched(values: NDArray[Any], low: Float64, high: Float64) -> Image8:
    """Values (rows, width, bands) as levels, `low` and less as 0, `high` and more as 255."""
    with np.errstate(invalid="ignore"):  # NaN is missing, and made white later
        levels = (values - low) * 255 / np.where(high > low, high - low, 1)
        return np.rint(levels.clip(0, 255)).astype(np.uint8)
