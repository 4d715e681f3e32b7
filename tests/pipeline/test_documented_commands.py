"""The commands of README and docs, run page by page in a copy of the project."""

import ast
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import rasterio
from pyogrio.raw import write
from rasterio.transform import from_origin
from shapely import LineString, to_wkb

from roads.imagery.pictures import read_image
from roads.sources import sample
from tests.project import ROOT, SMALL, code_blocks, copy_project, run

pytestmark = pytest.mark.soak

# Commands that are not run here; docs/development.md says how each of them was tried.
ELSEWHERE = re.compile(
    r"massachusetts$|massachusetts |make (repro|test|check|soak)|pip (install|download)"
    r"|srun|ROADS_PROCESS|ROADS_COORDINATOR|dask|parallel\.scheduler|s3://|ssh://"
    r"|benchmarks\.(gpu_run|release|ladder)|compare_lock|roads run encoder"
)
COMMANDS = re.compile(r"(dvc|roads|make|git|python|export|TF_NUM_INTRAOP_THREADS\S*) ")
PAGES = [
    *("README", "article", "mapping", "compare", "own-tiles", "metrics"),
    *("results", "scaling", "troubleshooting"),
]
SIZE = SMALL["sample"]["size"]
SHELL = """set -eux
export PYTHONPATH=$PWD
make() { command make --old-file=.venv/pipeline "$@"; }
roads() {
  case "$*" in
    "run released"*) python -m roads "$@" ;;
    run*) python -m roads "$@" train.epochs=1 train.batch_size=2 unet.filters=2 augment.repeats=1 ;;
    *) python -m roads "$@" ;;
  esac
}
"""


def write_tiff(path: Path, pixels: np.ndarray, left: float = 0) -> None:
    """A GeoTIFF of 1 m pixels in the zone of the Massachusetts Roads Dataset."""
    path.parent.mkdir(exist_ok=True)
    bands = np.atleast_3d(pixels).transpose(2, 0, 1)
    with rasterio.open(
        path, "w", "GTiff", pixels.shape[1], pixels.shape[0], len(bands), "EPSG:26986",
        from_origin(left, SIZE, 1, 1), "uint8",
    ) as file:  # fmt: skip
        file.write(bands)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that ran once, with the pictures that the pages map."""
    folder = copy_project(tmp_path_factory.mktemp("project"))
    run(folder, "dvc", "repro")
    run(folder, "git", "add", "--all")
    run(folder, "git", "commit", "--quiet", "--message=first run")
    (folder / "absolute").mkdir()
    sample.fetch(folder / "absolute/path", **SMALL["sample"] | {"seed": 2})
    (image,) = (folder / "absolute/path/test/sat").iterdir()
    pixels = read_image(image)
    write_tiff(folder / "town.tif", pixels)
    for number in range(2):
        write_tiff(folder / f"tiles/{number}.tif", pixels, left=number * SIZE)
    (folder / "photos").mkdir()
    shutil.copy(image, folder / "photos")
    street = LineString([(0, SIZE / 2), (SIZE, SIZE / 2)])
    write(
        folder / "streets.gpkg", to_wkb([street]), [], [], geometry_type="LineString",
        crs="EPSG:26986",
    )  # fmt: skip
    with (folder / ".git/info/exclude").open("a", encoding="utf-8") as excluded:
        excluded.write(
            "/absolute/\n/town.tif\n/tiles/\n/photos/\n/streets.gpkg\n/maps/\n/comparison/\n"
        )
        excluded.write("/labels/\n/10978795_15.tif\n/town.png\n/roads.onnx\n")
    return folder


def script(page: Path) -> tuple[str, str]:
    """What a page has of commands, and of Python."""
    blocks = code_blocks(page)
    shell = [block.replace("\\\n", " ") for block in blocks if COMMANDS.match(block)]
    lines = [line for line in "".join(shell).splitlines() if not ELSEWHERE.search(line)]
    python = [block for block in blocks if not COMMANDS.match(block) and _parses(block)]
    return "\n".join(lines), "".join(python) if any("import" in block for block in python) else ""


def _parses(block: str) -> bool:
    try:
        ast.parse(block)
    except SyntaxError:
        return False
    return True


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_run(project: Path, name: str) -> None:
    page = ROOT / "README.md" if name == "README" else ROOT / f"docs/{name}.md"
    commands, python = script(page)
    if name == "compare":
        shutil.copy(project / "town.tif", project / "10978795_15.tif")
        (label,) = (project / "absolute/path/test/map").iterdir()
        write_tiff(project / "labels/10978795_15.tif", read_image(label)[:, :, 0])
        commands = f"roads predict 10978795_15.tif --out maps\n{commands}"
    if name == "mapping":
        (image,) = (project / "photos").iterdir()
        shutil.copy(image, project / "town.png")
    run(project, "git", "restore", "-SW", ".")  # what the page before left
    run(project, "dvc", "checkout", "--force", "--quiet")
    for old, new in (("/absolute/path", f"{project}/absolute/path"), ("/mnt", f"{project}/maps")):
        commands = commands.replace(old, new)
    shown = run(project, "bash", "-c", f"{SHELL}{commands}")
    assert "Traceback" not in shown.stderr
    if python:
        run(project, "python", "-c", python)
