"""Maps roads in unlabelled pictures: `roads predict`."""

import functools
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from roads.graph.tracing import CERTAIN, trace_roads
from roads.mapping.lengths import measured
from roads.mapping.mosaic import open_mosaic
from roads.mapping.opening import is_picture
from roads.mapping.outputs import (
    ROAD,
    RoadMapFiles,
    RowWriter,
    convert,
    draw_overlay,
    file_sizes,
    finishing,
    in_the_way,
    is_done,
    reading_rows,
    refuse_to_replace,
    writing_to,
)
from roads.mapping.page import road_layer, write_page
from roads.mapping.picture_rows import PictureRows
from roads.mapping.rasters import Raster, open_raster
from roads.mapping.resampling import RowResizer, Shape, reduced_shape, strip_rows
from roads.mapping.sidecars import sidecar_files
from roads.mapping.vectors import Roads, add_areas, write_geojson, write_geopackage
from roads.mapping.widths import road_widths
from roads.prediction.blending import Predict, Windows, predict_rows, spread_starts
from roads.runtime.arrays import Bool, Float32, Image8
from roads.runtime.errors import UserError, ascii_controls
from roads.runtime.files import write_json
from roads.runtime.names import some
from roads.runtime.progress import progress

MODEL_METRES = 1.0  # per pixel of the tiles that nets are trained on (Mnih 2013, chapter 6)
SAME = 0.02  # pixel sizes that differ by no more than this fraction count as equal
OVERLAY_SIDE = 2048  # pixels; the longer side of an overlay is at most this
FINEST, COARSEST = 0.01, 5.0  # metres per pixel; roads are 7 m wide
ROW_MEMORY = 500_000_000  # bytes for rows of windows, at WINDOW_BYTES per pixel
WINDOW_BYTES = 14  # two rows of RGB windows, sums in float32, and the finished rows
ASSUMED = (
    "the pixel size of some pictures is unknown: 1 m is assumed, and lengths are in pixels. Set "
    "it with --gsd."
)
FEW_ROADS = (
    "under 0.1% of some pictures is road. If that is too little, try a lower --threshold: the "
    "imagery may be unlike that of the training (docs/mapping.md, Which threshold)."
)
WITHOUT_CRS = (
    "is in an unknown coordinate system. Its unit is assumed to be the metre, a pixel to be "
    "{:.4g} × {:.4g} m, and lengths are in pixels. Set the system with --crs."
)


@dataclass(frozen=True)
class Options:
    """How to map roads.

    Attributes:
        gsd: metres per pixel of pictures without a place; None takes 1, or the world file's.
        crs: the coordinate system of pictures without one, such as EPSG:26986.
        threshold: pixels with at least this probability are road.
        window, overlap: size and overlap of the windows, in pixels of 1 m.
        tta: average the predictions over all eight flips and turns of each window.
        format: of probability and mask, `tif` or `png`.
        spur: metres; shorter dead ends are pruned from the centrelines.
        tolerance: the largest error of simplified lines, in metres.
        join: dead ends are joined to a road at most this many metres straight ahead; 0: never.
        bands: as in `open_raster`.
        html: also write a page for a browser.
        polygons: also write the areas of road as polygons.
    """

    gsd: float | None
    crs: str | None
    threshold: float
    window: int
    overlap: int
    tta: bool
    format: str
    spur: float
    tolerance: float
    join: float
    bands: list[int] | None = None
    html: bool = False
    polygons: bool = False


@dataclass(frozen=True)
class Model:
    """A net to predict with.

    Attributes:
        predict: gives the probabilities of a batch of windows.
        batch: windows predicted at once.
        weights, sha256: the file of its weights, and its hash.
        temperature: of its description; the predictions are calibrated by it.
    """

    predict: Predict
    batch: int
    weights: str
    sha256: str
    temperature: float = 1.0


def find_pictures(
    paths: Sequence[Path],
    out: Path,
    format: str,
    recursive: bool = False,
    mosaic: Path | None = None,
) -> list[Path]:
    """The pictures among files and in folders, in order.

    Files in folders that are not pictures are listed on stderr. Hidden files are ignored. With
    `recursive`, subfolders are searched too, except hidden ones, links, and `out`.

    Raises:
        UserError: there are none, two have the same stem (unless they form one `mosaic`), one is
            in the output folder, or a map would replace a file there that no earlier run wrote.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        files = {each: is_picture(each) for each in _files(path, out, recursive)}
        ignored = [str(each.relative_to(path)) for each, fits in files.items() if not fits]
        if ignored:
            line = f"{len(ignored)} files in {path} are not pictures: {some(ignored)}"
            print(f"predict: {ascii_controls(line)}", file=sys.stderr)
        if not any(files.values()):
            deeper = "" if recursive else "; --recursive searches its subfolders too"
            raise UserError(f"{path} has no pictures{deeper}")
        found += [each for each, fits in files.items() if fits]
    by_stem: dict[str, Path] = {}
    names = [mosaic.name] if mosaic else [path.stem for path in found]
    for path in found:
        if path.parent.resolve() == out.resolve():
            raise UserError(f"{path} is in the output folder. Choose another --out.")
        stem = path.stem.casefold()  # some file systems ignore case
        if not mosaic and by_stem.setdefault(stem, path) is not path:
            raise UserError(
                f"{by_stem[stem]} and {path} would produce files with the same names. Map them "
                "to two folders."
            )
    maps = (RoadMapFiles.named(out, name, format) for name in names)
    others = [path for files in maps for path in in_the_way(files.with_sidecars(), files.facts)]
    refuse_to_replace(others, "predict")
    return found


def _files(folder: Path, out: Path, recursive: bool) -> Iterator[Path]:
    for directory, folders, names in os.walk(folder):
        inside = sorted(folders) if recursive else []
        folders[:] = [
            name
            for name in inside
            if not name.startswith(".") and Path(directory, name).resolve() != out.resolve()
        ]
        for name in sorted(names):
            path = Path(directory, name)
            if path.is_file() and not name.startswith("."):
                yield path


@dataclass(frozen=True)
class Outcome:
    """The result for a picture: one line, and remarks for the user."""

    line: str
    notes: Sequence[str] = ()
    failed: bool = False


# Calls a function with each picture, like `map`, or in the processes of a cluster.
Spread = Callable[[Callable[[Path], Outcome], Sequence[Path]], Iterable[Outcome]]


def map_roads(
    pictures: Sequence[Path],
    out: Path,
    model: Model,
    options: Options,
    *,
    force: bool,
    spread: Spread = map,
    mosaic: Path | None = None,
) -> None:
    """Map the roads of each picture into the folder `out`; see `find_pictures`.

    With `mosaic`, the pictures are mapped as one with that name. An existing map from the same
    picture, model and options is kept, unless `force` is set; it is an error if its files were
    changed.

    Raises:
        UserError: some pictures failed, each with a line on stderr; or another run is writing to
            `out`.
    """
    failed = 0
    said: set[str] = set()
    with writing_to(out):
        maps = [mosaic] if mosaic else pictures
        members = pictures if mosaic else None
        work = functools.partial(
            map_file, out=out, model=model, options=options, force=force, members=members
        )
        for outcome in spread(work, maps):
            for note in outcome.notes:
                if note not in said:
                    print(f"predict: {ascii_controls(note)}", file=sys.stderr)
                    said.add(note)
            if outcome.failed:
                print(f"error: {ascii_controls(outcome.line)}", file=sys.stderr)
                failed += 1
            else:
                print(ascii_controls(outcome.line))
    if failed:
        raise UserError(f"{failed} of {len(maps)} pictures could not be mapped, see above")


def map_file(
    path: Path,
    *,
    out: Path,
    model: Model,
    options: Options,
    force: bool,
    members: Sequence[Path] | None = None,
) -> Outcome:
    """Map the roads of one picture, or of `members` as one named `path`, unless it is done."""
    name = path.stem if members is None else path.name
    files = RoadMapFiles.named(out, name, options.format)
    notes: list[str] = []
    try:
        made_from = _made_from(path, members, model, options)
        if is_done(files, made_from) and not force:
            return Outcome(f"{path}: already mapped, in {out}")
        opened: AbstractContextManager[Raster]
        if members is None:
            opened = open_raster(path, options.bands, options.crs)
        else:
            opened = open_mosaic(path, members, options.bands, options.crs)
        with opened as raster, finishing(files.facts) as folder:
            unfinished = RoadMapFiles.named(folder, name, options.format)
            notes += [f"{path} {note}" for note in raster.notes]
            metres, gsd = raster.metres, options.gsd
            if gsd is None and raster.to_lonlat is None:
                notes.append(f"{path} {WITHOUT_CRS.format(*metres)}" if metres else ASSUMED)
            elif metres and gsd and raster.to_lonlat is None and _differ(metres, gsd):
                notes.append(
                    f"{path} has pixels of {metres[0]:.4g} × {metres[1]:.4g} in an unknown "
                    f"coordinate system: {gsd:g} m is used, as --gsd says"
                )
            facts = map_picture(raster, unfinished, model, options)
            if facts["imagery_fraction"] and facts["road_fraction"] < 0.001:
                notes.append(FEW_ROADS)
            sizes = {"files": file_sizes(folder)}
            write_json(unfinished.facts, made_from | facts | sizes)
    except (UserError, OSError) as error:
        return Outcome(str(error), notes, failed=True)
    missing = 1 - facts["imagery_fraction"]
    rounded = f"{missing:.1%}" if missing >= 0.001 else "under 0.1%"
    without = f"; {rounded} of the picture has no imagery" if missing else ""
    length = f"{facts['road_km']:.2f} km" if "road_km" in facts else f"{facts['road_px']:,} pixels"
    return Outcome(
        f"{path}: {length} of road, {facts['road_fraction']:.1%} of the imagery"
        f"{without} → {files.overlay}",
        notes,
    )


def map_picture(
    raster: Raster, files: RoadMapFiles, model: Model, options: Options
) -> dict[str, Any]:
    """Write the map of one picture, except the facts, which are returned.

    Raises:
        UserError: the picture is broken or too wide, or its pixels are too large or too small.
    """
    metres = _metres(raster, options.gsd)
    shape = model_shape(raster.shape, metres)
    windows = Windows(options.window, options.overlap, model.batch)
    _check_width(raster, shape, windows)
    small = reduced_shape(raster.shape, OVERLAY_SIDE)
    picture = PictureRows(raster, shape, small)
    road_small = RowResizer(raster.shape, small)
    overlay_rows: list[Image8] = []
    road_pixels = valid_pixels = 0

    bands = files.probability, files.mask
    probability_tiff, mask_tiff = (path.with_suffix(".rows") for path in bands)
    probability_file = RowWriter(probability_tiff, raster, probability=True)
    mask_file = RowWriter(mask_tiff, raster, probability=False)
    for probability, valid in predict_strips(model.predict, picture, raster.shape, shape, windows):
        stored = np.rint(probability * CERTAIN).astype(np.uint16)
        road = (stored >= options.threshold * CERTAIN) & valid
        mask = road * np.uint8(ROAD)
        probability_file.append(stored, valid)
        mask_file.append(mask, valid)
        overlay_rows.extend(road_small.push(mask))
        road_pixels += int(road.sum())
        valid_pixels += int(valid.sum())
    probability_file.close()
    mask_file.close()

    known = (MODEL_METRES, MODEL_METRES) if metres is None else metres
    # Without a coordinate system, the unit of a world file is unknown.
    unit = "m" if options.gsd or (raster.metres and raster.crs) else "px"
    with reading_rows(mask_tiff) as read_mask, reading_rows(probability_tiff) as read_probability:

        def read_road(top: int, bottom: int) -> Bool:
            return read_mask(top, bottom) > 0

        graph = trace_roads(
            read_road,
            read_probability,
            raster.height,
            raster.width,
            metres=known,
            spur=options.spur,
            tolerance=options.tolerance,
            join=options.join,
        )
        widths = road_widths(graph.edges, read_road, raster.shape, known, options.tolerance)
    draw_overlay(files.overlay, raster, picture.thumbnail(), np.concatenate(overlay_rows), graph)
    if unit == "px":
        widths /= np.sqrt(known[0] * known[1])
    if unit == "px" or raster.to_lonlat:
        graph = measured(graph, raster.to_lonlat)
    roads = Roads(graph, widths, unit)
    write_geojson(files.centrelines, roads, raster.to_lonlat)
    write_geopackage(files.geopackage, roads, raster.transform, raster.crs)
    if options.polygons:
        pixel = known[0] * known[1] if unit == "m" else 1.0
        add_areas(files.geopackage, mask_tiff, raster.transform, raster.crs, pixel, unit)
    if options.html:
        with reading_rows(probability_tiff) as read_probability:
            size = known if unit == "m" else None
            layer = road_layer(graph, in_metres=unit == "m")
            write_page(files.page, raster, read_probability, size, [layer])
    for tiff, path in zip((probability_tiff, mask_tiff), bands, strict=True):
        convert(tiff, path, raster)
    length = sum(edge.length for edge in graph.edges)
    return {
        "height": raster.height,
        "width": raster.width,
        "crs": raster.crs.to_string() if raster.crs else None,
        "metres_per_row": metres and round(metres[0], 6),
        "metres_per_column": metres and round(metres[1], 6),
        "imagery_fraction": round(valid_pixels / (raster.height * raster.width), 6),
        "road_fraction": round(road_pixels / valid_pixels, 6) if valid_pixels else 0.0,
        **({"road_km": round(length / 1000, 4)} if unit == "m" else {"road_px": round(length)}),
        "roads": len(graph.edges),
    }


def predict_strips(
    predict: Predict, picture: PictureRows, source: Shape, shape: Shape, windows: Windows
) -> Iterator[tuple[Float32, Bool]]:
    """Predict a picture of height and width `source`, resampled to `shape` for the net.

    Yields:
        Strips from top to bottom, in the picture's own pixels: the probability, (n, width)
        float32, 0 where imagery is missing or blank; and where it is not, (n, width) bool.
    """
    rows_of_windows = len(spread_starts(shape[0], windows.size, windows.overlap))
    back = RowResizer(shape, source)
    blank_back = RowResizer(shape, source, nearest=True)
    finished = predict_rows(skip_blank(predict), picture.read, *shape, windows)
    step = strip_rows(shape[1])
    for rows in progress(finished, "mapping roads", rows_of_windows):
        for top in range(0, len(rows), step):
            strip = rows[top : top + step]
            blank = picture.take_blank(len(strip))
            parts = zip(back.push(strip), blank_back.push(blank.view(np.uint8)), strict=True)
            for probability, empty in parts:
                valid = ~(picture.take_missing(len(probability)) | (empty > 0))
                yield probability * valid, valid


def skip_blank(predict: Predict) -> Predict:
    """A `Predict` that returns 0 for all-white windows without running the net."""

    def predict_some(images: Image8) -> Float32:
        some = (images != 255).any(axis=(1, 2, 3))
        probabilities = np.zeros(images.shape[:3], np.float32)
        if some.any():
            probabilities[some] = predict(images[some])
        return probabilities

    return predict_some


def model_shape(shape: Shape, metres: tuple[float, float] | None) -> Shape:
    """Height and width of a picture in the model's pixels; unchanged if these have its size."""
    if metres is None or not _differ(metres, MODEL_METRES):
        return shape
    height, width = (
        max(1, round(n * size / MODEL_METRES)) for n, size in zip(shape, metres, strict=True)
    )
    return height, width


def _differ(metres: tuple[float, float], gsd: float) -> bool:
    return any(abs(each / gsd - 1) > SAME for each in metres)


def _metres(raster: Raster, gsd: float | None) -> tuple[float, float] | None:
    metres, path = raster.metres, raster.path
    way_out = "If that is wrong, set their size with --gsd, or the coordinate system with --crs."
    if raster.to_lonlat:
        way_out = "If that is wrong, correct its coordinate system."
        if metres and gsd and _differ(metres, gsd):
            raise UserError(
                f"{path} is georeferenced with pixels of {metres[0]:.4g} × {metres[1]:.4g} m, but "
                f"--gsd says {gsd:g}. Map it without --gsd."
            )
    elif gsd:
        metres = (gsd, gsd)
    if metres and not all(FINEST <= each <= COARSEST for each in metres):
        raise UserError(
            f"{path} has pixels of {metres[0]:.4g} × {metres[1]:.4g} m: only {FINEST} to "
            f"{COARSEST} m are supported. {way_out}"
        )
    return metres


def _check_width(raster: Raster, shape: Shape, windows: Windows) -> None:
    if shape[1] * windows.size * WINDOW_BYTES > ROW_MEMORY:
        widest = ROW_MEMORY // (windows.size * WINDOW_BYTES)
        raise UserError(
            f"{raster.path} is {shape[1]:,} m wide: with windows of {windows.size}, at most "
            f"{widest:,} are allowed. Use a smaller --window, or map it in parts."
        )


def _made_from(
    path: Path, members: Sequence[Path] | None, model: Model, options: Options
) -> dict[str, Any]:
    """What a road map depends on; files are identified by size and time of modification."""
    if members is None:
        of = _identity(path)
    else:
        of = {"picture": {"name": path.name, "mosaic": [_identity(each) for each in members]}}
    return of | {
        "model": {
            "weights": model.weights,
            "sha256": model.sha256,
            "temperature": model.temperature,
        },
        "options": vars(options),
        "stored_probability_of_1": CERTAIN,
    }


def _identity(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path} is missing; only local files are read, no URLs")
    stat = path.stat()
    return {
        "picture": {"name": path.name, "bytes": stat.st_size, "modified_ns": stat.st_mtime_ns},
        "placed_by": {each.name: each.stat().st_mtime_ns for each in sidecar_files(path.resolve())},
    }
