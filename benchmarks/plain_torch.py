"""Our net beside the same one in a plain PyTorch loop: crops trained and predicted per second.

Both have the article's U-Net of 1,946,993 parameters, batches of equal size in memory, Adam, soft
Dice, as many threads, and bfloat16 where ours takes it on this machine (autocast and channels-last
in PyTorch; not compiled). Both predict with batch normalization folded into the convolutions. They
take turns, each in a process of its own.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from benchmarks.report import parser, save
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.parallel.pool import worker_count
from roads.params.unet import UnetParams
from roads.prediction.folding import fold
from roads.runtime.params import read_section
from roads.training.fit import compile_model
from roads.training.losses import make_loss

PARAMETERS = 1_946_993  # the article's
SIZE = 256  # pixels
WHATS = ("train", "predict")


class Ours:
    """One batch for each, and the steps as `train` and `evaluate` run them."""

    def __init__(self, batches: dict[str, int], precision: str):
        self.unet = read_section(UnetParams, "unet")
        self.net = build_unet(self.unet, precision)
        self.folded = fold(self.net, self.unet)
        compile_model(self.net, make_loss("soft_dice"), keras.optimizers.Adam(1e-3))
        draw = np.random.default_rng(0)
        self.images = {
            what: draw.integers(0, 256, (count, SIZE, SIZE, 3), np.uint8)
            for what, count in batches.items()
        }
        self.masks = (self.images["train"][..., :1] > 240).astype(np.uint8)

    def seconds(self, what: str, steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            if what == "train":
                self.net.train_on_batch(self.images[what], self.masks)
            else:
                self.folded.predict_on_batch(self.images[what])
        return time.perf_counter() - start


def measure(python: Path, batches: dict[str, int], steps: int, rounds: int) -> dict[str, Any]:
    """Crops per second, medians over the rounds after the first; ratios round by round."""
    precision = resolve_precision("auto")
    words = [f"--{what}-batch={count}" for what, count in batches.items()]
    words += ["--bfloat16"] if precision == "mixed_bfloat16" else []
    ours = Ours(batches, precision)
    words += [f"--threads={worker_count()}", f"--dropout={ours.unet.dropout}"]
    theirs = Peer(python, "torch_net.py", words)
    for count in (ours.net.count_params(), theirs.facts["parameters"]):
        if count != PARAMETERS:
            raise SystemExit(f"a net has {count} parameters, not {PARAMETERS}")
    values: dict[str, Any] = {
        "precision": precision,
        "backend": backend_name(),
        "device": device_name(),
        "torch": theirs.facts["version"],
        "parameters": PARAMETERS,
    }
    for what, count in batches.items():
        pairs = [
            (ours.seconds(what, steps), theirs.seconds(what, steps)) for _ in range(rounds + 1)
        ]
        crops = count * steps
        values[what] = {
            "batch": count,
            "ours": round(crops / statistics.median(own for own, _ in pairs[1:]), 2),
            "torch": round(crops / statistics.median(other for _, other in pairs[1:]), 2),
            "ratio": round(statistics.median(other / own for own, other in pairs[1:]), 3),
        }
    theirs.close()
    return values


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--python", type=Path, required=True, help="of an environment with torch")
    options.add_argument("--train-batch", type=int, default=4)
    options.add_argument("--predict-batch", type=int, default=16)
    options.add_argument("--steps", type=int, default=8)
    options.add_argument("--rounds", type=int, default=6)
    arguments = options.parse_args()
    batches = {"train": arguments.train_batch, "predict": arguments.predict_batch}
    values = measure(arguments.python, batches, arguments.steps, arguments.rounds)
    print(values)
    save(arguments, values)


if __name__ == "__main__":
    main()
