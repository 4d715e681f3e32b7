"""Compares the prediction of whole tiles with the bare net's forward pass.

Prints seconds for a 1500×1500 tile: for prediction with blended windows as in `evaluate`, for the
bare forward passes over the same windows, and their ratio; for scoring; and for `python -m roads
predict`, from reading the picture to centrelines. Also the process's peak memory. The first two
take turns, so other load on the machine slows both.
"""

import resource
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import parser, save, scratch
from benchmarks.tiles import SIZE, raw_tiles
from roads.__main__ import main as roads
from roads.dataset.tiles import read_pair, read_tiles
from roads.imagery.blank import blank_mask
from roads.mapping.chosen_model import resolve_weights
from roads.metrics.counts import HALF
from roads.metrics.graph_scores import Tracing
from roads.metrics.tile_scores import TileScores
from roads.models.backend import backend_name, device_name, keras
from roads.prediction.blending import Windows, predict_tile, spread_starts
from roads.prediction.folding import load_folded
from roads.prediction.inference import Predictor
from roads.runtime.params import load_params

TILES = 8


def measure(model: keras.Model, windows: Windows, raw: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds to predict, run the bare net, and score a tile, in each round after the first."""
    image, map_ = read_pair(raw, read_tiles(raw)[0])
    starts, side = spread_starts(SIZE, windows.size, windows.overlap), windows.size
    cuts = np.stack([image[y : y + side, x : x + side] for y in starts for x in starts])
    predictor = Predictor(model, windows.batch)
    params = load_params()["evaluate"]
    tracing = Tracing(params["spur"], params["tolerance"], params["join"])
    seconds: dict[str, list[float]] = {"predict": [], "bare": [], "score": []}
    for _ in range(rounds + 1):
        start = time.perf_counter()
        for first in range(0, len(cuts), windows.batch):
            model.predict_on_batch(cuts[first : first + windows.batch])
        bare = time.perf_counter()
        probability = predict_tile(predictor, image, windows)
        predicted = time.perf_counter()
        blank = blank_mask(image)
        TileScores(HALF, tracing).add("tile", probability, map_ > 0, blank, np.zeros_like(blank))
        seconds["bare"].append(bare - start)
        seconds["predict"].append(predicted - bare)
        seconds["score"].append(time.perf_counter() - predicted)
    return {what: times[1:] for what, times in seconds.items()}


def map_seconds(pictures: Sequence[Path], out: Path, weights: Path) -> float:
    """Seconds per picture of `roads predict`, without its start."""

    def run(some: Sequence[Path]) -> float:
        start = time.perf_counter()
        if roads(["predict", *map(str, some), f"--out={out}", f"--model={weights}", "--force"]):
            raise SystemExit("python -m roads predict failed")
        return time.perf_counter() - start

    run(pictures[:1])  # the first run compiles
    alone = run(pictures[:1])
    return (run(pictures) - alone) / (len(pictures) - 1)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--weights", default="massachusetts-cpu", help="a file, or a release")
    options.add_argument("--rounds", type=int, default=5)
    arguments = options.parse_args()
    weights = resolve_weights(arguments.weights)
    model, _ = load_folded(weights)
    params = load_params()
    size, overlap = params["evaluate"]["window"], params["evaluate"]["overlap"]
    batch = max(1, params["evaluate"]["batch_size"] * params["crop"]["size"] ** 2 // size**2)
    with scratch(arguments) as folder:
        raw = raw_tiles(folder, TILES)
        seconds = measure(model, Windows(size, overlap, batch), raw, arguments.rounds)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        pictures = [raw / tile.image.path for tile in read_tiles(raw)]
        mapped = map_seconds(pictures, folder / "maps", weights)
    predict, bare, score = (statistics.median(times) for times in seconds.values())
    ratio = statistics.median(
        fed / alone for fed, alone in zip(seconds["predict"], seconds["bare"], strict=True)
    )
    precision = model.layers[-2].dtype_policy.name
    print(
        f"predict {predict:.2f} s per tile, bare forward passes {bare:.2f} s, ratio {ratio:.3f}; "
        f"scoring {score:.2f} s; peak memory {peak:.0f} MiB; `roads predict` {mapped:.2f} s per "
        f"tile (windows of {size} overlapping by {overlap}, {backend_name()}, {device_name()}, "
        f"{precision})"
    )
    values = {"predict": predict, "bare": bare, "ratio": ratio, "score": score, "map": mapped}
    rounded = {name: round(value, 3) for name, value in values.items()}
    save(arguments, rounded | {
        "peak_mib": round(peak), "device": device_name(), "precision": precision,
    })  # fmt: skip


if __name__ == "__main__":
    main()
