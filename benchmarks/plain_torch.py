"""Compares our net with the same net in a plain PyTorch loop: crops per second.

Both use the article's U-Net of 1,946,993 parameters, batches of the same size in memory, Adam, soft
Dice, the same number of threads, and bfloat16 where ours uses it on this machine (autocast and
channels-last in PyTorch). Both predict with batch normalization folded into the convolutions. They
run in two processes and take turns. On a GPU (`KERAS_BACKEND=jax`, larger batches) PyTorch is
compiled and batches stay on the device.
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs memory too

import json
import statistics
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.bare import Bare
from benchmarks.report import parser, save
from roads.models.backend import backend_name, device_name, resolve_precision
from roads.parallel.pool import worker_count
from roads.params.unet import UnetParams
from roads.runtime.params import read_section

PARAMETERS = 1_946_993  # the article's


class Torch:
    """`torch_net.py` in its own process, which is idle between calls.

    Attributes:
        facts: its parameter count and PyTorch's version.
    """

    def __init__(self, python: Path, settings: Mapping[str, Any]):
        script = Path(__file__).with_name("torch_net.py")
        self.process = subprocess.Popen(
            [python, script, json.dumps(settings)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.facts = self._answer()

    def seconds(self, what: str, steps: int) -> float:
        print(what, steps, file=self.process.stdin, flush=True)
        return float(self._answer()["seconds"])

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("{"):  # PyTorch's compiler may also print
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit("the PyTorch process ended")


def measure(python: Path, batches: dict[str, int], steps: int, rounds: int) -> dict[str, Any]:
    """Crops per second, medians over the rounds after the first; ratios are taken per round."""
    precision, unet = resolve_precision("auto"), read_section(UnetParams, "unet")
    ours = Bare(unet, precision, batches)
    theirs = Torch(python, batches | {
        "bfloat16": precision == "mixed_bfloat16", "threads": worker_count(),
        "dropout": unet.dropout, "device": "cpu" if device_name() == "CPU" else "cuda",
    })  # fmt: skip
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
    theirs.process.terminate()
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
