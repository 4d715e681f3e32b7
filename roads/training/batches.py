"""Packed crops as batches, in an order that depends on the seed and the epoch alone."""

import functools
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from roads.dataset.packs import IMAGE_CHANNELS, PackReader
from roads.imagery.blank import blank_mask
from roads.models.backend import backend_name, keras
from roads.params.augment import AugmentParams
from roads.runtime.arrays import Image8
from roads.training.augment import Drawn, augment, draw
from roads.training.devices import ONE, Devices
from roads.training.losses import IGNORED
from roads.training.processes import add_up

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
        augmentation: AugmentParams | None = None,
        devices: Devices = ONE,
    ):
        """Take the crops of `split`: in their order, or shuffled anew each epoch by `seed`.

        In their order, the last batch is shorter where they don't divide evenly. Shuffled, every
        crop comes `augmentation.repeats` times an epoch, and the last batch is filled up with
        crops of the first: a step for batches of another size would be compiled, too. With
        `ignore_blank` the masks are IGNORED where imagery is missing. `augmentation` needs a
        seed, and is another one in each epoch. `devices` is where `feed` brings the batches.
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

        `order` holds numbers of crops: row i of the split is also i + count, i + 2 count and so
        on, each time augmented in another way.
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
            self.drawn = draw(self.augmentation, self.pack.size, drawn, self.seed, epoch)

    def __len__(self) -> int:
        return math.ceil(len(self.order) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Image8, Image8]:
        """Batch `index`: images (n, side, side, 3) and masks (n, side, side, 1).

        Masks are 0 and 1, or IGNORED.
        """
        return self._read(self._rows(index))

    def part(self, index: int) -> tuple[Image8, Image8]:
        """Of batch `index` what this process's devices get."""
        return self._read(self.devices.part(self._rows(index)))

    def batch_length(self, index: int) -> int:
        """How many crops batch `index` has."""
        return len(self._rows(index))

    def _rows(self, index: int) -> NDArray[np.integer]:
        return self.order[index * self.batch_size :][: self.batch_size]

    def _read(self, rows: NDArray[np.integer]) -> tuple[Image8, Image8]:
        images, masks, *drawn = self._read_unchanged(rows)
        if self.augmentation:
            images, masks = self._augment(images, masks, Drawn(*drawn))
        return np.asarray(images), np.asarray(masks)

    def unchanged(self, index: int) -> tuple[Any, ...]:
        """Images and masks of a batch as packed, and what is drawn for them (as `Drawn`), if so."""
        return self._read_unchanged(self._rows(index))

    def _read_unchanged(self, rows: NDArray[np.integer]) -> tuple[Any, ...]:
        return (*self.crops(rows), *(self.drawn.of(rows) if self.augmentation else ()))

    def crops(self, rows: NDArray[np.integer]) -> tuple[Image8, Image8]:
        """Images (n, size, size, 3) and masks (n, size, size, 1) of numbers in `order`, as packed.

        Masks are 0 and 1, or IGNORED.
        """
        images, masks = self.pack.read(self.split, rows % self.count)
        if self.ignore_blank:
            for image, mask in zip(images, masks, strict=True):
                mask[blank_mask(image)] = IGNORED
        return images, masks

    @functools.cached_property
    def _augment(self) -> Any:
        assert self.augmentation is not None
        apply = functools.partial(augment, params=self.augmentation)
        if backend_name() != "jax":
            return apply
        import jax

        return jax.jit(apply)

    def feed(self) -> Any:
        """What to give to Keras' `fit`: these batches, on TensorFlow read ahead by a thread.

        Keras would do that too, but lets tf.data tune it, and at the end of many an epoch
        waits more than a second for the tuner's thread.
        """
        if backend_name() != "tensorflow":
            return self if self.devices.count == 1 else _Laid(self)
        import tensorflow

        shape = (None, self.pack.size, self.pack.size)
        signature = [
            tensorflow.TensorSpec((*shape, channels), tensorflow.uint8)
            for channels in (IMAGE_CHANNELS, 1)
        ]
        if self.augmentation:
            signature += [tensorflow.TensorSpec((None,), values.dtype) for values in self.drawn]
        batches = tensorflow.data.Dataset.from_generator(
            lambda: (self.unchanged(index) for index in range(len(self))),
            output_signature=tuple(signature),
        )
        if self.augmentation:
            batches = batches.map(
                lambda images, masks, *drawn: self._augment(images, masks, Drawn(*drawn))
            )
        options = tensorflow.data.Options()
        options.autotune.enabled = False
        known_length = tensorflow.data.experimental.assert_cardinality(len(self))
        return batches.prefetch(READ_AHEAD).apply(known_length).with_options(options)


class _Laid(keras.utils.PyDataset):
    """Batches on several devices of JAX, and maybe of several processes."""

    def __init__(self, batches: CropBatches):
        super().__init__()
        self.batches = batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        whole, place = self.batches.batch_length(index), self.batches.devices.place
        return tuple(place(part, whole) for part in self.batches.part(index))


def background_per_road(batches: CropBatches) -> float:
    """How many background pixels there are for one of road; 1 where there is no road at all."""
    road = background = 0
    process, processes = batches.devices.process, batches.devices.processes
    size = batches.batch_size
    for index in range(process, math.ceil(batches.count / size), processes):
        _, masks = batches.crops(np.arange(batches.count)[index * size :][:size])
        road += int((masks == 1).sum())
        background += int((masks == 0).sum())
    road, background = add_up([road, background])
    return background / road if road and background else 1.0
