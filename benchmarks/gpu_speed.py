"""Our net on a GPU beside a hand-written JAX loop and PyTorch, in crops per second.

Of ours: training end to end by `roads.training.fit.fit` from packed files, the bare step on a batch
that lies on the device, prediction end to end from crops in memory, and the bare forward pass.
The same net, batch, loss and precision for all; PyTorch compiled, with channels last. All take
turns, each peer in a process of its own, and one computes at a time. (On a CPU it only shows
that it works.)
"""

import os

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the peers need memory too
os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers import Peer
from benchmarks.report import parser, save
from roads.dataset.packs import PackReader, pack_writer
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.parallel.pool import worker_count
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.prediction.folding import fold
from roads.prediction.inference import Predictor
from roads.runtime.params import read_section
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.fit import compile_model, fit
from roads.training.losses import make_loss

LOSS = "soft_dice"
VALID = 2  # batches
NEEDS = {
    ("jax", "cpu"): "import jax",
    ("jax", "cuda"): "import jax; jax.devices('gpu')",
    ("torch", "cpu"): "import torch",
    ("torch", "cuda"): "import torch; torch.zeros(1).cuda()",
}
TITLES = {
    "fit": "ours, end to end",
    "fit_whole": "ours, with validation and backup",
    "predictor": "ours, end to end",
    "bare": "ours, bare",
    "jax": "hand-written JAX",
    "torch": "PyTorch",
}
Run = Callable[[], float]  # does its share of a round, and returns the seconds it took


class Bare:
    """Our training step and forward pass, over and over on the same batch."""

    def __init__(self, net: UnetParams, precision: str, images: Any, masks: Any, others: Any):
        self.model = build_unet(net, precision)
        compile_model(self.model, make_loss(LOSS), keras.optimizers.Adam(1e-3))
        self.folded = fold(self.model, net)
        self.images, self.masks, self.others = images, masks, others
        if backend_name() == "jax":
            self._prepare_jax()

    def _prepare_jax(self) -> None:
        """Take the state out of the model, as Keras' own training does, and compile."""
        import jax

        model = self.model
        model.optimizer.build(model.trainable_variables)
        model.compute_metrics(None, self.masks, np.zeros(self.masks.shape, np.float32))
        model.reset_metrics()
        kinds = (
            model.trainable_variables,
            model.non_trainable_variables,
            model.optimizer.variables,
            model.metrics_variables,
        )
        self.state = tuple([jax.numpy.array(v.value) for v in variables] for variables in kinds)
        folded = self.folded
        self.weights = tuple(
            [jax.numpy.array(v.value) for v in variables]
            for variables in (folded.trainable_variables, folded.non_trainable_variables)
        )
        self.images, self.masks, self.others = map(
            jax.device_put, (self.images, self.masks, self.others)
        )
        self._step = jax.jit(model.train_step, donate_argnums=0)
        self._forward = jax.jit(lambda weights, images: folded.stateless_call(*weights, images)[0])

    def train(self, steps: int) -> float:
        """Seconds of so many steps."""
        start = time.perf_counter()
        for _ in range(steps):
            if backend_name() == "jax":
                logs, self.state = self._step(self.state, (self.images, self.masks))
            else:
                self.model.train_on_batch(self.images, self.masks)
        if backend_name() == "jax":
            logs["loss"].block_until_ready()
        return time.perf_counter() - start

    def predict(self, steps: int) -> float:
        """Seconds of so many forward passes."""
        start = time.perf_counter()
        for _ in range(steps):
            if backend_name() == "jax":
                found = self._forward(self.weights, self.others)
            else:
                self.folded.predict_on_batch(self.others)
        if backend_name() == "jax":
            found.block_until_ready()
        return time.perf_counter() - start


class TakeTurns(keras.callbacks.Callback):
    """Times the epochs of a training, and before each of them runs all others."""

    def __init__(self, others: dict[str, Run]):
        super().__init__()
        self.others = others
        self.start = 0.0
        self.seconds: dict[str, list[float]] = {name: [] for name in ("fit", "fit_whole", *others)}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch > 0:
            self.seconds["fit_whole"].append(time.perf_counter() - self.start)
        for name, run in self.others.items():
            self.seconds[name].append(run())
        self.start = time.perf_counter()

    def on_test_begin(self, logs: Any = None) -> None:
        self.model.trainable_variables[-1].numpy()  # waits for the last step
        self.seconds["fit"].append(time.perf_counter() - self.start)

    def rounds(self) -> dict[str, list[float]]:
        """The seconds of the epochs that came after the first and were followed by another."""
        return {
            name: seconds[1:] if name == "fit_whole" else seconds[1:-1]
            for name, seconds in self.seconds.items()
        }


def time_training(
    folder: Path,
    net: UnetParams,
    precision: str,
    options: argparse.Namespace,
    others: dict[str, Run],
) -> dict[str, list[float]]:
    """Seconds of each round of `options.steps` batches, by what was run."""
    batch, size = options.train_batch, options.size
    draw = np.random.default_rng(0)
    counts = {"train": options.steps, "valid": VALID, "test": 0}
    with pack_writer(folder, {split: n * batch for split, n in counts.items()}, size) as writer:
        for split, batches in counts.items():
            for _ in range(batches):
                images = draw.integers(0, 256, (batch, size, size, 3), np.uint8)
                writer.append(split, images, (images[..., 0] > 240).astype(np.uint8))
    recipe = read_section(TrainParams, "train").model_copy(
        update={
            "loss": LOSS,
            "epochs": options.rounds + 2,
            "early_stopping_patience": 0,
            "batch_size": batch,
        }
    )
    augmentation = read_section(AugmentParams, "augment")
    turns = TakeTurns(others)
    with PackReader(folder) as pack:
        fit(
            build_unet(net, precision),
            CropBatches(pack, "train", batch, seed=0, augmentation=augmentation),
            CropBatches(pack, "valid", batch),
            recipe,
            backup=Backup(folder, "backup"),
            callbacks=[turns],
        )
    return turns.rounds()


def time_prediction(others: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Seconds of each round after the first, by what was run."""
    found = [{name: run() for name, run in others.items()} for _ in range(rounds + 1)]
    return {name: [each[name] for each in found[1:]] for name in others}


def summary(seconds: dict[str, list[float]], batch: int, steps: int, ours: str) -> dict[str, Any]:
    """Crops per second, medians of the rounds; ratios of speeds round by round.

    Args:
        seconds: by what was run, as many numbers for each.
        ours: which of them is ours end to end.
    """

    def ratio(one: str, other: str) -> float:
        pairs = zip(seconds[one], seconds[other], strict=True)
        return round(statistics.median(b / a for a, b in pairs), 3)

    medians = {name: statistics.median(values) for name, values in seconds.items()}
    values: dict[str, Any] = {
        "batch": batch,
        "steps": steps,
        "crops_per_second": {
            name: round(batch * steps / median, 2) for name, median in medians.items()
        },
        "over_bare": ratio(ours, "bare"),
        "seconds": {name: [round(value, 4) for value in each] for name, each in seconds.items()},
    }
    peers = [name for name in ("jax", "torch") if name in seconds]
    if peers:
        fastest = min(peers, key=lambda name: medians[name])
        values["fastest_peer"] = fastest
        values["over_peer"] = ratio(ours, fastest)
        values["bare_over_peer"] = ratio("bare", fastest)
    return values


def start_peers(
    options: argparse.Namespace, net: UnetParams, precision: str
) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers that can run here, and why the others cannot."""
    device = "cpu" if device_name() == "CPU" else "cuda"
    words = [
        f"--device={device}",
        f"--train-batch={options.train_batch}",
        f"--predict-batch={options.predict_batch}",
        f"--crops={options.train_batch * options.steps}",
        f"--size={options.size}",
        f"--filters={net.filters}",
        f"--dropout={net.dropout}",
        *(["--bfloat16"] if precision == "mixed_bfloat16" else []),
    ]
    own = {
        "jax": [],
        "torch": [f"--threads={worker_count()}", f"--compile={options.torch_compile}"],
    }
    pythons = {"jax": Path(sys.executable), "torch": options.python}
    peers, missing = {}, {}
    for name, python in pythons.items():
        why = complaint([str(python), "-c", NEEDS[name, device]])
        if why:
            missing[name] = why
            print(f"without {name}: {why}", flush=True)
        else:
            peers[name] = Peer(python, f"{name}_net.py", [*words, *own[name]])
    return peers, missing


def complaint(command: list[str]) -> str | None:
    """The last line of what a command says as it fails; None if it does not."""
    try:
        answer = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        return str(error)
    lines = answer.stderr.split("\n") if answer.returncode else []
    return next((line for line in reversed(lines) if line.strip()), "failed") if lines else None


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    precision = resolve_precision(options.precision)
    net = read_section(UnetParams, "unet").model_copy(
        update={
            "filters": options.filters,
            "depth": 5,
            "activation": "elu",
            "normalization": "batch",
            "encoder": "plain",
        }
    )
    steps, size = options.steps, options.size
    peers, missing = start_peers(options, net, precision)
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (options.train_batch, size, size, 3), np.uint8)
    crops = draw.integers(0, 256, (options.predict_batch * steps, size, size, 3), np.uint8)
    masks = (images[..., :1] > 240).astype(np.uint8)
    bare = Bare(net, precision, images, masks, crops[: options.predict_batch])
    predictor = Predictor(fold(build_unet(net, precision), net), options.predict_batch)
    parameters = {name: peer.facts["parameters"] for name, peer in peers.items()}
    parameters["ours"] = bare.model.count_params()
    if len(set(parameters.values())) > 1:
        raise SystemExit(f"the nets have different numbers of parameters: {parameters}")

    def predict_crops() -> float:
        start = time.perf_counter()
        predictor(crops)
        return time.perf_counter() - start

    def runs(what: str, own: Callable[[int], float]) -> dict[str, Run]:
        def of(peer: Peer) -> Run:
            return lambda: peer.seconds(what, steps)

        return {"bare": lambda: own(steps)} | {name: of(peer) for name, peer in peers.items()}

    training = time_training(folder, net, precision, options, runs("train", bare.train))
    prediction = {"predictor": predict_crops} | runs("predict", bare.predict)
    predicting = time_prediction(prediction, options.rounds)
    for peer in peers.values():
        peer.close()
    return {
        "device": device_name(),
        "backend": backend_name(),
        "precision": precision,
        "filters": net.filters,
        "size": size,
        "dropout": net.dropout,
        "parameters": parameters["ours"],
        "rounds": options.rounds,
        "peers": {name: peer.facts for name, peer in peers.items()},
        "missing": missing,
        "torch_compile": options.torch_compile,
        "train": summary(training, options.train_batch, steps, "fit"),
        "predict": summary(predicting, options.predict_batch, steps, "predictor"),
    }


def show(values: dict[str, Any]) -> None:
    """Print a short table."""
    for what in ("train", "predict"):
        found = values[what]
        print(f"\n{what}, batches of {found['batch']}, {values['precision']}, {values['device']}")
        for name, speed in found["crops_per_second"].items():
            print(f"  {TITLES[name]:34}{speed:12.1f} crops/s")
        print(f"  {'end to end over bare':34}{found['over_bare']:12.3f}")
        if "fastest_peer" in found:
            peer = TITLES[found["fastest_peer"]]
            print(f"  {'end to end over ' + peer:34}{found['over_peer']:12.3f}")
            print(f"  {'bare over ' + peer:34}{found['bare_over_peer']:12.3f}")


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--python", type=Path, default=Path(sys.executable), help="of an environment with torch"
    )
    options.add_argument("--train-batch", type=int, default=32)
    options.add_argument("--predict-batch", type=int, default=64)
    options.add_argument("--filters", type=int, default=16)
    options.add_argument("--size", type=int, default=256, help="of a crop, in pixels")
    options.add_argument("--steps", type=int, default=128, help="batches a round")
    options.add_argument("--rounds", type=int, default=5, help="after one that warms up")
    options.add_argument(
        "--precision", choices=("auto", "float32", "mixed_bfloat16"), default="auto"
    )
    options.add_argument(
        "--torch-compile",
        default="none" if device_name() == "CPU" else "reduce-overhead",
        help="mode of torch.compile, or none (default here: %(default)s)",
    )
    arguments = options.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        values = measure(Path(folder), arguments)
    save(arguments, values)
    show(values)


if __name__ == "__main__":
    main()
