"""The files of a comparison of two road maps: layers, totals, a page, pictures of the pieces."""

import contextlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from PIL import Image, ImageDraw

from roads.graph.matching import Lines
from roads.mapping.comparing import WITHIN, Comparison, compare_maps, map_of, projected
from roads.mapping.georeference import LONGITUDE_LATITUDE
from roads.mapping.layers import write_layer
from roads.mapping.outputs import read_facts, reading_rows
from roads.mapping.page import LineLayer, write_page
from roads.mapping.rasters import FileRaster, open_raster
from roads.runtime.errors import UserError, ascii_controls
from roads.runtime.files import partial_folder, take_name, told_if_full, write_json

LISTS = {  # how the page calls them, and their colours on it and in chips
    "matched": ("matched", "#30c030"),
    "not_seen": ("not seen", "#3090ff"),
    "missing_in_map": ("missing in the map", "#ff3030"),
}
KINDS = ("matched", "missing_in_map", "matched_in_reference", "not_seen")  # as in a Match
DIGITS, SCORE_DIGITS = 2, 4  # of metres; of probabilities and scores
CHIP_MARGIN, CHIP_SIDE = 60, 500  # pixels around a piece; of each of a chip's two pictures


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
    """Compare two maps as `compare_maps`, write files into `out`, and print what was found.

    They replace those of an earlier comparison of that name.

    Args:
        picture: where the roads were looked for. It is drawn on the page, if `roads predict` made
            the prediction, and in chips.
        chips: how many pieces of both lists to draw.

    Raises:
        UserError: as `compare_maps` and `open_raster`; or a file of another origin would be
            replaced, or one cannot be written.
    """
    name, probability = map_of(prediction)
    facts = out / f"{name}_compare.json"
    with contextlib.ExitStack() as stack:
        raster = stack.enter_context(open_raster(picture, crs=crs)) if picture else None
        if raster and raster.to_lonlat is None:
            raise UserError(f"{picture} does not say where it lies. Leave --picture out.")
        if raster and probability:
            size = read_facts(probability.with_name(f"{name}.json"))
            if raster.shape != (size.get("height"), size.get("width")):
                raise UserError(f"{picture} is not of the size of {probability}: not its picture")
        comparison = compare_maps(prediction, reference, within=within, crs=crs, layer=layer)
        for note in (*comparison.notes, f"maps are compared {comparison.area}"):
            print(f"compare: {ascii_controls(note)}", file=sys.stderr)
        stack.enter_context(told_if_full(facts))
        partial = stack.enter_context(partial_folder(out / f".{name}_compare"))
        _write_layers(comparison, partial, name)
        if raster:
            _draw(comparison, raster, probability, partial, name, chips)
        made = {path.name for path in partial.iterdir()}
        totals = _totals(comparison) | {"files": sorted(made)}
        compared = {"prediction": str(prediction), "reference": str(reference), "within_m": within}
        write_json(partial / facts.name, compared | totals)
        made.add(facts.name)
        earlier = _written_before(facts, name)
        if others := sorted(each for each in made - earlier if (out / each).exists()):
            raise UserError(
                f"{out / others[0]} would be replaced, but no {facts.name} says that `roads "
                "compare` wrote it. Choose another --out, or move it away."
            )
        for each in sorted(made, key=lambda each: (each == facts.name, each)):  # the facts last
            take_name(partial / each, out / each)
        for each in earlier - made:
            (out / each).unlink(missing_ok=True)
    _say(totals, prediction, reference, out / name)


def _written_before(facts: Path, name: str) -> set[str]:
    """The names of the files of an earlier comparison; none where the facts are not ours."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        files = json.loads(facts.read_bytes())["files"]
        return {
            facts.name,
            *(each for each in files if re.fullmatch(f"{re.escape(name)}_[^/]+", each)),
        }
    return set()


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
            for kind, each in zip(KINDS, match, strict=True)
        },
    }


def _say(totals: dict[str, Any], prediction: Path, reference: Path, begin: Path) -> None:
    length = {kind: totals[kind]["length_m"] / 1000 for kind in KINDS}
    predicted = length["matched"] + length["missing_in_map"]
    known = length["matched_in_reference"] + length["not_seen"]
    lines = [
        f"{prediction}: {predicted:.2f} km of road, {length['matched']:.2f} km of it in the map"
        + (f", {totals['mean_offset_m']:.1f} m off on average" if length["matched"] else ""),
        f"{reference}: {known:.2f} km of road in that area, "
        f"{length['matched_in_reference']:.2f} km of it predicted",
    ]
    for key in ("missing_in_map", "not_seen"):
        pieces = totals[key]["pieces"]
        lines.append(
            f"{LISTS[key][0]}: {length[key]:.2f} km, {pieces} pieces → {begin}_{key}.geojson"
        )
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
        lines = projected(pieces.lines, comparison.metric, LONGITUDE_LATITUDE)
        write_layer(
            folder / f"{name}_{key}.geojson",
            key,
            lines,
            fields,
            LONGITUDE_LATITUDE,
            driver="GeoJSON",
            layer_options={"RFC7946": "YES", "WRITE_NAME": "NO"},
        )


def _draw(
    comparison: Comparison, raster: FileRaster, probability: Path | None, folder: Path, name: str,
    chips: int,
) -> None:  # fmt: skip
    """Draw the page, if there is a probability, and chips."""

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
    for key in ("missing_in_map", "not_seen"):
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
        return  # beyond the picture
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
