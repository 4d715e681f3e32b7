"""Packed crops as batches, in an order that depends only on the seed and the epoch."""

import functools
import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from roads.dataset.packs import PackReader
from roads.imagery.blank import blank_mask
from roads.models.backend import backend_name, keras
from roads.params.augment import AugmentParams
from roads.runtime.arrays import Image8
from roads.training.augment import augment, draw
from roads.training.devices import ONE, Devices
from roads.training.losses import IGNORED
from roads.training.processes import add_up, process_count, process_index

READ_AHEAD = 2  # batches


class Batch(NamedTuple):
    """Crops as packed, and the random values to augment them with.

    Attributes:
        images: (n, size, size, 3) uint8.
        masks: (n, size, size, 1) uint8, 0 and 1 or IGNORED.
        drawn: a Drawn, (n,) each; () without augmentation.
    """

    images: Image8
    masks: Image8
    drawn: Any


class CropBatches(keras.utils.PyDataset):
    """Reads one batch at a time from the packed files, which may be larger than memory.

    Batches are uint8; it is faster to let the net scale and convert them.
    """

    def __init__(
        self,
        pack: PackReader,
        split: str,
        batch_size: int,
        seed: int | None = None,
        *,
        ignore_blank: bool = False,
        augmentation: AugmentParams | None = None,
        devices: Devices = ONE,
    ):
        """Take the crops of `split`, in order, or shuffled in each epoch if there is a `seed`.

        In order, the last batch may be shorter. Shuffled, every crop comes `augmentation.repeats`
        times per epoch, and the last batch is filled up with crops of the first, since another
        batch size would need another compilation. With `ignore_blank`, masks are IGNORED where
        imagery is missing. `augmentation` needs a seed and differs from epoch to epoch. Keras'
        `fit` gets its batches on `devices`.
        """
        super().__init__()
        self.pack, self.split, self.batch_size, self.seed = pack, split, batch_size, seed
        self.ignore_blank = ignore_blank
        self.augmentation = augmentation if augmentation and augmentation.active else None
        self.repeats = augmentation.repeats if augmentation else 1
        self.devices = devices
        self.count = pack.rows(split)
        self.set_epoch(0)

    def set_epoch(self, epoch: int) -> None:
        """Draw the order and the augmentation of an epoch, counted from 0.

        `order` holds rows: i + count, i + 2 count and so on are also row i of the split, each
        augmented differently.
        """
        if self.seed is None:
            self.order = np.arange(self.count)
            return
        random = np.random.default_rng([self.seed, epoch])
        passes = [random.permutation(self.count) + i * self.count for i in range(self.repeats)]
        whole = math.ceil(self.count * self.repeats / self.batch_size) * self.batch_size
        self.order = np.resize(np.concatenate(passes), whole)
        if self.augmentation:
            drawn = self.count * self.repeats
            self._drawn = draw(self.augmentation, self.pack.size, drawn, self.seed, epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def rows(self, index: int) -> NDArray[np.integer]:
        """The rows of batch `index`."""
        return self.order[index * self.batch_size :][: self.batch_size]

    def drawn(self, rows: NDArray[np.integer]) -> Any:
        """The random values for these rows in this epoch, as in Batch."""
        return self._drawn.of(rows) if self.augmentation else ()

    def read(self, rows: NDArray[np.integer]) -> Batch:
        """Read these rows as packed, with IGNORED where the label is noted as wrong."""
        images, masks = self.pack.read(self.split, rows % self.count)
        for row, mask in zip(rows % self.count, masks, strict=True):
            for box in self.pack.ignored(self.split, int(row)):
                mask[box] = IGNORED
        if self.ignore_blank:
            for image, mask in zip(images, masks, strict=True):
                mask[blank_mask(image)] = IGNORED
        return Batch(images, masks, self.drawn(rows))

    def augmented(self, rows: NDArray[np.integer]) -> tuple[Image8, Image8]:
        """Images (n, side, side, 3) and masks (n, side, side, 1) of these rows, augmented."""
        images, masks = self._augment(self.read(rows))
        return np.asarray(images), np.asarray(masks)

    @functools.cached_property
    def _augment(self) -> Any:
        """A function that augments a Batch of any backend's tensors."""
        params = self.augmentation
        if params is None:
            return lambda batch: (batch.images, batch.masks)

        def apply(batch: Batch) -> Any:
            return augment(*batch, params)

        if backend_name() != "jax":
            return apply
        import jax

        return jax.jit(apply)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Batch `index`, augmented, on the devices; each of several processes reads its part."""
        rows = self.rows(index)
        images, masks = self.augmented(self.devices.part(rows))
        return self.devices.place(images, len(rows)), self.devices.place(masks, len(rows))

    def feed(self) -> Any:
        """The input for Keras' `fit`: these batches, read ahead by a thread on TensorFlow.

        Keras can read ahead too, but lets tf.data tune it, and at the end of many epochs waits
        more than a second for the tuner's thread.
        """
        if backend_name() != "tensorflow":
            return self
        import tensorflow

        def batches() -> Any:
            return (self.read(self.rows(index)) for index in range(len(self)))

        def specification(values: NDArray[Any]) -> Any:
            return tensorflow.TensorSpec((None, *values.shape[1:]), values.dtype)

        options = tensorflow.data.Options()
        options.autotune.enabled = False
        return (
            tensorflow.data.Dataset.from_generator(
                batches,
                output_signature=tensorflow.nest.map_structure(specification, next(batches())),
            )
            .map(self._augment)
            .prefetch(READ_AHEAD)
            .apply(tensorflow.data.experimental.assert_cardinality(len(self)))
            .with_options(options)
        )


def background_per_road(batches: CropBatches) -> float:
    """The number of background pixels per road pixel; 1 if there is no road."""
    values = np.zeros(256, np.int64)  # number of pixels of each value
    starts = range(0, batches.count, batches.batch_size)
    for start in starts[process_index() :: process_count()]:
        rows = np.arange(start, min(start + batches.batch_size, batches.count))
        values += np.bincount(batches.read(rows).masks.ravel(), minlength=256)
    background, road = map(int, add_up(values)[:2])
    return background / road if road and background else 1.0
