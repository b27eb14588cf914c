"""One optimiser step, compiled once: the microbatched gradient of the mean loss over the tokens of the global batch.

Read `make_train_step` first: it builds the step. `train_program` builds the step of a run.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.batch_rows import num_row_shards, row_sharding
from lossline_jax.distributed.layout import ROW_AXES, check_microbatch, rows_per_device
from lossline_jax.distributed.mesh import on_cpu
from lossline_jax.distributed.sharding import manual_partition_specs, replicated, uses_fsdp
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.train.optimiser import make_optimiser, make_schedule
from lossline_jax.train.state import TrainState, abstract_state, state_shardings

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


Scalar = TypeVar("Scalar", jax.Array, float)


class StepMetrics(NamedTuple, Generic[Scalar]):
    """Scalars of one step, measured before its update: float32 arrays on the devices, or floats on the host.

    Attributes:
        loss_nats_per_token: nats_sum / weight_sum.
        nats_sum: sum of nll x weight over the global batch, in nats.
        weight_sum: sum of the weights over the global batch.
        grad_norm: global norm of the gradient, before clipping.
        learning_rate: the learning rate that the update uses.
    """

    loss_nats_per_token: Scalar
    nats_sum: Scalar
    weight_sum: Scalar
    grad_norm: Scalar
    learning_rate: Scalar


TrainStep = Callable[[TrainState, TrainingBatch], tuple[TrainState, StepMetrics[jax.Array]]]


def make_train_step(
    model: Model,
    optimiser: optax.GradientTransformation,
    learning_rate: optax.Schedule,
    abstract: TrainState,
    *,
    batch_size: int,
    context_length: int,
    execution: ExecutionConfig,
    mesh: Mesh,
) -> TrainStep:
    """Build the jitted step. Call the step under `jax.set_mesh(mesh)`; it donates the state it is given.

    The loss is sum(nll x weight) / sum(weight) over the global batch, in float32. It does not depend on how the rows
    are divided over devices and microbatches.

    Args:
        model: the model.
        optimiser: makes the updates.
        learning_rate: schedule over optax's count; used for the metrics only.
        abstract: the state as `abstract_state` returns it.
        batch_size: sequences of the global batch.
        context_length: tokens of a sequence.
        execution: gives the microbatch size and the sharding of parameters.
        mesh: a real mesh, or an abstract one for compilation alone.

    Raises:
        LosslineError: the devices or the microbatches do not divide the rows.
    """
    num_micro = microbatches_per_device(batch_size, context_length, execution, mesh)
    nats_and_gradient = _nats_and_gradient(model, mesh, num_micro, uses_fsdp(mesh, execution.fsdp))

    def train_step(state: TrainState, batch: TrainingBatch) -> tuple[TrainState, StepMetrics[jax.Array]]:
        nats_sum, grads = nats_and_gradient(state.params, batch)
        weight_sum = jnp.sum(batch.weights_BT, dtype=jnp.float32)
        grads = jax.tree.map(lambda grad: grad / weight_sum, grads)
        updates, opt_state = optimiser.update(grads, state.opt_state, state.params)
        metrics = StepMetrics(
            loss_nats_per_token=nats_sum / weight_sum,
            nats_sum=nats_sum,
            weight_sum=weight_sum,
            grad_norm=optax.tree.norm(grads),
            learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
        )
        params: Any = optax.apply_updates(state.params, updates)
        return TrainState(state.step + 1, params, opt_state), metrics

    shardings = state_shardings(abstract)
    return jax.jit(
        train_step,
        in_shardings=(shardings, row_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


def _nats_and_gradient(
    model: Model, mesh: Mesh, num_micro: int, fsdp: bool
) -> Callable[[Params, TrainingBatch], tuple[jax.Array, Params]]:
    """Build the function that returns the sum of nats over the global batch, and its gradient."""

    def nats(params: Params, batch: TrainingBatch) -> jax.Array:
        nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT, batch.segments_BT)
        return jnp.sum(nll_BT * batch.weights_BT, dtype=jnp.float32)

    def over_microbatches(params: Params, batch: TrainingBatch) -> tuple[jax.Array, Params]:
        """Sum over the rows of one device, one microbatch at a time."""
        if num_micro == 1:
            return jax.value_and_grad(nats)(params, batch)

        def add(sums: Any, micro: TrainingBatch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, jax.value_and_grad(nats)(params, micro)), None

        micros = jax.tree.map(lambda rows: rows.reshape(num_micro, -1, *rows.shape[1:]), batch)
        zeros = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, zeros, micros)[0]

    specs = manual_partition_specs(model.axes(), fsdp)

    def over_devices(params: Params, batch: TrainingBatch) -> tuple[jax.Array, Params]:
        """Sum over the rows of this device, then over all devices: once per step, not once per microbatch."""
        nats_sum, grads = over_microbatches(params, batch)
        if num_row_shards(mesh) == 1:  # XLA refuses a psum over one device if the compiler places another mesh axis
            return nats_sum, grads
        # `fsdp.gather_parameter` has already summed the gradient of each sharded parameter over the axis `data`.
        sharded = jax.tree.map(lambda grad, spec: grad if "data" in spec else None, grads, specs)
        unsharded = jax.tree.map(lambda grad, spec: None if "data" in spec else grad, grads, specs)
        nats_sum, unsharded = jax.lax.psum((nats_sum, unsharded), ROW_AXES)
        sharded = jax.lax.psum(sharded, "slice")
        grads = jax.tree.map(lambda a, b: b if a is None else a, sharded, unsharded, is_leaf=lambda leaf: leaf is None)
        return nats_sum, grads

    # The compiler places the axis `model`. Models make scan carries from zeros, which the varying-axes check refuses.
    return jax.shard_map(
        over_devices,
        mesh=mesh,
        in_specs=(specs, P(ROW_AXES)),
        out_specs=(P(), specs),
        axis_names=set(ROW_AXES),
        check_vma=False,
    )


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


class TrainProgram(NamedTuple):
    """The jitted step of a run, its optimiser, and its abstract state (`state.abstract_state`)."""

    step: TrainStep
    optimiser: optax.GradientTransformation
    abstract: TrainState


def train_program(run: RunConfig, model: Model, execution: ExecutionConfig, mesh: Mesh) -> TrainProgram:
    """Build the compiled training step of a run.

    Args:
        run: the run.
        model: its model.
        execution: gives the microbatch size and the sharding of parameters.
        mesh: a real mesh, or an abstract one for compilation alone.

    Raises:
        LosslineError: a constant is out of range, or the mesh does not divide the rows or the parameters.
    """
    schedule = make_schedule(run.schedule, run.optim.learning_rate, run.num_steps)
    optimiser = make_optimiser(run.optim, schedule, model.weight_decay_mask())
    abstract = abstract_state(model, optimiser, mesh, execution.fsdp)
    step = make_train_step(
        model,
        optimiser,
        schedule,
        abstract,
        batch_size=run.batch_size,
        context_length=run.context_length,
        execution=execution,
        mesh=mesh,
    )
    return TrainProgram(step, optimiser, abstract)
