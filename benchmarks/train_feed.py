"""How much of the bare training step's speed is left when `train` feeds it.

Prints crops/s of training from the packed file (reading, callbacks and backup included,
validation not), of the bare step on a batch in memory, and their ratio; with --augmented every
crop is changed in every way on its way there. Both take turns,
epoch by epoch, so that whatever else runs on the machine slows both.
"""

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import parser, save
from roads.dataset.packs import PackReader, pack_writer
from roads.models.backend import backend_name, device_name, keras, resolve_precision
from roads.models.unet import build_unet
from roads.params.augment import AugmentParams
from roads.params.train import TrainParams
from roads.params.unet import UnetParams
from roads.runtime.params import read_section
from roads.training.backup import Backup
from roads.training.batches import CropBatches
from roads.training.fit import fit

SIZE = 256  # pixels
BATCH = 4
NET = UnetParams(
    filters=16, depth=5, dropout=0.1, activation="elu", normalization="batch", momentum=0.9
)


class TakeTurns(keras.callbacks.Callback):
    """Before each epoch, runs as many bare steps as the epoch has, and times both."""

    def __init__(self, images: Any, masks: Any, steps: int):
        super().__init__()
        self.images, self.masks, self.steps = images, masks, steps
        self.bare: list[float] = []  # seconds
        self.fed: list[float] = []
        self.start = self.aside = 0.0

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if epoch > 0:
            self.fed.append(time.perf_counter() - self.start - self.aside)
        before = time.perf_counter()
        for _ in range(self.steps):
            self.model.train_on_batch(self.images, self.masks)
        self.start, self.aside = time.perf_counter(), 0.0
        self.bare.append(self.start - before)

    def on_test_begin(self, logs: Any = None) -> None:
        self.aside -= time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self.aside += time.perf_counter()


PLAIN = AugmentParams(
    flips=False, turns=False, brightness=0, contrast=0, gamma=0, saturation=0, window=None
)
AUGMENTED = AugmentParams(
    flips=True, turns=True, brightness=0.1, contrast=0.2, gamma=0.2, saturation=0.2, window=SIZE
)


def measure(
    folder: Path, steps: int, rounds: int, size: int, augmentation: AugmentParams
) -> tuple[float, float]:
    """Crops/s of training and of the bare step, medians over the rounds after the first."""
    draw = np.random.default_rng(0)
    with pack_writer(folder, {"train": steps * BATCH, "valid": BATCH, "test": 0}, size) as writer:
        for split, batches in (("train", steps), ("valid", 1)):
            for _ in range(batches):
                images = draw.integers(0, 256, (BATCH, size, size, 3), np.uint8)
                writer.append(split, images, (images[..., 0] > 240).astype(np.uint8))
    with PackReader(folder) as pack:
        model = build_unet(NET, resolve_precision("auto"))
        recipe = read_section(TrainParams, "train").model_copy(
            update={"epochs": rounds + 2, "early_stopping_patience": 0}
        )
        images, masks = pack.read("train", range(BATCH))
        turns = TakeTurns(images[:, :SIZE, :SIZE], masks[:, :SIZE, :SIZE], steps)
        fit(
            model,
            CropBatches(pack, "train", BATCH, seed=0, augmentation=augmentation),
            CropBatches(pack, "valid", BATCH),
            recipe,
            backup=Backup(folder, "backup"),
            callbacks=[turns],
        )
    crops = steps * BATCH
    fed, bare = turns.fed[1:], turns.bare[1:-1]
    return crops / statistics.median(fed), crops / statistics.median(bare)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--steps", type=int, default=25, help="steps a round")
    options.add_argument("--rounds", type=int, default=4)
    options.add_argument("--augmented", action="store_true", help="everything in `augment:` on")
    options.add_argument("--crop", type=int, default=SIZE, help="packed; with --augmented, larger")
    arguments = options.parse_args()
    augmentation = AUGMENTED if arguments.augmented else PLAIN
    with tempfile.TemporaryDirectory() as folder:
        fed, bare = measure(
            Path(folder), arguments.steps, arguments.rounds, arguments.crop, augmentation
        )
    print(
        f"train {fed:.2f} crops/s, bare step {bare:.2f} crops/s, ratio {fed / bare:.3f} "
        f"({backend_name()}, {device_name()}, {resolve_precision('auto')})"
    )
    values = {"train": round(fed, 2), "bare": round(bare, 2), "ratio": round(fed / bare, 3)}
    facts = {"device": device_name(), "precision": resolve_precision("auto"), "batch": BATCH}
    save(arguments, values | facts)


if __name__ == "__main__":
    main()
