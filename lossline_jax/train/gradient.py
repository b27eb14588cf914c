"""The gradient of a loss over the global batch: in microbatches on each device, then one sum over the devices.

Read `make_gradient` first.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.batch_rows import num_row_shards
from lossline_jax.distributed.layout import ROW_AXES, check_microbatch, rows_per_device
from lossline_jax.distributed.mesh import on_cpu
from lossline_jax.distributed.sharding import manual_partition_specs, uses_fsdp
from lossline_jax.models.parameters import Params

# Microbatches on CPU, measured at contexts 128 and 256 with models of widths 64 and 128: 512 tokens were best among
# microbatches of 2 and 4 sequences. Activations that are larger than the caches cost up to half of the step. A
# microbatch of one sequence costs a sixth to a quarter of the step at any length, so there are at least two.
CPU_MICROBATCH_TOKENS = 512
CPU_MIN_MICROBATCH = 2  # sequences, if two divide the rows of a device


class TrainingBatch(Protocol):
    """A global batch that a step trains on: a pytree of arrays on the devices, such as `data.batches.Batch`."""

    @property
    def tokens_BT(self) -> jax.Array:
        """int32 inputs."""
        ...

    @property
    def targets_BT(self) -> jax.Array:
        """int32, the next token of each input."""
        ...

    @property
    def weights_BT(self) -> jax.Array:
        """float32 weight of each target in the loss. 0: the target is not trained on."""
        ...

    @property
    def segments_BT(self) -> jax.Array | None:
        """int32 numbers of the documents that the model keeps apart. None: each row is one document."""
        ...


class LossSums(NamedTuple):
    """Sums over the targets of some rows, each target times its weight. All are float32 scalars.

    Attributes:
        nats: next-token negative log-likelihood, in nats. This is the loss that is logged.
        extra: further sums, by name. A run's log has each of them divided by the sum of the weights.
    """

    nats: jax.Array
    extra: dict[str, jax.Array]


class Randomness(NamedTuple):
    """The randomness of the losses of a step.

    Attributes:
        keys: the random key of the step; for a microbatch, a key for each of its rows.
        fraction_done: float32, the fraction of the run's steps that were done before this one.
    """

    keys: jax.Array
    fraction_done: jax.Array


# The loss of a microbatch: (parameters, rows, randomness or None) -> (the sum that training lowers, sums to report).
# The first is a sum over targets with weights, like the sums of `LossSums`.
MicrobatchLoss = Callable[[Params, TrainingBatch, Randomness | None], tuple[jax.Array, LossSums]]
# (parameters, global batch, randomness or None) -> (sums over the global batch, the gradient of the trained sum)
Gradient = Callable[[Params, TrainingBatch, Randomness | None], tuple[LossSums, Params]]


def make_gradient(
    loss: MicrobatchLoss, axes: dict[str, Any], *, num_micro: int, execution: ExecutionConfig, mesh: Mesh
) -> Gradient:
    """Build the function that returns the sums of a loss over the global batch, and their gradient.

    Neither depends on how the rows are divided over devices and microbatches. A row's random key depends on the key of
    the step and on the number of the row in the global batch alone.

    Args:
        loss: the loss of a microbatch.
        axes: the logical axes of the parameters, as `Model.axes` returns them.
        num_micro: microbatches into which each device divides its rows.
        execution: whether parameters are sharded over the axis `data`.
        mesh: a real mesh, or an abstract one for compilation alone.
    """
    value_and_grad = jax.value_and_grad(loss, has_aux=True)

    def of_rows(params: Params, rows: TrainingBatch, randomness: Randomness | None) -> tuple[LossSums, Params]:
        (_, sums), grads = value_and_grad(params, rows, randomness)
        return sums, grads

    def over_microbatches(
        params: Params, batch: TrainingBatch, randomness: Randomness | None
    ) -> tuple[LossSums, Params]:
        """Sum over the rows of one device, one microbatch at a time."""
        if num_micro == 1:
            return of_rows(params, batch, randomness)

        def add(sums: Any, micro: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, of_rows(params, *micro)), None

        micros = jax.tree.map(lambda rows: rows.reshape(num_micro, -1, *rows.shape[1:]), batch), None
        if randomness is not None:
            keys = randomness.keys.reshape(num_micro, -1)
            micros = micros[0], Randomness(keys, jnp.broadcast_to(randomness.fraction_done, (num_micro,)))
        sums = jax.eval_shape(loss, params, *jax.tree.map(lambda rows: rows[0], micros))[1]
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), (sums, params))
        return jax.lax.scan(add, zeros, micros)[0]

    specs = manual_partition_specs(axes, uses_fsdp(mesh, execution.fsdp))

    def over_devices(params: Params, batch: TrainingBatch, randomness: Randomness | None) -> tuple[LossSums, Params]:
        """Sum over the rows of this device, then over all devices: once per step, not once per microbatch."""
        if randomness is not None:
            randomness = randomness._replace(keys=_row_keys(randomness.keys, batch))
        sums, grads = over_microbatches(params, batch, randomness)
        if num_row_shards(mesh) == 1:  # XLA refuses a psum over one device if the compiler places another mesh axis
            return sums, grads
        # `fsdp.gather_parameter` has already summed the gradient of each sharded parameter over the axis `data`.
        sharded = jax.tree.map(lambda grad, spec: grad if "data" in spec else None, grads, specs)
        unsharded = jax.tree.map(lambda grad, spec: None if "data" in spec else grad, grads, specs)
        sums, unsharded = jax.lax.psum((sums, unsharded), ROW_AXES)
        sharded = jax.lax.psum(sharded, "slice")
        grads = jax.tree.map(lambda a, b: b if a is None else a, sharded, unsharded, is_leaf=lambda leaf: leaf is None)
        return sums, grads

    # The compiler places the axis `model`. Models make scan carries from zeros, which the varying-axes check refuses.
    return jax.shard_map(
        over_devices,
        mesh=mesh,
        in_specs=(specs, P(ROW_AXES), P()),
        out_specs=(P(), specs),
        axis_names=set(ROW_AXES),
        check_vma=False,
    )


def _row_keys(key: jax.Array, batch: TrainingBatch) -> jax.Array:
    """Return a key for each row of this device, from the number of the row in the global batch."""
    num_rows = batch.tokens_BT.shape[0]
    rows_B = jax.lax.axis_index(ROW_AXES) * num_rows + jnp.arange(num_rows)
    return jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, rows_B)


def microbatches_per_device(batch_size: int, context_length: int, execution: ExecutionConfig, mesh: Mesh) -> int:
    """Return the number of microbatches into which each device divides its rows of a batch.

    Args:
        batch_size: sequences of the global batch.
        context_length: tokens of a sequence.
        execution: gives the microbatch size. `microbatch_size=None`: see `CPU_MICROBATCH_TOKENS` on CPU; elsewhere all
            rows of a device are one microbatch.
        mesh: the mesh.

    Raises:
        LosslineError: the devices or the microbatches do not divide the rows.
    """
    local_rows = rows_per_device(batch_size, num_row_shards(mesh))
    return local_rows // _microbatch_size(local_rows, context_length, execution, mesh)


def _microbatch_size(local_rows: int, context_length: int, execution: ExecutionConfig, mesh: Mesh) -> int:
    chosen = execution.microbatch_size
    if chosen is None:
        if not on_cpu(mesh):
            return local_rows
        most = max(CPU_MICROBATCH_TOKENS // context_length, CPU_MIN_MICROBATCH)
        return max(size for size in range(1, most + 1) if local_rows % size == 0)
    check_microbatch(chosen, local_rows)
    return chosen
