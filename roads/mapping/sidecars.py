"""Files next to a picture that say where it lies: world files, `.aux.xml` and `.prj`.

GDAL does not read them, because it would open any file that they name. They are read here, up to
MOST_BYTES each: numbers, coordinate systems as WKT, and control points. XML with a document type,
which could define entities, is not parsed.
"""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from rasterio import Affine
from rasterio.control import GroundControlPoint
from rasterio.crs import CRS
from rasterio.errors import CRSError

MOST_BYTES = 1_000_000  # GDAL also keeps statistics in an .aux.xml
AUX, PRJ = ".xml", ".prj"


@dataclass
class Sidecars:
    """What the files next to a picture say about its place.

    Attributes:
        crs, prj: the coordinate systems of the `.aux.xml` and of the `.prj`.
        transform, world: from columns and rows to coordinates, by the `.aux.xml` and by the world
            file.
        points, points_crs: control points of the `.aux.xml`, and their coordinate system.
        notes: which files could not be read, and why.
    """

    crs: CRS | None = None
    prj: CRS | None = None
    transform: Affine | None = None
    world: Affine | None = None
    points: Sequence[GroundControlPoint] = ()
    points_crs: CRS | None = None
    notes: list[str] = field(default_factory=list)


def read_sidecars(picture: Path) -> Sidecars:
    """Read the files next to a picture; broken ones are ignored, with a note."""
    found = Sidecars()
    for path in sidecar_files(picture):
        read = {AUX: _read_aux, PRJ: _read_prj}.get(path.suffix.lower(), _read_world_file)
        try:
            read(path, found)
        except (ValueError, CRSError) as error:
            found.notes.append(f"has a {path.name} that cannot be read: {error}")
    return found


def sidecar_files(picture: Path) -> list[Path]:
    """The files next to a picture that may place it.

    For `a.tif` these are `a.tfw`, `a.tifw` and `a.wld`, of which the first counts, `a.tif.aux.xml`,
    and `a.prj`; the last suffix may be in capital letters.
    """
    ending = picture.suffix[1:].lower()
    worlds = (f".{ending[:1]}{ending[-1:]}w", f".{ending}w", ".wld")
    paths = [picture.with_suffix(suffix) for suffix in (*worlds, PRJ)]
    paths.append(picture.with_name(f"{picture.name}.aux{AUX}"))
    both = [each for path in paths for each in (path, path.with_suffix(path.suffix.upper()))]
    return [path for path in both if path.is_file()]


def _read_world_file(path: Path, found: Sidecars) -> None:
    if found.world is None:
        words = _text(path).replace(",", ".").split()
        found.world = _affine(words, "adbecf") @ Affine.translation(-0.5, -0.5)


def _read_aux(path: Path, found: Sidecars) -> None:
    """Read GDAL's `.aux.xml`, which ArcGIS and QGIS also write."""
    text = _text(path)
    if "<!DOCTYPE" in text:
        raise ValueError("it has a document type")
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML, {error}") from None
    if (numbers := root.findtext("GeoTransform")) is not None:
        found.transform = _affine(numbers.split(","), "cabfde")
    if wkt := root.findtext("SRS"):
        found.crs = _crs(wkt)
    if (points := root.find("GCPList")) is not None:
        if wkt := points.get("Projection"):
            found.points_crs = _crs(wkt)
        keys = {"row": "Line", "col": "Pixel", "x": "X", "y": "Y"}
        found.points = [
            GroundControlPoint(**{to: float(point.get(key, "nan")) for to, key in keys.items()})
            for point in points
        ]
    if root.find("GeodataXform") is not None and found.transform is None:
        raise ValueError("its transformation is in ArcGIS' format. Rectify the picture in ArcGIS")


def _read_prj(path: Path, found: Sidecars) -> None:
    found.prj = _crs(_text(path))


def _crs(wkt: str) -> CRS:
    """The coordinate system that WKT describes; raises a CRSError if it is invalid."""
    try:
        return CRS.from_wkt(wkt)
    except CRSError:
        with contextlib.suppress(CRSError):  # clears GDAL's error, or its next call would fail
            CRS.from_epsg(4326)
        raise


def _text(path: Path) -> str:
    """The text of a small file; raises a ValueError if it is large."""
    with path.open("rb") as stream:
        content = stream.read(MOST_BYTES + 1)
    if len(content) > MOST_BYTES:
        raise ValueError(f"it has more than {MOST_BYTES:,} bytes")
    return content.decode("utf-8-sig", errors="replace")


def _affine(words: Sequence[str], order: str) -> Affine:
    """The transform with six numbers in that order; raises a ValueError if it is invalid."""
    numbers = dict(zip(order, words, strict=False))
    try:
        transform = Affine(*(float(numbers[letter]) for letter in "abcdef"))
    except (ValueError, KeyError):
        raise ValueError("it does not have six numbers") from None
    if not np.isfinite(transform).all() or transform.is_degenerate:
        raise ValueError("its transform is not invertible")
    return transform
