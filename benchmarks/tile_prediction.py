"""How much of the bare net's speed is left when whole tiles are predicted.

Prints seconds for a 1500×1500 tile: predicted by blended windows as `evaluate` does, the bare
forward passes over the same windows, and their ratio; then seconds to score it, and the
process's peak memory. Both predictions take turns, so that whatever else runs on the machine
slows both.
"""

import resource
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.report import parser, save
from roads.imagery.blank import blank_mask
from roads.metrics.counts import HALF
from roads.metrics.graph_scores import Tracing
from roads.metrics.tile_scores import TileScores
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.params.unet import UnetParams
from roads.prediction.blending import Windows, predict_tile, spread_starts
from roads.prediction.folding import fold, load_folded
from roads.prediction.inference import Predictor
from roads.runtime.arrays import Image8
from roads.runtime.params import load_params
from roads.sources.sample import generate

TILE = 1500  # pixels


def choose_windows() -> Windows:
    """The windows that `evaluate` takes with params.yaml as it is."""
    params = load_params()
    size, crop = params["evaluate"]["window"], params["crop"]["size"]
    batch = max(1, params["evaluate"]["batch_size"] * crop**2 // size**2)
    return Windows(size, params["evaluate"]["overlap"], batch)


def cut_batches(image: Image8, windows: Windows) -> list[Image8]:
    """The windows that `predict_tile` goes over, in full batches."""
    starts = spread_starts(TILE, windows.size, windows.overlap)
    cuts = [
        image[top : top + windows.size, left : left + windows.size]
        for top in starts
        for left in starts
    ]
    return [
        np.stack(cuts[first : first + windows.batch])
        for first in range(0, len(cuts), windows.batch)
    ]


def measure(model: keras.Model, windows: Windows, rounds: int) -> dict[str, list[float]]:
    """Seconds to predict, to run the bare net, and to score a tile, in each round but a first."""
    image, map_ = generate(0, TILE, "test", 0)
    batches = cut_batches(image, windows)
    predictor = Predictor(model, windows.batch)
    params = load_params()["evaluate"]
    tracing = Tracing(params["spur"], params["tolerance"])
    seconds: dict[str, list[float]] = {"predict": [], "bare": [], "score": []}
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for batch in batches:
            model.predict_on_batch(batch)
        bare = time.perf_counter()
        probability = predict_tile(predictor, image, windows)
        predicted = time.perf_counter()
        TileScores(HALF, tracing).add("tile", probability, map_ > 0, blank_mask(image))
        seconds["bare"].append(bare - start)
        seconds["predict"].append(predicted - bare)
        seconds["score"].append(time.perf_counter() - predicted)
    return {what: times[1:] for what, times in seconds.items()}


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--weights", type=Path, help="a .weights.h5 file; by default fresh ones")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    if arguments.weights:
        model, _ = load_folded(arguments.weights)
    else:
        unet = UnetParams(**load_params()["unet"])
        model = fold(build_unet(unet, resolve_precision("auto")), unet)
    windows = choose_windows()
    seconds = measure(model, windows, arguments.rounds)
    predict, bare, score = (statistics.median(times) for times in seconds.values())
    ratio = statistics.median(
        fed / alone for fed, alone in zip(seconds["predict"], seconds["bare"], strict=True)
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"predict {predict:.2f} s a tile, bare forward passes {bare:.2f} s, ratio "
        f"{ratio:.3f}; scoring {score:.2f} s; peak memory {peak:.0f} MiB "
        f"(windows of {windows.size} overlapping by {windows.overlap}, {backend_name()}, "
        f"{device_name()}, {model.layers[-2].dtype_policy.name})"
    )
    values = {"predict": predict, "bare": bare, "ratio": ratio, "score": score, "peak_mib": peak}
    save(
        arguments,
        {name: round(value, 3) for name, value in values.items()}
        | {"device": device_name(), "precision": model.layers[-2].dtype_policy.name},
    )


if __name__ == "__main__":
    main()
