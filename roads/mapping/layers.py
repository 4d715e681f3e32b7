"""Reads lines from GeoJSON, GeoPackage and Shapefile, and writes layers of any geometry.

GDAL sees a GeoPackage or Shapefile in a folder of its own, so that it opens no other file. GeoJSON
is parsed here: it may name a URL as its coordinate system, which GDAL would fetch.
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
from roads.mapping.opening import first_bytes
from roads.runtime.arrays import Float64
from roads.runtime.errors import UserError, one_line
from roads.runtime.files import check_room

GEOPACKAGE, SHAPEFILE = b"SQLite format 3\0", b"\0\0\x27\x0a"  # the first bytes of the files
GEOJSON = rb"(?:\xef\xbb\xbf)?\s*\{"
FORMATS = "GeoJSON, GeoPackage or Shapefile"
SHAPEFILE_PARTS = (".shp", ".shx", ".dbf", ".prj", ".cpg")
PROBABILITY = "probability"  # the field of lines that `roads predict` writes
LENGTH_IN_PIXELS = "length_px"  # a field of `roads predict` where nothing says what a metre is
IN_PIXELS = "is in pixels. Georeference the picture and map it again."
FILE_BYTES, FEATURE_BYTES, POINT_BYTES = 200_000, 1000, 100  # upper bounds of their sizes


class LineMap(NamedTuple):
    """The roads of a map.

    Attributes:
        lines: (n,) LineStrings.
        crs: of their coordinates; None if unknown.
        probability: (n,), NaN where unknown.
        notes: remarks for the user, such as what was ignored.
    """

    lines: Lines
    crs: CRS | None
    probability: Float64
    notes: list[str]


def has_lines(path: Path) -> bool:
    """Whether a file begins like one that `read_lines` can read."""
    start = first_bytes(path)
    return start.startswith((GEOPACKAGE, SHAPEFILE)) or re.match(GEOJSON, start) is not None


def read_lines(path: Path, layer: str | None = None) -> LineMap:
    """Read the lines of a file.

    Args:
        path: GeoJSON, GeoPackage or Shapefile.
        layer: the layer to read if several have lines; by default the only one with "road" in its
            name.

    Raises:
        UserError: the file is broken, has no lines, or has several layers of them.
    """
    start = first_bytes(path)
    notes: list[str] = []
    try:
        if re.match(GEOJSON, start):
            geometries, crs, values = _read_geojson(path)
        else:
            parts = (".gpkg",) if start.startswith(GEOPACKAGE) else SHAPEFILE_PARTS
            geometries, crs, values = _read_with_gdal(path, parts, layer, notes)
    except (
        pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, shapely.GEOSException,
        CRSError, ValueError, TypeError, KeyError, AttributeError, RecursionError,
    ) as error:  # fmt: skip
        raise UserError(f"{path} is broken or not {FORMATS}: {one_line(error)}") from None
    parts, outer = shapely.get_parts(geometries, return_index=True)
    parts, inner = shapely.get_parts(parts, return_index=True)  # a collection may hold multi-parts
    owner = outer[inner]
    line = shapely.get_type_id(parts) == shapely.GeometryType.LINESTRING
    if others := int(np.count_nonzero(~line)):
        notes.append(f"has {others:,} points or areas, which are ignored")
    with np.errstate(invalid="ignore"):
        length = shapely.length(parts)
    usable = line & (length > 0) & (length < np.inf)
    if unusable := int(np.count_nonzero(line & ~usable)):
        notes.append(f"has {unusable:,} lines whose length is 0 or not finite, which are ignored")
    if not usable.any():
        raise UserError("; ".join([f"{path} has no lines", *notes]))
    return LineMap(shapely.force_2d(parts[usable]), crs, values[owner[usable]], notes)


Read = tuple[NDArray[Any], CRS | None, Float64]  # geometries, coordinate system, probability


def _read_with_gdal(
    path: Path, parts: tuple[str, ...], layer: str | None, notes: list[str]
) -> Read:
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
            columns = [PROBABILITY, LENGTH_IN_PIXELS]
            meta, _, wkb, arrays = pyogrio.raw.read(file, layer=layer, columns=columns)
            geometries = shapely.from_wkb(wkb, on_invalid="ignore")
    fields = dict(zip(meta["fields"], arrays, strict=True))
    if LENGTH_IN_PIXELS in fields:
        raise UserError(f"{path} {IN_PIXELS}")
    values = fields.get(PROBABILITY, np.full(len(wkb), np.nan)).astype(np.float64)
    crs = CRS.from_string(meta["crs"]) if meta["crs"] else None
    return geometries, crs, values


def _choose(path: Path, kinds: Mapping[str, str], layer: str | None, notes: list[str]) -> str:
    """The name of the layer of a GeoPackage to read; `kinds` has each layer's geometry type."""
    lines = [name for name, kind in kinds.items() if kind and re.search("Line|Unkn|Coll", kind)]
    if not lines:
        raise UserError(f"{path} has no layer of lines.")
    if len(lines) == 1:
        (layer,) = lines
    elif layer is None:
        found = [name for name in lines if "road" in name.lower()]
        if len(found) != 1:
            names = ", ".join(lines)
            raise UserError(
                f"{path} has several layers of lines: {names}. Choose one with --layer."
            )
        layer = found[0]
    elif layer not in kinds:
        raise UserError(f"{path} has no layer {layer}. It has: {', '.join(kinds)}.")
    if others := sorted(kinds.keys() - {layer}):
        notes.append(f"has other layers, which are ignored: {', '.join(others)}")
    return layer


def _read_geojson(path: Path) -> Read:
    content = json.loads(path.read_bytes().decode("utf-8-sig"))
    kind = content["type"]
    feature = content if kind == "Feature" else {"geometry": content}
    features = content["features"] if kind == "FeatureCollection" else [feature]
    if "unit" in content:
        raise UserError(f"{path} {IN_PIXELS}")
    crs = CRS.from_epsg(4326)  # RFC 7946
    if named := content.get("crs"):  # as in the specification of 2008
        name = named["properties"]["name"]
        if code := re.search(r"EPSG:+(\d+)$", name):
            crs = CRS.from_epsg(int(code[1]))
        elif not name.endswith("CRS84"):
            raise ValueError("its coordinate system has no EPSG code")
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
    """Write a layer to a new or an existing file; NaN becomes null.

    Raises:
        UserError: the file cannot be written.
    """
    points = int(shapely.get_num_coordinates(geometry).sum())
    check_room(path, FILE_BYTES + FEATURE_BYTES * len(geometry) + POINT_BYTES * points)
    try:
        with warnings.catch_warnings(), TemporaryDirectory() as plain:
            warnings.filterwarnings("ignore", "'crs' was not provided")
            link = Path(plain, f"{layer}{path.suffix}")  # for pyogrio, ! ends an archive's name
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
