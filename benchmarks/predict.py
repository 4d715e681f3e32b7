"""How long `python -m roads predict` takes for a picture, and how much memory.

Maps a picture of repeated generated tiles (or a given picture) and prints seconds for the whole
road map, for the bare forward passes over the same windows, and their ratio, which take turns;
and the process's peak memory. With `--bright` the picture is of the tiles' maps, and the net sees
single pixels: as many roads to trace, in a picture too large for a real net's time.
"""

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import rasterio
from rasterio.windows import Window

from roads.mapping.outputs import RoadMapFiles, finishing
from roads.mapping.predicting import Model, Options, map_picture
from roads.mapping.rasters import open_raster, quiet_gdal
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.params.unet import UnetParams
from roads.prediction.blending import spread_starts
from roads.prediction.folding import fold, load_folded
from roads.prediction.inference import Predictor
from roads.runtime.params import load_params
from roads.sources.sample import generate

TILE = 1500  # pixels
DIM = 200  # of 255; white would be missing imagery


def brightness_net() -> keras.Model:
    """A net without weights: road is as probable as a pixel is bright."""
    image = keras.Input((None, None, 3), dtype="uint8")
    values = keras.ops.cast(image, "float32")
    return keras.Model(image, keras.ops.mean(values, axis=-1, keepdims=True) / 255)


def write_picture(path: Path, side: int, bright: bool) -> None:
    """A striped GeoTIFF of repeated generated tiles, or of their maps."""
    image, map_ = generate(0, TILE, "test", 0)
    if bright:
        image = np.repeat(map_[..., None] // 255 * np.uint8(DIM), 3, axis=2)
    across = np.moveaxis(np.tile(image, (1, -(-side // TILE), 1))[:, :side], 2, 0)
    shape = {"height": side, "width": side, "count": 3, "dtype": "uint8"}
    place = {"crs": "EPSG:32619", "transform": rasterio.Affine(1, 0, 3e5, 0, -1, 4.69e6)}
    with quiet_gdal(), rasterio.open(path, "w", driver="GTiff", **shape, **place) as dataset:
        for top in range(0, side, TILE):
            rows = min(TILE, side - top)
            dataset.write(across[:, :rows], window=Window(0, top, side, rows))


def run_bare(net: keras.Model, height: int, width: int, options: Options, batch: int) -> float:
    """Seconds of the net alone over as many windows."""
    down, across = (
        len(spread_starts(side, options.window, options.overlap)) for side in (height, width)
    )
    windows = np.zeros((batch, options.window, options.window, 3), np.uint8)
    start = time.perf_counter()
    for _ in range(-(-down * across // batch)):
        net.predict_on_batch(windows)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, help="a .weights.h5 file; by default fresh ones")
    parser.add_argument("--bright", action="store_true", help="a net that sees single pixels")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--side", type=int, default=TILE, help="of a generated picture, pixels")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    params = load_params()
    if arguments.bright:
        net = brightness_net()
    elif arguments.weights:
        net, _ = load_folded(arguments.weights)
    else:
        unet = UnetParams(**params["unet"])
        net = fold(build_unet(unet, resolve_precision("auto")), unet)
    options = Options(
        gsd=None, threshold=0.5, window=params["evaluate"]["window"],
        overlap=params["evaluate"]["overlap"], tta=False, format="tif", spur=15.0, tolerance=1.5,
    )  # fmt: skip
    model = Model(Predictor(net, arguments.batch), arguments.batch, "", "")
    bare, whole = [], []
    with tempfile.TemporaryDirectory() as folder:
        picture = arguments.picture
        if picture is None:
            picture = Path(folder) / "picture.tif"
            write_picture(picture, arguments.side, arguments.bright)
        files = RoadMapFiles.named(Path(folder), "roads", "tif")
        for number in range(arguments.rounds + 1):
            with open_raster(picture) as raster, finishing(files) as unfinished:
                height, width = raster.shape
                alone = run_bare(net, height, width, options, arguments.batch)
                start = time.perf_counter()
                facts = map_picture(raster, unfinished, model, options)
                if number or arguments.rounds == 0:  # the first compiles
                    whole.append(time.perf_counter() - start)
                    bare.append(alone)
    ratio = statistics.median(map(lambda one, other: one / other, whole, bare))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{width}×{height}: {statistics.median(whole):.2f} s a picture, bare forward passes "
        f"{statistics.median(bare):.2f} s, ratio {ratio:.3f}; peak memory {peak:.0f} MiB; "
        f"{facts['road_km']:.1f} km of road (net of {net.count_params():,} numbers, batches of "
        f"{arguments.batch}, {backend_name()}, {device_name()})"
    )


if __name__ == "__main__":
    main()
