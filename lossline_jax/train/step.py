"""One optimiser step, compiled once: a microbatched gradient of the mean over the tokens of the global batch.

Read `make_train_step` first, which is the step; `train_program` makes the step of a run.
"""

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
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

# On CPU, activations that outgrow the caches cost up to half of the step, and single sequences a sixth to a quarter
# of it whatever their length. Of 2 and 4 sequences, 512 tokens were best at contexts 128 and 256 (widths 64 and 128).
CPU_MICROBATCH_TOKENS = 512
CPU_MIN_MICROBATCH = 2  # where it divides the rows


class TrainingBatch(Protocol):
    """A global batch that a step trains on: a pytree of arrays, such as `data.batches.Batch`."""

    @property
    def tokens_BT(self) -> np.ndarray | jax.Array:
        """int32 inputs."""

    @property
    def targets_BT(self) -> np.ndarray | jax.Array:
        """int32, the next token of each input."""

    @property
    def weights_BT(self) -> np.ndarray | jax.Array:
        """float32 weight of each target in the loss; 0: the target is not trained on."""

    @property
    def segments_BT(self) -> np.ndarray | jax.Array | None:
        """int32 numbers of the documents that the model keeps apart; None: one document a row."""


Scalar = TypeVar("Scalar", jax.Array, float)


class StepMetrics(NamedTuple, Generic[Scalar]):
    """Scalars of one step before its update: float32 arrays on the devices, then floats on the host."""

    loss_nats_per_token: Scalar  # nats_sum / weight_sum
    nats_sum: Scalar
    weight_sum: Scalar
    grad_norm: Scalar  # global, before clipping
    learning_rate: Scalar  # that the update uses


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
    """The jitted step; call it under `jax.set_mesh(mesh)`. The state given to it is donated.

    The loss is sum(nll x weight) / sum(weight) over the global batch in float32, however the rows lie on
    devices and microbatches.

    Raises:
        LosslineError: rows that the devices or the microbatches do not divide.
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
        return TrainState(state.step + 1, optax.apply_updates(state.params, updates), opt_state), metrics

    placed = state_shardings(abstract)
    return jax.jit(
        train_step,
        in_shardings=(placed, row_sharding(mesh)),
        out_shardings=(placed, replicated(mesh)),
        donate_argnums=0,
    )


def _nats_and_gradient(
    model: Model, mesh: Mesh, num_micro: int, fsdp: bool
) -> Callable[[Params, TrainingBatch], tuple[jax.Array, Params]]:
    """Build the function that sums nats over the global batch, and differentiates the sum by the parameters."""

    def nats(params: Params, batch: TrainingBatch) -> jax.Array:
        nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT, batch.segments_BT)
        return jnp.sum(nll_BT * batch.weights_BT, dtype=jnp.float32)

    def over_microbatches(params: Params, batch: TrainingBatch) -> tuple[jax.Array, Params]:
        """Go through the rows of one device, a microbatch at a time."""
        if num_micro == 1:
            return jax.value_and_grad(nats)(params, batch)

        def add(sums: Any, micro: TrainingBatch) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, jax.value_and_grad(nats)(params, micro)), None

        micros = jax.tree.map(lambda rows: rows.reshape(num_micro, -1, *rows.shape[1:]), batch)
        zeros = (jnp.zeros((), jnp.float32), jax.tree.map(jnp.zeros_like, params))
        return jax.lax.scan(add, zeros, micros)[0]

    specs = manual_partition_specs(model.axes(), fsdp)

    def over_devices(params: Params, batch: TrainingBatch) -> tuple[jax.Array, Params]:
        """Sum over the rows of this device, then over all devices: once a step, not once a microbatch."""
        nats_sum, grads = over_microbatches(params, batch)
        if num_row_shards(mesh) == 1:  # XLA refuses a sum over one device beside axes that it places itself
            return nats_sum, grads
        # The model has summed the gradient of a parameter that is split over `data` over that axis
        # (`fsdp.gather_parameter`).
        split = jax.tree.map(lambda grad, spec: grad if "data" in spec else None, grads, specs)
        whole = jax.tree.map(lambda grad, spec: None if "data" in spec else grad, grads, specs)
        nats_sum, whole = jax.lax.psum((nats_sum, whole), ROW_AXES)
        split = jax.lax.psum(split, "slice")
        grads = jax.tree.map(lambda grad, other: other if grad is None else grad, split, whole, is_leaf=_is_none)
        return nats_sum, grads

    # Axis `model` stays with the compiler. Models make scan carries from zeros, hence no varying-axes check.
    return jax.shard_map(
        over_devices,
        mesh=mesh,
        in_specs=(specs, P(ROW_AXES)),
        out_specs=(P(), specs),
        axis_names=set(ROW_AXES),
        check_vma=False,
    )


def _is_none(leaf: Any) -> bool:
    return leaf is None


def microbatches_per_device(batch_size: int, context_length: int, execution: ExecutionConfig, mesh: Mesh) -> int:
    """Return the number of microbatches in which each device goes through its rows of a batch.

    Raises:
        LosslineError: rows that the devices or the microbatches do not divide.
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
    """The jitted step of a run, and what its state is made of."""

    step: TrainStep
    optimiser: optax.GradientTransformation
    abstract: TrainState  # as of `state.abstract_state`


def train_program(run: RunConfig, model: Model, execution: ExecutionConfig, mesh: Mesh) -> TrainProgram:
    """Build the compiled training step of a run. The mesh may be real or an abstract one used only for compilation.

    Raises:
        LosslineError: constants out of range, or rows or parameters that the mesh does not divide.
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
