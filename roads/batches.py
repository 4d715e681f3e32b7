"""Packed crops as batches, in an order that depends on the seed and the epoch alone."""

import math
from typing import Any

import numpy as np

from roads.backend import backend_name, keras
from roads.losses import IGNORED
from roads.packs import IMAGE_CHANNELS, PackReader
from roads.tiles import Image8, blank_mask

READ_AHEAD = 2  # batches


class CropBatches(keras.utils.PyDataset):
    """Reads a batch at a time from the packed files, so that data larger than memory trains.

    Batches are uint8; the net scales and converts them, which is faster than here.
    """

    def __init__(
        self,
        pack: PackReader,
        split: str,
        batch_size: int,
        seed: int | None = None,
        *,
        ignore_blank: bool = False,
    ):
        """Take the crops of `split`: in their order, or shuffled anew each epoch by `seed`.

        Every crop is used; the last batch is shorter where they don't divide evenly. With
        `ignore_blank` the masks are IGNORED where imagery is missing.
        """
        super().__init__()
        self.pack, self.split, self.batch_size, self.seed = pack, split, batch_size, seed
        self.ignore_blank = ignore_blank
        self.order = np.arange(pack.rows(split))

    def set_epoch(self, epoch: int) -> None:
        """Draw the order of an epoch, counted from 0."""
        if self.seed is not None:
            self.order = np.random.default_rng([self.seed, epoch]).permutation(len(self.order))

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Image8, Image8]:
        """Batch `index`: images (n, size, size, 3) and masks (n, size, size, 1).

        Masks are 0 and 1, or IGNORED.
        """
        start = index * self.batch_size
        images, masks = self.pack.read(self.split, self.order[start : start + self.batch_size])
        if self.ignore_blank:
            for image, mask in zip(images, masks, strict=True):
                mask[blank_mask(image)] = IGNORED
        return images, masks

    def feed(self) -> Any:
        """What to give to Keras' `fit`: these batches, on TensorFlow read ahead by a thread.

        Keras would do that too, but lets tf.data tune it, and at the end of many an epoch
        waits more than a second for the tuner's thread.
        """
        if backend_name() != "tensorflow":
            return self
        import tensorflow

        shape = (None, self.pack.size, self.pack.size)
        signature = tuple(
            tensorflow.TensorSpec((*shape, channels), tensorflow.uint8)
            for channels in (IMAGE_CHANNELS, 1)
        )
        batches = tensorflow.data.Dataset.from_generator(
            lambda: (self[index] for index in range(len(self))), output_signature=signature
        )
        options = tensorflow.data.Options()
        options.autotune.enabled = False
        known_length = tensorflow.data.experimental.assert_cardinality(len(self))
        return batches.prefetch(READ_AHEAD).apply(known_length).with_options(options)


def background_per_road(batches: CropBatches) -> float:
    """How many background pixels there are for one of road; 1 where there is no road at all."""
    road = background = 0
    for index in range(len(batches)):
        _, masks = batches[index]
        road += int((masks == 1).sum())
        background += int((masks == 0).sum())
    return background / road if road and background else 1.0
