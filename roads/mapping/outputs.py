"""The files of a road map: probability, mask, overlay, roads, and the facts about them.

They are written to a hidden folder and get their final names together, the facts last: if
`NAME.json` exists, the map is complete. The facts list the other files with their sizes, so that no
file of the user is replaced or removed. A comparison does the same with `NAME_compare.json`.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import rasterio
import rasterio.shutil
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rasterio import Affine
from rasterio.errors import CRSError
from rasterio.io import DatasetWriter
from rasterio.windows import Window

from roads.graph.skeleton import ReadRows
from roads.graph.tracing import CERTAIN, RoadGraph
from roads.mapping.opening import naming_errors
from roads.mapping.rasters import Raster
from roads.mapping.resampling import Shape
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError
from roads.runtime.files import PARTIAL, check_room, partial_folder, take_name, told_if_full
from roads.runtime.locks import held

BLOCK = 512  # side of the tiles in the GeoTIFFs, in pixels
MOST_UNWRITTEN = 300_000_000  # bytes that GDAL keeps in memory: its cache and a strip of rows
HEADERS = 65_536  # bytes, more than a TIFF needs besides the pixels
COG_ROOM = 3  # times the tiled GeoTIFF: the file, its overviews, and a temporary copy of these
ROAD = 255  # in the mask, as in the published maps
OVERLAY_QUALITY = 90
ROAD_COLOUR = (230, 30, 30)
LINE_COLOUR = (255, 230, 0)
WORLD_FILES = {".png": ".pgw", ".jpg": ".jgw"}
PRJ = ".prj"
PNG_MASK = ".png.msk"  # GDAL's mask file for a PNG
READY = ".roads-map"  # suffix of a hidden folder that holds a complete map or comparison
LOCK = ".roads-map.lock"  # in the output folder


class RoadMapFiles(NamedTuple):
    """The paths of a road map's files."""

    probability: Path
    mask: Path
    overlay: Path
    centrelines: Path
    page: Path
    geopackage: Path
    facts: Path

    @classmethod
    def named(cls, folder: Path, name: str, format: str) -> Self:
        """The files of the picture `name`, with probability and mask as tif or png."""
        endings = (
            f"_probability.{format}", f"_mask.{format}", "_overlay.jpg", "_roads.geojson",
            "_map.html", "_roads.gpkg", ".json",
        )  # fmt: skip
        return cls(*(folder / f"{name}{ending}" for ending in endings))

    def with_sidecars(self) -> list[Path]:
        """These files, and those that may be written next to the PNGs and the overlay."""
        placed = [path for path in self if path.suffix in WORLD_FILES]
        worlds = [path.with_suffix(WORLD_FILES[path.suffix]) for path in placed]
        return [*self, *worlds, *(path.with_suffix(x) for path in placed for x in (PRJ, PNG_MASK))]


def file_sizes(folder: Path) -> dict[str, int]:
    """The size in bytes of each file in a folder, by name."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir())}


def is_done(files: RoadMapFiles, made_from: Mapping[str, Any]) -> bool:
    """Whether a map is complete and was made from just these inputs.

    Raises:
        UserError: a file's size has changed, but not to 0 as after a power cut.
    """
    facts = read_facts(files.facts)
    sizes: dict[str, int] = facts.get("files", {})
    paths = filter(Path.is_file, map(files.facts.with_name, sizes))
    found = {path.name: path.stat().st_size for path in paths}
    for name, size in found.items():
        if size not in (0, sizes[name]):
            raise UserError(
                f"{files.facts.with_name(name)} was changed after it was written. Move it away, "
                "or choose another --out."
            )
    return found == sizes and made_from.items() <= facts.items()


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a map or comparison; empty if the file is missing or another program's."""
    try:
        facts = json.loads(path.read_bytes()) if path.is_file() else {}
        files = {**facts["files"]}
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        return {}
    name = re.escape(path.stem.removesuffix("_compare"))
    return facts if files and all(re.fullmatch(f"{name}_[^/]+", each) for each in files) else {}


def in_the_way(paths: Iterable[Path], facts: Path) -> list[Path]:
    """Which of the paths exist, although the facts do not list them as files of an earlier run."""
    ours = set()
    for each in (facts, _ready_folder(facts) / facts.name):
        if known := read_facts(each):
            ours |= {facts.name, *known["files"]}
    return [path for path in paths if os.path.lexists(path) and path.name not in ours]


def refuse_to_replace(others: Sequence[Path], command: str) -> None:
    """Raise a UserError if there are files that `in_the_way` found."""
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise UserError(
            f"{others[0]}{more} would be replaced, but there is no record that `roads {command}` "
            "wrote it. Choose another --out, or move it away."
        )


def _ready_folder(facts: Path) -> Path:
    return facts.with_name(f".{facts.stem}{READY}")


@contextlib.contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Lock an output folder, and clean up after a killed run: only complete maps are kept.

    Raises:
        UserError: another run has locked it.
    """
    with held(folder / LOCK, f"another run is writing to {folder}. Wait for it."):
        for partial in folder.glob(f".*{READY}{PARTIAL}"):
            shutil.rmtree(partial, ignore_errors=True)
        for ready in folder.glob(f".*{READY}"):
            _move_out(ready)
        yield


@contextlib.contextmanager
def finishing(facts: Path) -> Iterator[Path]:
    """Yield a hidden folder to write to; on success its files are moved next to `facts`."""
    ready = _ready_folder(facts)
    with told_if_full(facts), partial_folder(ready) as partial:
        yield partial
        take_name(partial, ready)  # after a kill, `writing_to` does the rest
        _move_out(ready)


def _move_out(ready: Path) -> None:
    """Move the files out of a hidden folder, in place of an earlier run's, the facts last."""
    facts = ready.with_name(ready.name[1:].removesuffix(READY) + ".json")
    names = {path.name for path in ready.iterdir()}
    if facts.name in names:  # else all files were moved before a kill
        for old in read_facts(facts).get("files", {}).keys() - names:  # of another format
            facts.with_name(old).unlink(missing_ok=True)
        facts.unlink(missing_ok=True)
        for name in names - {facts.name}:
            (ready / name).replace(facts.with_name(name))
        take_name(ready / facts.name, facts)
    ready.rmdir()


class RowWriter:
    """Writes a GeoTIFF of one band and its mask of valid pixels, from top to bottom.

    It is tiled and compressed with deflate, and a BigTIFF if it may exceed 4 GB. `convert` turns
    it into the final file.

    Args:
        path: the file.
        like: the picture from which it takes size, coordinate system and place.
        probability: the band has 16 bits, and its scale says that CERTAIN is 1; else it has 8.
    """

    def __init__(self, path: Path, like: Raster, *, probability: bool):
        self._path = path
        self._dtype = np.dtype(np.uint16 if probability else np.uint8)
        profile: dict[str, Any] = {
            "driver": "GTiff", "dtype": self._dtype, "count": 1,
            "height": like.height, "width": like.width,
            "crs": like.crs, "transform": like.transform,
            "tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK,
            "compress": "deflate", "zlevel": 1, "predictor": 2 if probability else 1,
            "bigtiff": "if_safer",
        }  # fmt: skip
        with naming_errors(path):
            self._dataset: DatasetWriter = rasterio.open(path, "w", **profile)
            self._dataset.descriptions = ("road probability" if probability else "road",)
            if probability:
                self._dataset.scales = (1 / CERTAIN,)
        self._rows = np.empty((0, like.width), self._dtype)  # until they fill a row of tiles
        self._valid = np.empty((0, like.width), np.bool_)
        self._top = 0  # rows written

    def append(self, rows: NDArray[np.unsignedinteger], valid: Bool) -> None:
        """Append rows, (n, width), and where they have imagery, (n, width) bool."""
        self._rows = np.concatenate([self._rows, rows])
        self._valid = np.concatenate([self._valid, valid])
        if len(self._rows) >= BLOCK:
            self._write(len(self._rows) // BLOCK * BLOCK)

    def close(self) -> None:
        """Write the remaining rows and close the file.

        Raises:
            UserError: not everything reached the disk.
        """
        if len(self._rows):
            self._write(len(self._rows))
        with naming_errors(self._path):
            self._dataset.close()

    def _write(self, count: int) -> None:
        height, width = self._dataset.shape
        check_room(self._path, room_for((height - self._top, width), self._dtype))
        window = Window(0, self._top, width, count)
        with naming_errors(self._path):
            self._dataset.write(self._rows[:count], 1, window=window)
            self._dataset.write_mask(self._valid[:count], window=window)
        self._rows, self._valid = self._rows[count:], self._valid[count:]
        self._top += count


def room_for(shape: Shape, dtype: np.dtype[Any]) -> int:
    """The uncompressed bytes of a band of that shape and its 8-bit mask.

    At most as much as GDAL keeps in memory: the free space is checked again before it writes more.
    """
    return min((dtype.itemsize + 1) * shape[0] * shape[1], MOST_UNWRITTEN) + HEADERS


@contextlib.contextmanager
def reading_rows(path: Path) -> Iterator[ReadRows]:
    """Read a band that `RowWriter` wrote: rows [top, bottom) as (rows, width)."""
    with naming_errors(path), rasterio.open(path, driver="GTiff") as dataset:
        yield lambda top, bottom: dataset.read(
            1, window=Window(0, top, dataset.width, bottom - top)
        )


def convert(tiff: Path, path: Path, like: Raster) -> None:
    """Convert a GeoTIFF of `RowWriter`, a few rows at a time, and remove it.

    The result is a cloud optimized GeoTIFF with overviews, or a PNG with a world file.

    Raises:
        UserError: the result cannot be written.
    """
    with naming_errors(path):
        with rasterio.open(tiff, driver="GTiff") as dataset:
            dtype = np.dtype(dataset.dtypes[0])
        if path.suffix == ".png":
            check_room(path, room_for(like.shape, dtype))
            rasterio.shutil.copy(tiff, path, driver="PNG")
            _place_by_files(path, like, like.shape)
        else:
            check_room(path, COG_ROOM * tiff.stat().st_size + HEADERS)
            many = dtype.itemsize > 1  # the mask's overviews must be 0 and 255 as well
            rasterio.shutil.copy(
                tiff, path, driver="COG", compress="deflate", predictor="yes" if many else "no",
                overview_resampling="average" if many else "nearest", bigtiff="if_safer",
            )  # fmt: skip
    tiff.unlink()


def _place_by_files(path: Path, like: Raster, shape: Shape) -> None:
    """Write the world file of a PNG or JPEG of that shape, and a `.prj` in Esri's WKT.

    Nothing is written if the picture has no place, and no `.prj` if Esri's WKT has no such system.
    """
    if like.transform.is_identity:
        return
    height, width = shape
    pixel = like.transform @ Affine.scale(like.width / width, like.height / height)
    centre = pixel @ Affine.translation(0.5, 0.5)  # of the first pixel
    lines = [f"{getattr(centre, number)!r}\n" for number in "adbecf"]
    path.with_suffix(WORLD_FILES[path.suffix]).write_text("".join(lines), encoding="ascii")
    with contextlib.suppress(CRSError):
        if like.crs:
            wkt = like.crs.to_wkt(version="WKT1_ESRI")
            path.with_suffix(PRJ).write_text(wkt, encoding="utf-8")


def draw_overlay(path: Path, raster: Raster, image: Image8, road: Image8, graph: RoadGraph) -> None:
    """Paint road red and centrelines yellow over a picture, as a JPEG with a world file.

    `image` is a reduced copy, (height, width, 3), and `road` the fraction of road in each of its
    pixels, (height, width), 255 for 1.
    """
    picture = Image.fromarray(image)
    picture.paste(ROAD_COLOUR, mask=Image.fromarray(road // 2))  # half transparent
    draw = ImageDraw.Draw(picture)
    scale = np.array(road.shape) / raster.shape
    for edge in graph.edges:
        rows_columns = (edge.line + 0.5) * scale - 0.5
        draw.line(rows_columns[:, ::-1].ravel().tolist(), LINE_COLOUR, 1)
    picture.save(path, format="JPEG", quality=OVERLAY_QUALITY, subsampling=0)
    _place_by_files(path, raster, road.shape)
