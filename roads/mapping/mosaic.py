"""Georeferenced pictures of one grid, read as one picture.

Only the pictures that cross the rows being read are open, each as a picture of its own is.
"""

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine
from rasterio.warp import transform_bounds

from roads.mapping.georeference import lonlat_converter, place_at, same_place
from roads.mapping.opening import naming_errors, quiet_gdal
from roads.mapping.rasters import GDAL_DECODES, WHOLE_JPEG, FileRaster, Raster, open_file
from roads.runtime.arrays import Bool
from roads.runtime.errors import UserError

WHITE = 255
MOST_OFF = 0.1  # pixels of a picture off the grid: as coarse as world files in degrees round it


class Member(NamedTuple):
    """A picture of a mosaic: the rows and columns that it has there, ends excluded."""

    path: Path
    top: int
    left: int
    bottom: int
    right: int


class Mosaic(Raster):
    """Pictures of one coordinate system and grid as one; what none of them has is missing.

    Where they overlap, later ones cover earlier ones, as in gdalbuildvrt, but neither where their
    own imagery is missing nor where they are white.

    Raises:
        UserError: as `FileRaster`; or a picture has no place, or differs from the first one in
            its coordinate system, grid or type of values.
    """

    def __init__(
        self, path: Path, pictures: Sequence[Path], bands: Sequence[int] | None, crs: str | None
    ):
        self.path, self._bands, self._crs, self._whole_jpeg = path, bands, crs, True
        self._opened: dict[Path, tuple[FileRaster, contextlib.ExitStack]] = {}
        said: dict[str, list[Path]] = {}
        places, jpegs = [], []
        first: FileRaster | None = None
        for each in pictures:
            with open_file(each, bands, crs) as picture:
                first = first or picture
                top, left = _corner(picture, first)
            places.append((top, left, top + picture.height, left + picture.width))
            jpegs.append(picture.height * picture.width * picture.whole_jpeg)
            for note in picture.notes:
                said.setdefault(note, []).append(each)
        assert first is not None
        tops, lefts, bottoms, rights = np.array(places).T
        row, column = int(tops.min()), int(lefts.min())
        self._members = [
            Member(each, top - row, left - column, bottom - row, right - column)
            for each, (top, left, bottom, right) in zip(pictures, places, strict=True)
        ]
        shape = int(bottoms.max()) - row, int(rights.max()) - column
        transform = first.transform @ Affine.translation(column, row)
        self._lie_at(place_at(first.crs, transform, shape, []), shape)
        self.dtype = first.dtype
        self.notes = [f"{note} ({_first_of(paths)})" for note, paths in said.items()]
        at_once = (
            np.array(jpegs)[(tops <= bottom) & (bottom <= bottoms)].sum() for bottom in bottoms
        )
        if max(at_once) > WHOLE_JPEG:
            self._whole_jpeg = False
            self.notes.append(f"has JPEGs side by side {GDAL_DECODES}")

    def read_values(self, top: int, bottom: int) -> tuple[NDArray[Any], Bool]:
        crossing = [each for each in self._members if each.top < bottom and top < each.bottom]
        self.close(but={each.path for each in crossing})
        white = np.array(WHITE).astype(self.dtype)
        values = np.full((bottom - top, self.width, 3), white)
        missing = np.ones(values.shape[:2], np.bool_)
        for path, first, left, last, right in crossing:
            start, end = max(top, first), min(bottom, last)
            new, without = self._open(path).read_values(start - first, end - first)
            rows, columns = slice(start - top, end - top), slice(left, right)
            shown = ~(without | (new == white).all(axis=2))
            np.copyto(values[rows, columns], new, where=shown[..., None])
            missing[rows, columns] &= without
        return values, missing

    def close(self, but: Collection[Path] = ()) -> None:
        """Close the files that are open, but for some."""
        for path in self._opened.keys() - but:
            self._opened.pop(path)[1].close()

    def _open(self, path: Path) -> FileRaster:
        if path not in self._opened:
            with contextlib.ExitStack() as stack:
                opening = open_file(path, self._bands, self._crs, self._whole_jpeg)
                self._opened[path] = stack.enter_context(opening), stack.pop_all()
        return self._opened[path][0]


def _first_of(paths: Sequence[Path]) -> str:
    return f"{paths[0].name} and {len(paths) - 1} more" if len(paths) > 1 else paths[0].name


def _corner(picture: FileRaster, first: FileRaster) -> tuple[int, int]:
    """Row and column of a picture's upper left corner, in pixels from that of the first one.

    Raises:
        UserError: the picture does not belong to the mosaic.
    """
    path = picture.path
    if picture.metres is None:
        raise UserError(
            f"{path} does not say where it lies, so it has no place in a mosaic. Give it a world "
            "file, or leave --mosaic out."
        )
    if picture.dtype != first.dtype:
        raise UserError(
            f"{path} has {picture.dtype} values, and {first.path} {first.dtype}. Convert one of "
            "them, or leave --mosaic out."
        )
    as_first = lonlat_converter(first.crs, picture.transform, picture.shape)
    if picture.crs != first.crs and not same_place(as_first, picture.to_lonlat):
        names = [each.crs.to_string() if each.crs else "none" for each in (picture, first)]
        raise UserError(
            f"{path} has another coordinate system ({names[0]}) than {first.path} ({names[1]}). "
            f"{_way_out(picture, first)}"
        )
    relative = ~first.transform @ picture.transform
    ends = np.array([[0, 1, 0, 1], [0, 0, 1, 1]]) * [[picture.width], [picture.height]]
    corners = np.array(relative @ ends)
    corner = corners[:, :1].round()
    if abs(corners - corners[:, :1] - ends).max() > MOST_OFF:
        raise UserError(
            f"{path} has pixels of another size or direction than {first.path}. "
            f"{_way_out(picture, first)}"
        )
    if abs(corners - corner - ends).max() > MOST_OFF:
        right, down = corners[:, 0] - corner[:, 0]
        raise UserError(
            f"{path} is off the grid of {first.path}, by {right:.2f} pixels to the right and "
            f"{down:.2f} down. {_way_out(picture, first)}"
        )
    return int(corner[1, 0]), int(corner[0, 0])


def _way_out(picture: FileRaster, first: FileRaster) -> str:
    """What brings a picture onto the grid of another one, a command or an option, if anything."""
    known, place = picture.crs or first.crs, first.transform
    if known and not (picture.crs and first.crs) and (code := known.to_epsg()):
        return f"If both are in EPSG:{code}, say --crs EPSG:{code}, or leave --mosaic out."
    if place.b or place.d or picture.crs is None or first.crs is None:
        return "Leave --mosaic out."
    height, width = picture.shape
    x, y = picture.transform @ np.array([[0, width, 0, width], [0, 0, height, height]])
    with naming_errors(picture.path):
        west, south, east, north = transform_bounds(
            picture.crs, first.crs, min(x), min(y), max(x), max(y)
        )
    columns, rows = np.round(~place @ np.array([[west, east], [south, north]]))
    (west, east), (south, north) = place @ (columns, rows)
    bounds = " ".join(f"{each:.15g}" for each in (west, south, east, north))
    return (
        f"Warp it, `rio warp --dst-crs {quote(first.crs.to_string())} --bounds {bounds} "
        f"--res {place.a:.15g} --res {abs(place.e):.15g} --resampling bilinear "
        f"{quote(str(picture.path))} OUT.tif`, or leave --mosaic out."
    )


@contextlib.contextmanager
def open_mosaic(
    path: Path, pictures: Sequence[Path], bands: Sequence[int] | None, crs: str | None
) -> Iterator[Raster]:
    """Open pictures for reading as one, called `path`; else as `open_raster`.

    Raises:
        UserError: as `Mosaic`.
    """
    with quiet_gdal(), contextlib.closing(Mosaic(path, pictures, bands, crs)) as raster:
        raster.stretch()
        yield raster
