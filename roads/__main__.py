"""`roads predict`, `compare`, `export`, `run` and `verify`; also `python -m roads`."""

import argparse
import contextlib
import functools
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from roads.runtime.errors import UserError, exit_status

if TYPE_CHECKING:
    from roads.params.evaluate import EvaluateParams

Number = TypeVar("Number", int, float)

DEFAULT_THRESHOLD = 0.5


def main(words: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="roads", description="Roads in aerial images")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_predict(commands)
    add_compare(commands)
    add_export(commands)
    add_run(commands)
    add_verify(commands)
    arguments = parser.parse_args(words)
    return exit_status(lambda: arguments.run(arguments))


def add_predict(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `predict`; slow imports wait until it runs."""
    command = commands.add_parser(
        "predict",
        help="map the roads in pictures",
        description="Map the roads in pictures: probability, mask, overlay and centrelines.",
    )
    command.set_defaults(run=predict)
    add = command.add_argument
    add("images", nargs="+", type=Path, metavar="IMAGE", help="a picture, or a folder of them")
    add("--recursive", action="store_true", help="include subfolders")
    add("--mosaic", action="store_true", help="map georeferenced neighbours as one picture")
    add("--out", type=Path, required=True, metavar="DIR", help="the output folder")
    add(
        "--model",
        help="a weights file, its folder, or a released name: massachusetts-gpu for places like "
        "Massachusetts (or massachusetts-cpu, twice as fast), massachusetts-deepglobe for others; "
        "default: the pipeline's",
    )
    length = _number(float, "a number above 0", lambda value: 0 < value < math.inf)
    add("--gsd", type=length, metavar="M", help="metres per pixel, if not in the file; default: 1")
    add("--crs", type=_crs, metavar="EPSG:N", help="the coordinate system, if not in the file")
    add("--bands", type=_bands, metavar="R,G,B", help="band numbers; default: as tagged")
    add(
        "--threshold",
        type=_number(float, "a number from 0 to 1", lambda value: 0 <= value <= 1),
        metavar="P",
        help="least probability of road; default: best on validation, or 0.5; imagery unlike the "
        "training's may need a far lower one",
    )
    add("--window", type=int, help="side of the windows in pixels; default: evaluate's")
    add("--overlap", type=int, help="overlap of windows in pixels; default: evaluate's")
    count = _number(int, "a number of at least 1", lambda value: value > 0)
    add("--batch", type=count, help="windows predicted at once; default: 2 on a CPU, 16 on a GPU")
    add("--tta", action="store_true", help="average flips and turns; 8 times slower")
    add("--format", choices=("tif", "png"), default="tif", help="of probability and mask")
    add("--html", action="store_true", help="also write a map for a browser, 1 to 12 MB each")
    add("--polygons", action="store_true", help="also the areas of road, in the GeoPackage")
    add("--spur", type=float, metavar="M", help="prune shorter dead ends; default: evaluate's")
    add(
        "--tolerance",
        type=float,
        metavar="M",
        help="error of simplified lines; default: evaluate's",
    )
    add("--join", type=float, metavar="M", help="join shorter gaps; default: evaluate's")
    add("--force", action="store_true", help="overwrite existing results")


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `compare`."""
    command = commands.add_parser(
        "compare",
        help="list the roads that a map lacks",
        description="Compare predicted roads with a map: what is missing from the map, what was "
        "not seen, and how far apart the others are. A map is GeoJSON, GeoPackage, Shapefile or a "
        "raster.",
    )
    command.set_defaults(run=compare)
    add = command.add_argument
    add("prediction", type=Path, metavar="PREDICTION", help="NAME_roads.geojson, or any map")
    add("reference", type=Path, metavar="REFERENCE", help="the map that may lack roads")
    add("--out", type=Path, required=True, metavar="DIR", help="the folder to write to")
    length = _number(float, "a number above 0", lambda value: 0 < value < math.inf)
    add("--within", type=length, metavar="M", help="metres between matched roads; default: 8")
    add("--layer", metavar="NAME", help="the layer of a file in which several have lines")
    add("--crs", type=_crs, metavar="EPSG:N", help="the coordinate system of files that name none")
    add("--picture", type=Path, metavar="IMAGE", help="draw a map for a browser over this image")
    count = _number(int, "a number of at least 1", lambda value: value > 0)
    add("--chips", type=count, metavar="N", help="cut the first N of both lists from --picture")


def compare(arguments: argparse.Namespace) -> None:
    """`roads compare`; raises a UserError if a file cannot be used."""
    from roads.graph.matching import WITHIN
    from roads.mapping.comparison_files import run_comparison

    if arguments.chips and not arguments.picture:
        raise UserError("--chips needs the picture to cut them from: name it with --picture.")
    run_comparison(
        arguments.prediction,
        arguments.reference,
        arguments.out,
        within=arguments.within or WITHIN,
        crs=arguments.crs,
        layer=arguments.layer,
        picture=arguments.picture,
        chips=arguments.chips or 0,
    )


def add_export(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `export`."""
    command = commands.add_parser(
        "export",
        help="write a net for other programs",
        description="Write a net as an ONNX file, for QGIS (docs/mapping.md) and other programs.",
    )
    command.set_defaults(run=export)
    add = command.add_argument
    add("--onnx", type=Path, required=True, metavar="FILE", help="the file to write")
    add("--model", help="a weights file, its folder, or a released name; default: the pipeline's")
    add("--window", type=int, help="side of the windows in pixels; default: evaluate's")
    add("--overlap", type=int, help="overlap of windows in pixels; default: evaluate's")


def add_run(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `run`."""
    command = commands.add_parser(
        "run",
        help="run a recipe as a DVC experiment",
        description="Run a recipe of recipes/ on top of the committed params.yaml, as a DVC "
        "experiment.",
    )
    command.set_defaults(run=run)
    add = command.add_argument
    add("recipe", metavar="NAME", help="name of a file in recipes/, for example released")
    add("changes", nargs="*", metavar="KEY=VALUE", help="further changes, such as train.epochs=3")
    add("--queue", action="store_true", help="add it to DVC's queue instead of running it")
    add("--temp", action="store_true", help="run it in a temporary folder")


def run(arguments: argparse.Namespace) -> None:
    """`roads run`; raises a UserError as `run_recipe`."""
    from roads.recipes import run_recipe

    options = [f"--{name}" for name in ("queue", "temp") if getattr(arguments, name)]
    run_recipe(arguments.recipe, arguments.changes, options)


def add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare `verify`."""
    command = commands.add_parser(
        "verify",
        help="look for damaged files in DVC's cache, the downloads and the workspace",
        description="Check the hashes of the files in dvc.lock and of the downloads.",
    )
    command.set_defaults(run=verify)
    command.add_argument("--all", action="store_true", help="check every object in DVC's cache")
    command.add_argument("--quarantine", action="store_true", help="move damaged files away")
    command.add_argument("--lock", action="store_true", help="only repair dvc.lock")


def verify(arguments: argparse.Namespace) -> None:
    """`roads verify`; raises a UserError if something is damaged or missing."""
    from roads.verify import look_for_damage, repair_lock

    if arguments.lock:
        repair_lock()
    else:
        look_for_damage(arguments.all, arguments.quarantine)


def predict(arguments: argparse.Namespace) -> None:
    """`roads predict`; raises a UserError if an argument, the model or a picture is invalid."""
    from roads.mapping.predicting import Options, Spread, find_pictures, map_roads

    mosaic = None
    if arguments.mosaic:
        folder: Path = arguments.images[0]
        if folder.name in ("", ".."):
            folder = folder.resolve()
        alone = len(arguments.images) == 1 and folder.is_dir()
        mosaic = folder if alone and folder.name else Path("mosaic")
    pictures = find_pictures(
        arguments.images, arguments.out, arguments.format, arguments.recursive, mosaic
    )
    evaluate = _as_evaluated(arguments)

    from roads.mapping.chosen_model import choose_model, resolve_weights
    from roads.parallel.cluster import on_cluster
    from roads.parallel.pool import read_scheduler

    weights = resolve_weights(arguments.model)
    model = choose_model(weights, evaluate.window, arguments.batch, arguments.tta)
    threshold = arguments.threshold
    if threshold is None:
        threshold = _threshold("predict", weights, model.sha256)
    options = Options(
        gsd=arguments.gsd,
        crs=arguments.crs,
        threshold=threshold,
        window=evaluate.window,
        overlap=evaluate.overlap,
        tta=arguments.tta,
        format=arguments.format,
        spur=evaluate.spur,
        tolerance=evaluate.tolerance,
        join=evaluate.join,
        bands=arguments.bands,
        html=arguments.html,
        polygons=arguments.polygons,
    )
    out: Path = arguments.out
    spread: Spread = map
    scheduler = read_scheduler()
    if scheduler and len(pictures) > 1 and not mosaic:
        pictures, out = [path.absolute() for path in pictures], out.absolute()
        spread = functools.partial(on_cluster, address=scheduler)
    map_roads(pictures, out, model, options, force=arguments.force, spread=spread, mosaic=mosaic)


def export(arguments: argparse.Namespace) -> None:
    """`roads export`; raises a UserError as `export_onnx`, or if there is no such net."""
    evaluate = _as_evaluated(arguments)

    from roads.mapping.chosen_model import check_window, resolve_weights
    from roads.mapping.onnx_export import export_onnx
    from roads.runtime.files import file_hash

    weights = resolve_weights(arguments.model)
    check_window(weights, evaluate.window)
    threshold = _threshold("export", weights, file_hash(weights, "sha256"))
    export_onnx(weights, arguments.onnx, evaluate.window, evaluate.overlap, threshold)
    print(f"{weights} → {arguments.onnx}")


def _threshold(command: str, weights: Path, sha256: str) -> float:
    """The threshold chosen on validation; if there is none, the default, with a message."""
    from roads.mapping.chosen_model import validation_threshold

    threshold = validation_threshold(weights, sha256)
    if threshold is not None:
        return threshold
    print(
        f"{command}: no threshold was chosen on validation for {weights}, "
        f"using {DEFAULT_THRESHOLD}",
        file=sys.stderr,
    )
    return DEFAULT_THRESHOLD


def _as_evaluated(arguments: argparse.Namespace) -> "EvaluateParams":
    """The section `evaluate:` of params.yaml, with changes from the command line."""
    from roads.params.evaluate import EvaluateParams, read_evaluate
    from roads.runtime.params import validated

    values = read_evaluate().model_dump()
    given = {key: value for key, value in vars(arguments).items() if value is not None}
    changed = values | {key: given[key] for key in values.keys() & given.keys()}
    return validated(EvaluateParams, changed, f"roads {arguments.command}")


def _bands(text: str) -> list[int]:
    """An argument type: the numbers, from 1, of one or three bands."""
    with contextlib.suppress(ValueError):
        bands = [int(number) for number in text.split(",")]
        if len(bands) in (1, 3) and min(bands) > 0:
            return bands
    raise argparse.ArgumentTypeError(f"{text} is not one number or three, such as 3,2,1")


def _crs(text: str) -> str:
    """An argument type: a coordinate system by its EPSG number."""
    from rasterio.crs import CRS
    from rasterio.errors import CRSError

    from roads.mapping.opening import quiet_gdal

    with contextlib.suppress(ValueError, CRSError), quiet_gdal():
        authority, number = text.split(":")
        if authority.upper() == "EPSG":
            return str(CRS.from_epsg(int(number)).to_string())
    raise argparse.ArgumentTypeError(f"{text} is not a coordinate system, such as EPSG:26986")


def _number(
    kind: type[Number], rule: str, holds: Callable[[Number], bool]
) -> Callable[[str], Number]:
    """An argument type: a number that satisfies a rule."""

    def parse(text: str) -> Number:
        with contextlib.suppress(ValueError):
            if holds(number := kind(text)):
                return number
        raise argparse.ArgumentTypeError(f"{text} is not {rule}")

    return parse


if __name__ == "__main__":
    sys.exit(main())
