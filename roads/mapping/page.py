"""A road map as a page for a browser: one HTML file that needs no network and no other file."""

import base64
import html
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from roads.graph.skeleton import ReadRows
from roads.graph.tracing import CERTAIN, RoadGraph
from roads.mapping.georeference import ToLonLat
from roads.mapping.rasters import Raster
from roads.mapping.resampling import RowResizer, Shape, reduced_shape, strip_rows
from roads.runtime.arrays import Float64, Image8
from roads.runtime.files import replacing

SIDE = 4096  # pixels; the longer side of the page's images is at most this
QUALITY = 80  # of the picture's JPEG
LEVELS = 64  # of the probability; fewer would be visible, more would enlarge the file
OPAQUE = 0.5  # higher probabilities are fully opaque
COLOURS = colormaps["plasma"]  # perceptually uniform, and unlike vegetation
POINT_DIGITS = 1  # decimals of a line's points, in pixels


@dataclass(frozen=True)
class LineLayer:
    """Lines that are switched on and off together.

    Attributes:
        name: the title on the page.
        lines: (k, 2) each, row and column; (0, 0) is the centre of the first pixel.
        facts: for each line, what a click on it shows, by name.
        colours: a CSS colour for all lines, or for each line a value from 0 to 1 on the scale.
    """

    name: str
    lines: Sequence[Float64]
    facts: Sequence[Mapping[str, str]]
    colours: str | Sequence[float]


def road_layer(graph: RoadGraph, in_metres: bool) -> LineLayer:
    """Roads coloured by probability, with lengths in metres or pixels."""
    unit = "m" if in_metres else "pixels"
    facts = [
        {"length": f"{edge.length:.1f} {unit}", "probability": f"{edge.probability:.3f}"}
        for edge in graph.edges
    ]
    probabilities = [edge.probability for edge in graph.edges]
    return LineLayer("roads", [edge.line for edge in graph.edges], facts, probabilities)


def write_page(
    path: Path,
    raster: Raster,
    read_probability: ReadRows,
    metres: tuple[float, float] | None,
    layers: Sequence[LineLayer],
) -> None:
    """Write a picture, its probability of road and lines as a page for a browser.

    Args:
        path: the HTML file to write or replace.
        raster: the picture.
        read_probability: returns rows [top, bottom), (rows, width) uint16, CERTAIN for 1.
        metres: height and width of a pixel; None if unknown.
        layers: the lines, from bottom to top.
    """
    picture = _reduced(raster.shape, lambda top, bottom: raster.read_rows(top, bottom)[0])
    probability = _reduced(
        raster.shape,
        lambda top, bottom: (read_probability(top, bottom) // (CERTAIN // 255)).astype(np.uint8),
    )
    data = {
        "name": raster.path.name,
        "height": raster.height,
        "width": raster.width,
        "metres": metres,
        "lonlat": raster.to_lonlat and _lonlat_factors(raster.to_lonlat, raster.shape),
        "picture": _data_uri(Image.fromarray(picture), "JPEG", quality=QUALITY),
        "probability": _probability_layer(probability),
        "layers": [_as_json(layer) for layer in layers],
    }
    here = files("roads.mapping")
    vendored = {each.name: each.read_text("utf-8") for each in (here / "leaflet").iterdir()}
    parts = {
        "title": html.escape(raster.path.name),
        "LICENSE": vendored["LICENSE"],
        "leaflet.css": re.sub(r"url\(.*?\)", "none", vendored["leaflet.css"]),  # other files
        "leaflet.js": vendored["leaflet.js"].partition("//# sourceMappingURL")[0],
        "scale": ", ".join(to_hex(COLOURS(place)) for place in np.linspace(0, 1, 9)),
        "data": json.dumps(data).replace("<", "\\u003c"),  # so no string can end the script
    }
    template = (here / "page.html").read_text("utf-8")
    page = re.sub(r"\{\{(.+?)\}\}", lambda match: parts[match[1]], template)
    with replacing(path) as partial:
        partial.write_text(page, encoding="utf-8")


def _reduced(shape: Shape, read: Callable[[int, int], Image8]) -> Image8:
    """A picture, read in strips and reduced to at most SIDE pixels."""
    resizer = RowResizer(shape, reduced_shape(shape, SIDE))
    step = strip_rows(shape[1])
    strips = (read(top, min(top + step, shape[0])) for top in range(0, shape[0], step))
    return np.concatenate([rows for strip in strips for rows in resizer.push(strip)])


def _probability_layer(probability: Image8) -> str:
    """A probability, (height, width) uint8, 255 for 1, as a PNG in the colours of the scale."""
    image = Image.fromarray(probability // (256 // LEVELS))
    places = np.linspace(0, 1, LEVELS)
    image.putpalette((COLOURS(places)[:, :3] * 255).astype(np.uint8).tobytes())
    alpha = (np.minimum(1, places / OPAQUE) * 255).astype(np.uint8)
    return _data_uri(image, "PNG", transparency=alpha.tobytes())


def _data_uri(image: Image.Image, format: str, **how: Any) -> str:
    stream = io.BytesIO()
    image.save(stream, format, **how)
    encoded = base64.b64encode(stream.getvalue()).decode("ascii")
    return f"data:image/{format.lower()};base64,{encoded}"


def _as_json(layer: LineLayer) -> dict[str, Any]:
    colours: Sequence[str]
    if isinstance(layer.colours, str):
        swatch, colours = layer.colours, [layer.colours] * len(layer.lines)
    else:
        swatch, colours = None, [to_hex(COLOURS(place)) for place in layer.colours]
    lines = [
        {"points": (line + 0.5).round(POINT_DIGITS).tolist(), "facts": facts, "colour": colour}
        for line, facts, colour in zip(layer.lines, layer.facts, colours, strict=True)
    ]
    return {"name": layer.name, "swatch": swatch, "lines": lines}


def _lonlat_factors(to_lonlat: ToLonLat, shape: Shape) -> list[list[float]]:
    """Coefficients of 1, x, y, x², xy, y² for the longitude, and for the latitude.

    They are fitted at 25 points; the error is a few centimetres in a picture 10 km wide.
    """
    y, x = (each.ravel() for each in np.meshgrid(*(np.linspace(0, side, 5) for side in shape)))
    lon, lat = to_lonlat(x, y)
    lon = lon[0] + (lon - lon[0] + 180) % 360 - 180  # continuous across the 180th meridian
    terms = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    size = abs(terms).max(axis=0)
    factors = np.linalg.lstsq(terms / size, np.stack([lon, lat], axis=1))[0] / size[:, None]
    return factors.T.tolist()
