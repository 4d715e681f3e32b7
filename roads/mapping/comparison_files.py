"""The files of a comparison of two road maps: layers, totals, a page, pictures of the pieces."""

import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image, ImageDraw

from roads.graph.matching import WITHIN, Lines
from roads.mapping.comparing import Comparison, compare_maps, map_of, projected
from roads.mapping.georeference import LONGITUDE_LATITUDE
from roads.mapping.layers import write_layer
from roads.mapping.outputs import (
    file_sizes,
    finishing,
    in_the_way,
    read_facts,
    reading_rows,
    refuse_to_replace,
    writing_to,
)
from roads.mapping.page import LineLayer, write_page
from roads.mapping.rasters import FileRaster, open_raster
from roads.runtime.errors import UserError, ascii_controls
from roads.runtime.files import write_json

LISTS = {  # titles on the page, and colours on it and in chips
    "matched": ("matched", "#30c030"),
    "not_seen": ("not seen", "#3090ff"),
    "missing_from_map": ("missing from the map", "#ff3030"),
}
KINDS = ("matched", "missing_from_map", "matched_in_reference", "not_seen")  # as in a Match
DIGITS, SCORE_DIGITS = 2, 4  # decimals of metres; of probabilities and scores
CHIP_MARGIN, CHIP_SIDE = 60, 500  # pixels around a piece; side of a chip's two pictures


def run_comparison(
    prediction: Path,
    reference: Path,
    out: Path,
    *,
    within: float = WITHIN,
    crs: str | None = None,
    layer: str | None = None,
    picture: Path | None = None,
    chips: int = 0,
) -> None:
    """Compare two maps as `compare_maps`, write files to `out`, and print a summary.

    They replace those of an earlier comparison of the same name.

    Args:
        picture: the picture in which roads were predicted. It is drawn on the page, if `roads
            predict` made the prediction, and in chips.
        chips: how many pieces of each list to draw.

    Raises:
        UserError: as `compare_maps` and `open_raster`; or a file that no comparison wrote would
            be replaced, or a file cannot be written.
    """
    name, probability = map_of(prediction)
    facts = out / f"{name}_compare.json"
    with contextlib.ExitStack() as stack:
        raster = stack.enter_context(open_raster(picture, crs=crs)) if picture else None
        if raster and raster.to_lonlat is None:
            raise UserError(f"{picture} has no known place. Leave --picture out.")
        if raster and probability:
            size = read_facts(probability.with_name(f"{name}.json"))
            if raster.shape != (size.get("height"), size.get("width")):
                raise UserError(f"{picture} is not the picture of {probability}: the sizes differ")
        comparison = compare_maps(prediction, reference, within=within, crs=crs, layer=layer)
        for note in (*comparison.notes, f"maps are compared {comparison.area}"):
            print(f"compare: {ascii_controls(note)}", file=sys.stderr)
        stack.enter_context(writing_to(out))
        folder = stack.enter_context(finishing(facts))
        _write_layers(comparison, folder, name)
        if raster:
            _draw(comparison, raster, probability, folder, name, chips)
        sizes = file_sizes(folder)
        refuse_to_replace(in_the_way([facts, *map(facts.with_name, sizes)], facts), "compare")
        totals = _totals(comparison)
        compared = {"prediction": str(prediction), "reference": str(reference), "within_m": within}
        write_json(folder / facts.name, compared | totals | {"files": sizes})
    _print_summary(totals, prediction, reference, out / name)


def _totals(comparison: Comparison) -> dict[str, Any]:
    match = comparison.match
    scores = {each: getattr(match, each) for each in ("completeness", "correctness", "quality")}
    found = match.matched
    scores["mean_offset_m"] = (
        np.average(found.distances, weights=found.lengths) if found.total else None
    )
    return {
        "area": comparison.area,
        **{key: value and round(float(value), SCORE_DIGITS) for key, value in scores.items()},
        **{
            kind: {"pieces": len(each.lines), "length_m": round(each.total, DIGITS)}
            for kind, each in zip(KINDS, match[:4], strict=True)
        },
    }


def _print_summary(totals: dict[str, Any], prediction: Path, reference: Path, begin: Path) -> None:
    matched, missing, found, unseen = (totals[kind]["length_m"] / 1000 for kind in KINDS)
    offset = f", {totals['mean_offset_m']:.1f} m off on average" if matched else ""
    lines = [
        f"{prediction}: {matched + missing:.2f} km of road, {matched:.2f} km of it in the map"
        f"{offset}",
        f"{reference}: {found + unseen:.2f} km of road in that area, "
        f"{found:.2f} km of it predicted",
    ]
    for key, length in (("missing_from_map", missing), ("not_seen", unseen)):
        pieces = totals[key]["pieces"]
        lines.append(f"{LISTS[key][0]}: {length:.2f} km, {pieces} pieces → {begin}_{key}.geojson")
    print("\n".join(map(ascii_controls, lines)))


def _write_layers(comparison: Comparison, folder: Path, name: str) -> None:
    for key, (pieces, probability) in comparison.layers.items():
        fields = {
            "rank": np.arange(1, len(pieces.lines) + 1),
            "length_m": pieces.lengths.round(DIGITS),
            "distance_m": pieces.distances.round(DIGITS),
            "probability": probability.round(SCORE_DIGITS),
        }
        lines = projected(pieces.lines, comparison.metric, comparison.crs)
        write_layer(folder / f"{name}_compare.gpkg", key, lines, fields, comparison.crs)
        path, lonlat = folder / f"{name}_{key}.geojson", LONGITUDE_LATITUDE
        lines = projected(pieces.lines, comparison.metric, lonlat)
        options = {"RFC7946": "YES", "WRITE_NAME": "NO"}
        write_layer(path, key, lines, fields, lonlat, driver="GeoJSON", layer_options=options)


def _draw(
    comparison: Comparison, raster: FileRaster, probability: Path | None, folder: Path, name: str,
    chips: int,
) -> None:  # fmt: skip
    """Draw chips, and the page if there is a probability."""

    def to_pixels(points: Any) -> Any:  # columns and rows; (0, 0) is the picture's corner
        return np.stack(~raster.transform @ points.T, axis=1)

    lines = {
        key: shapely.transform(projected(pieces.lines, comparison.metric, raster.crs), to_pixels)
        for key, (pieces, _) in comparison.layers.items()
    }
    if probability:
        layers = [_page_layer(comparison, key, lines[key]) for key in LISTS]
        with reading_rows(probability) as read:
            write_page(folder / f"{name}_compare.html", raster, read, raster.metres, layers)
    for key in ("missing_from_map", "not_seen"):
        for number, line in enumerate(lines[key][:chips], 1):
            path = folder / f"{name}_{key}_{number:0{len(str(chips))}}.jpg"
            _draw_chip(path, raster, line, key, lines)


def _page_layer(comparison: Comparison, key: str, lines: Lines) -> LineLayer:
    pieces, probability = comparison.layers[key]
    columns = zip(pieces.lengths, pieces.distances, probability, strict=True)
    facts = [
        {
            "rank": f"{rank} of {len(lines)}",
            "length": f"{length:.1f} m",
            "distance": f"{distance:.1f} m",
            "probability": f"{value:.3f}",
        }
        for rank, (length, distance, value) in enumerate(columns, 1)
    ]
    points = [shapely.get_coordinates(line)[:, ::-1] - 0.5 for line in lines]
    return LineLayer(LISTS[key][0], points, facts, LISTS[key][1])


def _draw_chip(
    path: Path, raster: FileRaster, line: shapely.LineString, key: str, lines: dict[str, Lines]
) -> None:
    """Draw the picture around a piece, without and with all lines; the piece itself is thick."""
    low, high = np.reshape(line.bounds, (2, 2))
    half = (high - low).max() / 2 + CHIP_MARGIN
    corners = np.rint([(low + high) / 2 - half, (low + high) / 2 + half]).astype(np.int64)
    (left, top), (right, bottom) = corners.clip(0, raster.shape[::-1]).tolist()
    if right == left or bottom == top:
        return  # the piece is outside the picture
    plain = Image.fromarray(raster.read_rows(top, bottom)[0][:, left:right])
    scale = CHIP_SIDE / max(plain.size)
    plain = plain.resize([max(1, round(side * scale)) for side in plain.size])
    drawn = plain.copy()
    draw = ImageDraw.Draw(drawn)
    near = shapely.box(left, top, right, bottom)
    for kind, (_, colour) in LISTS.items():
        for each in [*lines[kind][shapely.intersects(lines[kind], near)], *[line] * (kind == key)]:
            points = (shapely.get_coordinates(each) - (left, top)) * scale
            draw.line(points.ravel().tolist(), colour, 4 if each is line else 1)
    both = Image.new("RGB", (2 * plain.width, plain.height))
    both.paste(plain, (0, 0))
    both.paste(drawn, (plain.width, 0))
    both.save(path, quality=90)
