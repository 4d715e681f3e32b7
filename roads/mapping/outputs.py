"""The files of a road map: probability, mask, overlay, roads, and the facts about them.

They are written into a hidden folder and get their final names together, the facts last: where
`NAME.json` is, the map is whole. The facts list the other files, so that no file is replaced or
removed that a user put there.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
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

from roads.graph.tracing import CERTAIN, RoadGraph
from roads.mapping.opening import naming_errors
from roads.mapping.rasters import Raster
from roads.mapping.resampling import Shape
from roads.runtime.arrays import Bool, Image8
from roads.runtime.errors import UserError
from roads.runtime.files import PARTIAL, check_room, partial_folder, take_name, told_if_full

BLOCK = 512  # side of the tiles in the GeoTIFFs, in pixels
MOST_UNWRITTEN = 300_000_000  # bytes that GDAL holds back, its cache and a strip of rows
HEADERS = 65_536  # bytes, more than a TIFF needs beside the pixels
COG_ROOM = 3  # of the tiled GeoTIFF's size: the file, its overviews, and these once more
ROAD = 255  # in the mask, as in the published maps
OVERLAY_SIDE = 2048  # pixels of an overlay's longer side, at most
OVERLAY_QUALITY = 90
ROAD_COLOUR = (230, 30, 30)
LINE_COLOUR = (255, 230, 0)
WORLD_FILES = {".png": ".pgw", ".jpg": ".jgw"}
PRJ = ".prj"
PNG_MASK = ".png.msk"  # GDAL's, beside a PNG
FORMATS = ("tif", "png")
FACTS_KEYS = {"picture", "model", "options", "files"}
READY = ".roads-map"  # ends the name of a hidden folder that holds a whole map


class RoadMapFiles(NamedTuple):
    """Where the files of a picture's road map are, or will be."""

    probability: Path
    mask: Path
    overlay: Path
    centrelines: Path
    page: Path
    geopackage: Path
    facts: Path

    @classmethod
    def named(cls, folder: Path, name: str, format: str) -> Self:
        """The files of the picture `name`, probability and mask as `tif` or `png`."""
        endings = (
            f"_probability.{format}", f"_mask.{format}", "_overlay.jpg", "_roads.geojson",
            "_map.html", "_roads.gpkg", ".json",
        )  # fmt: skip
        return cls(*(folder / f"{name}{ending}" for ending in endings))


def file_sizes(files: RoadMapFiles) -> dict[str, int]:
    """Bytes of each file that was written so far into the folder of `files`, by name."""
    return {path.name: path.stat().st_size for path in sorted(files.facts.parent.iterdir())}


def is_done(files: RoadMapFiles, made_from: Mapping[str, Any]) -> bool:
    """Whether all files are there, of the size that was written, and were made from just that.

    Raises:
        UserError: a file has another size, and is not empty as after a power cut.
    """
    facts = read_facts(files.facts)
    sizes: dict[str, int] = facts.get("files", {})
    found = {
        path.name: path.stat().st_size
        for path in map(files.facts.with_name, sizes)
        if path.is_file()
    }
    for name, size in found.items():
        if size not in (0, sizes[name]):
            raise UserError(
                f"{files.facts.with_name(name)} was changed after it was written. Move it away, "
                "or choose another --out."
            )
    return found == sizes and made_from.items() <= facts.items()


def read_facts(path: Path) -> dict[str, Any]:
    """The facts of a road map; empty where the file is missing or another program's."""
    try:
        facts = json.loads(path.read_bytes()) if path.is_file() else None
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(facts, dict) or not facts.keys() >= FACTS_KEYS:
        return {}
    both = (RoadMapFiles.named(path.parent, path.stem, format) for format in FORMATS)
    names = {each.name for files in both for each in _may_write(files)}
    sizes = facts["files"]
    return facts if isinstance(sizes, dict) and sizes.keys() <= names else {}


def in_the_way(files: RoadMapFiles) -> list[Path]:
    """The files that a map would replace and that are not of an earlier map of that name."""
    ours = set()
    for facts in (files.facts, _ready_folder(files) / files.facts.name):
        if known := read_facts(facts):
            ours |= {facts.name, *known["files"]}
    return [path for path in _may_write(files) if os.path.lexists(path) and path.name not in ours]


def _may_write(files: RoadMapFiles) -> list[Path]:
    """The files of a map, and what may go with its PNGs and the overlay."""
    beside = [
        path.with_suffix(suffix)
        for path in files
        if path.suffix in WORLD_FILES
        for suffix in (WORLD_FILES[path.suffix], PRJ, PNG_MASK)
    ]
    return [*files, *beside]


def _ready_folder(files: RoadMapFiles) -> Path:
    return files.facts.with_name(f".{files.facts.stem}{READY}")


def settle_leftovers(folder: Path) -> None:
    """End what a killed run began in an output folder: whole maps are kept, parts removed."""
    for partial in folder.glob(f".*{READY}{PARTIAL}"):
        shutil.rmtree(partial, ignore_errors=True)
    for ready in folder.glob(f".*{READY}"):
        _move_out(ready)


@contextlib.contextmanager
def finishing(files: RoadMapFiles) -> Iterator[RoadMapFiles]:
    """Give the same files in a hidden folder; on success they get their names, facts last.

    Raises:
        FullDiskError: the disk is full.
    """
    ready = _ready_folder(files)
    with told_if_full(files.facts), partial_folder(ready) as partial:
        yield RoadMapFiles(*(partial / path.name for path in files))
        take_name(partial, ready)  # from now on `settle_leftovers` can end it
        _move_out(ready)


def _move_out(ready: Path) -> None:
    """Give the files of a whole map their names, in place of the earlier map of that name."""
    facts = ready.with_name(ready.name[1:].removesuffix(READY) + ".json")
    names = {path.name for path in ready.iterdir()}
    if facts.name in names:  # it is the last to go
        for old in read_facts(facts).get("files", {}).keys() - names:  # of another format
            facts.with_name(old).unlink(missing_ok=True)
        facts.unlink(missing_ok=True)
        for name in names - {facts.name}:
            (ready / name).replace(facts.with_name(name))
        take_name(ready / facts.name, facts)
    ready.rmdir()


class RowWriter:
    """Writes a GeoTIFF of one band from top to bottom, and which of its pixels count.

    Tiled and compressed by deflate; BigTIFF where it may get larger than 4 GB. Pixels without
    imagery are 0, and masked out by the file's own mask. `convert` makes it a map's own file.

    Args:
        path: the file.
        like: the picture whose size, coordinate system and place it has.
        probability: the band is of 16 bits, changes little from pixel to pixel, and says that
            CERTAIN stands for 1; else it is of 8 bits.
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
        self._rows = np.empty((0, like.width), self._dtype)  # held until there is a row of tiles
        self._valid = np.empty((0, like.width), np.bool_)
        self._top = 0  # rows written

    def append(self, rows: NDArray[np.unsignedinteger], valid: Bool) -> None:
        """Take the next rows: (n, width), and where there is imagery, bool."""
        self._rows = np.concatenate([self._rows, rows])
        self._valid = np.concatenate([self._valid, valid])
        if len(self._rows) >= BLOCK:
            self._write(len(self._rows) // BLOCK * BLOCK)

    def close(self) -> None:
        """Write what is left, and check that all got to the disk.

        Raises:
            UserError: it did not.
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
    """Bytes of a band of that shape and its 8-bit mask, uncompressed.

    At most what GDAL may hold back in memory; the room is checked again before it writes more.
    """
    return min((dtype.itemsize + 1) * shape[0] * shape[1], MOST_UNWRITTEN) + HEADERS


@contextlib.contextmanager
def reading_rows(path: Path) -> Iterator[Callable[[int, int], NDArray[Any]]]:
    """Read a band that `RowWriter` wrote: rows [top, bottom) as (rows, width)."""
    with naming_errors(path), rasterio.open(path, driver="GTiff") as dataset:
        yield lambda top, bottom: dataset.read(
            1, window=Window(0, top, dataset.width, bottom - top)
        )


def convert(tiff: Path, path: Path, like: Raster) -> None:
    """Rewrite a GeoTIFF of `RowWriter`, a few rows in memory, and remove it.

    It becomes a cloud optimized GeoTIFF with overviews, or a PNG with a world file.

    Raises:
        UserError: it cannot be written.
    """
    with naming_errors(path):
        with rasterio.open(tiff, driver="GTiff") as dataset:
            dtype = np.dtype(dataset.dtypes[0])
        if path.suffix == ".png":
            check_room(path, room_for(like.shape, dtype))
            rasterio.shutil.copy(tiff, path, driver="PNG")
            place_by_files(path, like, like.shape)
        else:
            check_room(path, COG_ROOM * tiff.stat().st_size + HEADERS)
            many = dtype.itemsize > 1  # the mask's overviews are 0 and 255 too
            rasterio.shutil.copy(
                tiff, path, driver="COG", compress="deflate", predictor="yes" if many else "no",
                overview_resampling="average" if many else "nearest", bigtiff="if_safer",
            )  # fmt: skip
    tiff.unlink()


def place_by_files(path: Path, like: Raster, shape: Shape) -> None:
    """Write the world file of a PNG or JPEG that shows a picture, and a `.prj` in Esri's WKT.

    Neither for a picture without a place, no `.prj` where Esri's WKT cannot say the system.

    Args:
        path: the PNG or JPEG.
        like: the picture.
        shape: height and width of the PNG or JPEG.
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


def overlay_shape(shape: Shape) -> Shape:
    """Height and width of the overlay of a picture of that shape."""
    shrink = min(1.0, OVERLAY_SIDE / max(shape))
    return max(1, round(shape[0] * shrink)), max(1, round(shape[1] * shrink))


def draw_overlay(path: Path, image: Image8, road: Image8, graph: RoadGraph, shape: Shape) -> None:
    """Paint road red and centrelines yellow over a picture.

    Args:
        path: a JPEG file.
        image: (height, width, 3), the picture or a smaller copy.
        road: (height, width), how much of each pixel is road, 255 for all of it.
        graph: the centrelines, in pixels of the picture.
        shape: the picture's height and width.
    """
    picture = Image.fromarray(image)
    picture.paste(ROAD_COLOUR, mask=Image.fromarray(road // 2))  # half of it shows through
    draw = ImageDraw.Draw(picture)
    scale = np.array(road.shape) / shape
    for edge in graph.edges:
        rows_columns = (edge.line + 0.5) * scale - 0.5
        draw.line(rows_columns[:, ::-1].ravel().tolist(), LINE_COLOUR, 1)
    picture.save(path, format="JPEG", quality=OVERLAY_QUALITY, subsampling=0)
