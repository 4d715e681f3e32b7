"""The devices to train on: one, or with JAX all devices of one or several machines.

Each device holds the whole net and gets part of every batch. JAX computes the losses, the
statistics of batch normalization and the gradients over the whole batch, so the results are those
of one device, up to floating-point rounding.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roads.models.backend import backend_name, keras
from roads.runtime.errors import UserError
from roads.training.processes import process_count, process_index


@dataclass(frozen=True)
class Devices:
    """Where a training runs.

    Attributes:
        count: of devices in all processes.
        distribution: spreads the net over them; None for a single device.
    """

    count: int = 1
    distribution: keras.distribution.DataParallel | None = None

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which nets and optimizers are created on all devices."""
        return self.distribution.scope() if self.distribution else contextlib.nullcontext()

    def part(self, rows: NDArray[np.integer]) -> NDArray[np.integer]:
        """This process's rows of a batch; all rows if the devices cannot share it evenly."""
        if len(rows) % self.count:
            return rows
        size = len(rows) // process_count()
        return rows[process_index() * size :][:size]

    def place(self, part: NDArray[Any], whole: int) -> Any:
        """Place a batch of `whole` crops, of which this process has `part`, on the devices.

        If it does not divide evenly, every device computes the whole batch. (Keras would place the
        last, shorter batch of an epoch like the first.)
        """
        if self.distribution is None:
            return part
        import jax

        axes = () if whole % self.count else (self.distribution.batch_dim_name,)
        sharding = jax.sharding.NamedSharding(
            self.distribution.device_mesh.backend_mesh, jax.sharding.PartitionSpec(*axes)
        )
        return jax.make_array_from_process_local_data(sharding, part)


ONE = Devices()


def find_devices(wanted: int | Literal["auto"], batch_size: int) -> Devices:
    """The devices to train on: `wanted` of this machine, or of each of several machines.

    `auto` is one device with TensorFlow. With JAX it is all of them, or on a single machine the
    largest number that can share a batch evenly.

    Raises:
        UserError: there are fewer devices, they cannot share a batch evenly, or more than one is
            wanted with TensorFlow.
    """
    there = visible_devices()
    if backend_name() != "jax":
        with_jax = "use JAX: `pip install 'jax[cuda13]'`, then `KERAS_BACKEND=jax dvc repro`"
        if wanted != "auto" and wanted > 1:
            raise UserError(
                f"train.devices is {wanted}, but TensorFlow trains on one. Set train.devices=1, or "
                f"{with_jax}"
            )
        if wanted == "auto" and there > 1:
            print(f"training on 1 of {there} GPUs, as TensorFlow does. For all of them {with_jax}")
        return ONE
    processes = process_count()
    local = there if wanted == "auto" else wanted
    if local > there:
        raise UserError(
            f"train.devices is {wanted}, but JAX sees only {there}. Lower it, or set it to auto."
        )
    if wanted == "auto" and processes == 1 and batch_size % local:
        local = max(count for count in range(1, local) if batch_size % count == 0)
        print(
            f"training on {local} of {there} devices: train.batch_size is {batch_size}, which more "
            "of them cannot share evenly"
        )
    count = local * processes
    if batch_size % count:
        where = f" in {processes} processes" if processes > 1 else ""
        raise UserError(
            f"train.batch_size is {batch_size}: {count} devices{where} cannot share it evenly. Set "
            f"it to a multiple of {count}, or set train.devices."
        )
    return Devices(count, _distribution(local, processes)) if count > 1 else ONE


def visible_devices() -> int:
    """The number of GPUs that this process sees; 1 if there are none."""
    if backend_name() == "jax":
        import jax

        return int(jax.local_device_count())
    if backend_name() == "tensorflow":
        import tensorflow

        return len(tensorflow.config.list_physical_devices("GPU")) or 1
    return 1


def _distribution(local: int, processes: int) -> keras.distribution.DataParallel:
    """A distribution of the net over `local` devices in each of `processes` processes."""
    import jax

    everywhere = [
        f"{device.platform}:{device.id}"
        for process in range(processes)
        for device in jax.local_devices(process)[:local]
    ]
    return keras.distribution.DataParallel(devices=everywhere, auto_shard_dataset=False)
