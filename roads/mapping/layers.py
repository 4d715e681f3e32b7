"""Layers of vector files: lines read from GeoJSON, GeoPackage and Shapefile; any layer written.

GDAL reads a GeoPackage or a Shapefile in a folder where nothing else is, so that it opens no other
file. GeoJSON may name an address for its coordinate system, which GDAL would ask; it is read here.
"""

import json
import re
import warnings
from collections.abc import Mapping
from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import pyogrio
import pyogrio.errors
import pyogrio.raw
import shapely
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.errors import CRSError

from roads.graph.matching import Lines
from roads.runtime.arrays import Float64
from roads.runtime.errors import UserError, one_line
from roads.runtime.files import check_room

GEOPACKAGE, SHAPEFILE = b"SQLite format 3\0", b"\0\0\x27\x0a"  # how the files begin
GEOJSON = rb"(?:\xef\xbb\xbf)?\s*\{"
FORMATS = "GeoJSON, GeoPackage or Shapefile"
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
PROBABILITY = "probability"  # the field of lines that `roads predict` writes
FILE_BYTES, FEATURE_BYTES, POINT_BYTES = 200_000, 1000, 100  # more than a file takes for each


class LineFile(NamedTuple):
    """The lines of a file.

    Attributes:
        lines: (n,) LineStrings.
        crs: what their coordinates are in; None if unknown.
        probability: (n,), NaN where unknown.
        notes: what was passed over.
    """

    lines: Lines
    crs: CRS | None
    probability: Float64
    notes: list[str]


def has_lines(path: Path) -> bool:
    """Whether a file begins as one that `read_lines` reads."""
    start = _start(path)
    return start.startswith((GEOPACKAGE, SHAPEFILE)) or re.match(GEOJSON, start) is not None


def read_lines(path: Path, layer: str | None = None) -> LineFile:
    """Read the lines of a file.

    Args:
        path: GeoJSON, GeoPackage or Shapefile.
        layer: the layer to take if several have lines; None takes the only one, or the only one
            with "road" in its name.

    Raises:
        UserError: the file is broken, has no lines, or several layers of them.
    """
    start = _start(path)
    notes: list[str] = []
    try:
        if start.startswith(GEOPACKAGE):
            geometries, crs, values = _read_by_gdal(path, (".gpkg",), layer, notes)
        elif start.startswith(SHAPEFILE):
            geometries, crs, values = _read_by_gdal(path, SHAPEFILE_PARTS, layer, notes)
        else:
            geometries, crs, values = _read_geojson(path)
    except (
        pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.GEOSException,
        CRSError, ValueError, TypeError, KeyError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(f"{path} is broken or not {FORMATS}: {one_line(error)}") from None
    parts, owner = shapely.get_parts(geometries, return_index=True)
    parts, of = shapely.get_parts(parts, return_index=True)  # of collections
    owner = owner[of]
    line = shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING
    if others := int(np.count_nonzero(~line)):
        notes.append(f"has {others:,} points or areas, which are passed over")
    if not line.any():
        raise UserError(f"{path} has no lines; {others:,} points or areas")
    return LineFile(shapely.force_2d(parts[line]), crs, values[owner[line]], notes)


def _start(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(300)


Read = tuple[NDArray[Any], CRS | None, Float64]  # geometries, coordinate system, probability


def _read_by_gdal(path: Path, parts: tuple[str, ...], layer: str | None, notes: list[str]) -> Read:
    with TemporaryDirectory() as folder:
        beside = {each.suffix.lower(): each for each in path.parent.glob(f"{escape(path.stem)}.*")}
        for suffix, source in (beside | {parts[0]: path}).items():
            if suffix in parts:
                Path(folder, f"lines{suffix}").symlink_to(source.resolve())
        file = Path(folder, f"lines{parts[0]}")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            kinds = dict(pyogrio.list_layers(file).tolist())
            layer = _choose(path, kinds, layer, notes) if parts[0] == ".gpkg" else None
            meta, _, wkb, fields = pyogrio.raw.read(file, layer=layer, columns=[PROBABILITY])
    values = fields[0].astype(np.float64) if len(meta["fields"]) else np.full(len(wkb), np.nan)
    crs = CRS.from_string(meta["crs"]) if meta["crs"] else None
    return shapely.from_wkb(wkb, on_invalid="ignore"), crs, values


def _choose(path: Path, kinds: Mapping[str, str], layer: str | None, notes: list[str]) -> str:
    """The layer of a GeoPackage to read, by the kind of geometry that each has."""
    lines = [name for name, kind in kinds.items() if kind and re.search("Line|Unkn|Coll", kind)]
    if layer is None:
        roads = [name for name in lines if "road" in name.lower()]
        found = lines if len(lines) == 1 else roads
        if len(found) != 1:
            has = f"several layers of lines: {', '.join(lines)}" if lines else "no layer of lines"
            raise UserError(f"{path} has {has}." + (" Choose one with --layer." if lines else ""))
        layer = found[0]
    elif layer not in kinds:
        raise UserError(f"{path} has no layer {layer}. It has: {', '.join(kinds)}.")
    if others := sorted(kinds.keys() - {layer}):
        notes.append(f"has further layers, which are passed over: {', '.join(others)}")
    return layer


def _read_geojson(path: Path) -> Read:
    content = json.loads(path.read_bytes().decode("utf-8-sig"))
    features = content["features"] if content["type"] == "FeatureCollection" else [content]
    if "unit" in content:
        raise UserError(f"{path} is in pixels. Georeference the picture, and map it again.")
    crs = CRS.from_epsg(4326)  # RFC 7946
    if named := content.get("crs"):  # of 2008
        name = named["properties"]["name"]
        if code := re.search(r"EPSG:+(\d+)$", name):
            crs = CRS.from_epsg(int(code[1]))
        elif not name.endswith("CRS84"):
            raise ValueError("its coordinate system is not one of EPSG's")
    features = [each for each in features if each["geometry"]]
    shapes = [json.dumps(each["geometry"]) for each in features]
    values = [(each.get("properties") or {}).get(PROBABILITY) for each in features]
    return shapely.from_geojson(shapes), crs, np.array(values, np.float64)  # NaN for None


def write_layer(
    path: Path,
    layer: str,
    geometry: NDArray[Any],
    fields: Mapping[str, NDArray[Any]],
    crs: CRS | None,
    *,
    driver: str = "GPKG",
    geometry_type: str = "LineString",
    **options: Any,
) -> None:
    """Write a layer of a new or an existing file; NaN becomes null.

    Raises:
        UserError: it cannot be written.
    """
    points = int(shapely.get_num_coordinates(geometry).sum())
    check_room(path, FILE_BYTES + FEATURE_BYTES * len(geometry) + POINT_BYTES * points)
    try:
        with warnings.catch_warnings(), TemporaryDirectory() as plain:
            warnings.filterwarnings("ignore", "'crs' was not provided")
            link = Path(plain, f"{layer}{path.suffix}")  # pyogrio parses paths: ! ends an archive
            link.symlink_to(path.resolve())
            pyogrio.raw.write(
                link,
                shapely.to_wkb(geometry),
                list(fields.values()),
                list(fields),
                layer=layer,
                driver=driver,
                geometry_type=geometry_type,
                crs=crs and crs.to_wkt(),
                **options,
            )
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError) as error:
        raise UserError(f"{path} cannot be written: {one_line(error)}") from None
