"""The devices that a training runs on: one, or all those of a machine, or of several machines.

Each device holds the whole net and takes its part of every batch, and together they compute what
one would compute of the whole batch, to rounding: the sums of the losses, the statistics of
batch normalization and the gradients are those of the whole batch. JAX computes so of itself;
TensorFlow's replicas each compute their own, and are told here to add them up.
"""

import contextlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from roads.models.backend import backend_name, keras
from roads.models.unet import layers_of
from roads.runtime.errors import UserError
from roads.training.processes import process_count, process_index

REPLICA_STRIDE = 2**24  # each replica's dropout counts its steps from another multiple of this


@dataclass(frozen=True)
class Devices:
    """Where a training runs.

    Attributes:
        count: of devices, those of all processes together.
        strategy: what spreads the net over them: with TensorFlow a MirroredStrategy, with JAX a
            Keras distribution, None for a single device.
        process, processes: which process this is, from 0, and how many there are.
    """

    count: int = 1
    strategy: Any = None
    process: int = 0
    processes: int = 1

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """What is created in it (a net, an optimizer) is on all devices."""
        return self.strategy.scope() if self.strategy else contextlib.nullcontext()

    def running(self) -> contextlib.AbstractContextManager[Any]:
        """What a net is trained in.

        With JAX nothing: the batches are laid on the devices already (`lay`), while Keras would
        lay the last and shorter one of an epoch as it has laid the first.
        """
        return contextlib.nullcontext() if backend_name() == "jax" else self.scope()

    def prepare(self, model: keras.Model) -> None:
        """Make a compiled net, of this scope, compute as one device would."""
        if self.count == 1:
            return
        model.optimizer.build(model.trainable_variables)
        if backend_name() == "tensorflow":
            for layer in layers_of(model, keras.layers.BatchNormalization):
                layer.synchronized = True
            if model.optimizer.global_clipnorm:
                _add_up_before_clipping(model.optimizer, self.count)

    def part(self, rows: NDArray[np.integer]) -> NDArray[np.integer]:
        """This process's rows of a batch; all, where the devices cannot share it evenly."""
        if len(rows) % self.count:
            return rows
        share = len(rows) // self.processes
        return rows[self.process * share :][:share]

    def lay(self, part: NDArray[Any], whole: int) -> Any:
        """With JAX: the batch of `whole` crops of which this process has `part`, on its devices.

        A batch that does not divide evenly is computed by every device, whole.
        """
        import jax

        axes = () if whole % self.count else (self.strategy.batch_dim_name,)
        sharding = jax.sharding.NamedSharding(
            self.strategy.device_mesh.backend_mesh, jax.sharding.PartitionSpec(*axes)
        )
        return jax.make_array_from_process_local_data(sharding, part)


ONE = Devices()


def find_devices(wanted: int | Literal["auto"], batch_size: int) -> Devices:
    """The devices to train on: `wanted` of this machine, or of each where there are several.

    `auto` is all, on a single machine as many as share a batch evenly.

    Raises:
        UserError: there are not so many, or they cannot share a batch evenly.
    """
    names = _names()
    processes = process_count()
    local = len(names) if wanted == "auto" else wanted
    if local > len(names):
        raise UserError(
            f"train.devices is {wanted}, and {backend_name()} sees {_counted(len(names), names)} "
            "here. Lower it, or set it to auto."
        )
    if wanted == "auto" and processes == 1 and batch_size % local:
        local = max(count for count in range(1, local) if batch_size % count == 0)
        print(
            f"training on {local} of {_counted(len(names), names)}: train.batch_size is "
            f"{batch_size}, which more of them cannot share evenly"
        )
    count = local * processes
    if batch_size % count:
        where = f" in {processes} processes" if processes > 1 else ""
        raise UserError(
            f"train.batch_size is {batch_size}: {_counted(count, names)}{where} cannot share it "
            f"evenly. Set it to a multiple of {count}, or set train.devices."
        )
    if count == 1:
        return ONE
    return Devices(count, _strategy(names[:local], processes), process_index(), processes)


def over_replicas(sums: list[Any]) -> list[Any]:
    """Sums over a replica's part of a batch, added up over all replicas; differentiable."""
    context = _replicas()
    return context.all_reduce("SUM", sums) if context else sums


def replica_share(loss: Any) -> Any:
    """A replica's share of the loss of a whole batch: Keras adds the shares up."""
    context = _replicas()
    return loss / context.num_replicas_in_sync if context else loss


def seed_replicas(state: Any, seed: int) -> None:
    """Set the state of a dropout; on each of TensorFlow's replicas to other numbers.

    (Else all would drop the same pixels of their crops.)
    """
    state.assign(np.array([seed, 0], np.uint32))
    for replica, copy in enumerate(getattr(state.value, "values", ())):
        copy.assign(np.array([seed, replica * REPLICA_STRIDE], np.uint32))


def _add_up_before_clipping(optimizer: keras.optimizers.Optimizer, replicas: int) -> None:
    """Have TensorFlow clip the gradient of the whole batch, not that of each replica's part.

    Keras clips what each replica has, then adds up. Given their mean, and told to clip at a
    share of the norm, it does what one device does.
    """
    apply = optimizer.apply_gradients
    optimizer.global_clipnorm /= replicas

    def apply_mean(pairs: Any) -> Any:
        gradients, variables = zip(*pairs, strict=True)
        context = _replicas()
        mean = context.all_reduce("MEAN", list(gradients)) if context else gradients
        return apply(zip(mean, variables, strict=True))

    optimizer.apply_gradients = apply_mean


def _replicas() -> Any:
    """TensorFlow's context of this replica; None where there is only one."""
    if backend_name() != "tensorflow":
        return None
    import tensorflow

    context = tensorflow.distribute.get_replica_context()
    return context if context and context.num_replicas_in_sync > 1 else None


def _names() -> list[str]:
    """The devices of this process: its GPUs, or where it has none its processor."""
    if backend_name() == "tensorflow":
        import tensorflow

        devices = tensorflow.config.list_logical_devices
        return [device.name for device in devices("GPU") or devices("CPU")]
    if backend_name() == "jax":
        import jax

        return [f"{device.platform}:{device.id}" for device in jax.local_devices()]
    return ["one"]


def _strategy(names: list[str], processes: int) -> Any:
    """What spreads a net over these devices, and as many of each other process."""
    if backend_name() == "tensorflow":
        import tensorflow

        return tensorflow.distribute.MirroredStrategy(names)
    import jax

    everywhere = [
        f"{device.platform}:{device.id}"
        for process in range(processes)
        for device in jax.local_devices(process)[: len(names)]
    ]
    return keras.distribution.DataParallel(devices=everywhere, auto_shard_dataset=False)


def _counted(count: int, names: list[str]) -> str:
    kind = "GPU" if "gpu" in names[0].lower() else "device"
    return f"{count} {kind}{'' if count == 1 else 's'}"
