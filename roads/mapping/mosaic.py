"""Georeferenced pictures on a common grid, read as one picture.

Only the pictures that overlap the rows being read are open.
"""

import contextlib
import math
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rasterio import Affine

from roads.mapping.georeference import lonlat_converter, place_at, same_place
from roads.mapping.opening import quiet_gdal
from roads.mapping.rasters import GDAL_DECODES, WHOLE_JPEG, FileRaster, Raster, open_file
from roads.runtime.arrays import Bool
from roads.runtime.errors import UserError

WHITE = 255
MOST_OFF = 0.1  # pixels off the grid; world files in degrees are rounded about that much


class Mosaic(Raster):
    """Pictures with the same coordinate system and grid as one; the gaps are missing imagery.

    Where they overlap, later ones cover earlier ones, as in gdalbuildvrt, except with missing
    imagery or white pixels.

    Raises:
        UserError: as `FileRaster`; or a picture has no place, or differs from the first one in
            coordinate system, grid or data type.
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
        boxes = np.array(places) - (row, column, row, column)
        self._members = list(zip(pictures, boxes.tolist(), strict=True))
        shape = int(bottoms.max()) - row, int(rights.max()) - column
        transform = first.transform @ Affine.translation(column, row)
        self._lie_at(place_at(first.crs, transform, shape, []), shape)
        self.dtype = first.dtype
        self.notes = [f"{note} ({_listed(paths)})" for note, paths in said.items()]
        at_once = (
            np.array(jpegs)[(tops <= bottom) & (bottom <= bottoms)].sum() for bottom in bottoms
        )
        if max(at_once) > WHOLE_JPEG:
            self._whole_jpeg = False
            self.notes.append(f"has adjacent JPEGs {GDAL_DECODES}")

    def read_values(self, top: int, bottom: int) -> tuple[NDArray[Any], Bool]:
        crossing = [(path, box) for path, box in self._members if box[0] < bottom and top < box[2]]
        self.close(but={path for path, _ in crossing})
        white = np.array(WHITE).astype(self.dtype)
        values = np.full((bottom - top, self.width, 3), white)
        missing = np.ones(values.shape[:2], np.bool_)
        for path, (first, left, last, right) in crossing:
            start, end = max(top, first), min(bottom, last)
            new, without = self._open(path).read_values(start - first, end - first)
            rows, columns = slice(start - top, end - top), slice(left, right)
            shown = ~(without | (new == white).all(axis=2))
            np.copyto(values[rows, columns], new, where=shown[..., None])
            missing[rows, columns] &= without
        return values, missing

    def close(self, but: Collection[Path] = ()) -> None:
        """Close the open files, except some."""
        for path in self._opened.keys() - but:
            self._opened.pop(path)[1].close()

    def _open(self, path: Path) -> FileRaster:
        if path not in self._opened:
            with contextlib.ExitStack() as stack:
                opening = open_file(path, self._bands, self._crs, self._whole_jpeg)
                self._opened[path] = stack.enter_context(opening), stack.pop_all()
        return self._opened[path][0]


def _listed(paths: Sequence[Path]) -> str:
    return f"{paths[0].name} and {len(paths) - 1} more" if len(paths) > 1 else paths[0].name


def _corner(picture: FileRaster, first: FileRaster) -> tuple[int, int]:
    """The row and column of a picture's upper left corner, relative to that of the first one."""
    path = picture.path
    if picture.metres is None:
        raise UserError(
            f"{path} has no known place, which a mosaic needs. Give it a world file, or leave "
            "--mosaic out."
        )
    if picture.dtype != first.dtype:
        raise UserError(
            f"{path} has {picture.dtype} values, but {first.path} has {first.dtype}. Convert one "
            "of them, or leave --mosaic out."
        )
    as_first = lonlat_converter(first.crs, picture.transform, picture.shape)
    if picture.crs != first.crs and not same_place(as_first, picture.to_lonlat):
        raise _misfit(picture, first, "has another coordinate system than")
    relative = ~first.transform @ picture.transform
    ends = np.array([[0, 1, 0, 1], [0, 0, 1, 1]]) * [[picture.width], [picture.height]]
    corners = np.array(relative @ ends)
    corner = corners[:, :1].round()
    if abs(corners - corners[:, :1] - ends).max() > MOST_OFF:
        raise _misfit(picture, first, "has pixels of another size or direction than")
    if abs(corners - corner - ends).max() > MOST_OFF:
        right, down = corners[:, 0] - corner[:, 0]
        off = f"is {right:.2f} pixels to the right of and {down:.2f} pixels below the grid of"
        raise _misfit(picture, first, off)
    return int(corner[1, 0]), int(corner[0, 0])


def _misfit(picture: FileRaster, first: FileRaster, problem: str) -> UserError:
    """The error for a picture that is not on the grid of the first one, with a remedy."""
    way_out = "Leave --mosaic out."
    known = picture.crs or first.crs
    if picture.crs and first.crs:
        crs, size = first.crs.to_string(), math.sqrt(abs(first.transform.determinant))
        way_out = (
            f"Warp each picture onto one grid, `rio warp --dst-crs {quote(crs)} --res {size:.15g} "
            f"--target-aligned-pixels --resampling bilinear {quote(str(picture.path))} OUT.tif`, "
            "or leave --mosaic out."
        )
    elif known and (code := known.to_epsg()):
        way_out = f"If both are in EPSG:{code}, pass --crs EPSG:{code}, or leave --mosaic out."
    return UserError(f"{picture.path} {problem} {first.path}. {way_out}")


@contextlib.contextmanager
def open_mosaic(
    path: Path, pictures: Sequence[Path], bands: Sequence[int] | None, crs: str | None
) -> Iterator[Raster]:
    """Open pictures for reading as one, which is named `path`; raises a UserError as `Mosaic`."""
    with quiet_gdal(), contextlib.closing(Mosaic(path, pictures, bands, crs)) as raster:
        raster.stretch()
        yield raster
