"""Compares training with the bare training step.

Prints crops/s of training from the packed file (with reading, callbacks and backup, without
validation), of the bare step on a batch in memory, and their ratio. They take turns, epoch by
epoch, so other load on the machine slows both.
"""

import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.bare import SIZE, Bare
from benchmarks.report import parser, save, scratch
from roads.dataset.packs import PackReader, pack_writer
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.runtime.params import read_section
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.fit import fit


class TakeTurns(keras.callbacks.Callback):
    """Times each epoch, and before it the same number of bare steps."""

    def __init__(self, bare: Bare, steps: int):
        super().__init__()
        self.bare, self.steps = bare, steps
        self.seconds: list[tuple[float, float]] = []  # of each epoch, and of its bare steps
        self.start = self.aside = self.bare_seconds = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch > 0:
            fed = time.perf_counter() - self.start - self.aside
            self.seconds.append((fed, self.bare_seconds))
        self.bare_seconds = self.bare.seconds("train", self.steps)
        self.start, self.aside = time.perf_counter(), 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        self.model.trainable_variables[-1].numpy()  # waits for the last step
        self.aside -= time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self.aside += time.perf_counter()


def measure(folder: Path, batch: int, steps: int, rounds: int) -> tuple[float, float]:
    """Crops/s of training and of the bare step, medians over the rounds after the first."""
    draw = np.random.default_rng(0)
    with pack_writer(folder, {"train": steps * batch, "valid": batch, "test": 0}, SIZE) as writer:
        for split in ["valid", *["train"] * steps]:
            images = draw.integers(0, 256, (batch, SIZE, SIZE, 3), np.uint8)
            writer.append(split, images, (images[..., 0] > 240).astype(np.uint8))
    unet, precision = read_section(UnetParams, "unet"), resolve_precision("auto")
    turns = TakeTurns(Bare(unet, precision, {"train": batch, "predict": 1}), steps)
    with PackReader(folder) as pack:
        fit(
            build_unet(unet, precision),
            CropBatches(pack, "train", batch, seed=0),
            CropBatches(pack, "valid", batch),
            read_section(TrainParams, "train").model_copy(
                update={"loss": "soft_dice", "epochs": rounds + 2, "early_stopping_patience": 0}
            ),
            backup=Backup(folder, "backup"),
            callbacks=[turns],
        )
    fed, bare = map(statistics.median, zip(*turns.seconds[1:], strict=True))
    return batch * steps / fed, batch * steps / bare


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--batch", type=int, default=4)
    options.add_argument("--steps", type=int, default=25, help="steps per round")
    options.add_argument("--rounds", type=int, default=4)
    arguments = options.parse_args()
    with scratch(arguments) as folder:
        fed, bare = measure(folder / "feed", arguments.batch, arguments.steps, arguments.rounds)
    precision = resolve_precision("auto")
    print(
        f"train {fed:.2f} crops/s, bare step {bare:.2f} crops/s, ratio {fed / bare:.3f} "
        f"({backend_name()}, {device_name()}, {precision})"
    )
    values = {"train": round(fed, 2), "bare": round(bare, 2), "ratio": round(fed / bare, 3)}
    facts = {"device": device_name(), "precision": precision, "batch": arguments.batch}
    save(arguments, values | facts)


if __name__ == "__main__":
    main()
