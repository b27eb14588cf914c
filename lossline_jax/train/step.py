"""One optimiser step, compiled once: the gradient of the mean loss over the tokens of the global batch, and the update.

Read `make_train_step` first: it builds the step. `train_program` builds the step of a run.
"""

import dataclasses
from collections.abc import Callable
from typing import Generic, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.batch_rows import row_sharding
from lossline_jax.distributed.sharding import replicated
from lossline_jax.models.model import Model
from lossline_jax.train.algorithms.algorithm import Algorithm
from lossline_jax.train.algorithms.make import make_algorithm, with_extra
from lossline_jax.train.gradient import Randomness, TrainingBatch, make_gradient, microbatches_per_device
from lossline_jax.train.objectives import microbatch_loss
from lossline_jax.train.optimisers.make import make_update_rule
from lossline_jax.train.optimisers.rule import UpdateRule
from lossline_jax.train.optimisers.schedule import make_schedule
from lossline_jax.train.state import TrainState, abstract_state, state_shardings

LOSS_STREAM = 1  # number of the random stream of the losses, of a run's seed

Scalar = TypeVar("Scalar", jax.Array, float)


class StepMetrics(NamedTuple, Generic[Scalar]):
    """Scalars of one step, measured before its update: float32 arrays on the devices, or floats on the host.

    Attributes:
        loss_nats_per_token: nats_sum / weight_sum.
        nats_sum: sum of nll x weight over the global batch, in nats.
        weight_sum: sum of the weights over the global batch.
        grad_norm: global norm of the gradient, before clipping.
        learning_rate: the learning rate that the update uses.
        extra: scalars that the objective or the algorithm adds to the log of the run, by name.
    """

    loss_nats_per_token: Scalar
    nats_sum: Scalar
    weight_sum: Scalar
    grad_norm: Scalar
    learning_rate: Scalar
    extra: dict[str, Scalar]


TrainStep = Callable[[TrainState, TrainingBatch], tuple[TrainState, StepMetrics[jax.Array]]]


def make_train_step(
    algorithm: Algorithm,
    learning_rate: optax.Schedule,
    abstract: TrainState,
    mesh: Mesh,
    *,
    randomness: Callable[[jax.Array], Randomness] | None = None,
) -> TrainStep:
    """Build the jitted step. Call the step under `jax.set_mesh(mesh)`; it donates the state it is given.

    The loss is sum(nll x weight) / sum(weight) over the global batch, in float32. It does not depend on how the rows
    are divided over devices and microbatches.

    Args:
        algorithm: what a step does with a batch.
        learning_rate: schedule over optax's count; used for the metrics only.
        abstract: the state as `abstract_state` returns it.
        mesh: a real mesh, or an abstract one for compilation alone.
        randomness: number of steps done -> the randomness of the next step. None: the loss of this run is not random.
    """

    def train_step(state: TrainState, batch: TrainingBatch) -> tuple[TrainState, StepMetrics[jax.Array]]:
        weight_sum = jnp.sum(batch.weights_BT, dtype=jnp.float32)
        new_state, outcome = algorithm.update(state, batch, randomness(state.step) if randomness else None)
        new_state = dataclasses.replace(new_state, step=state.step + 1)
        means = {name: value / weight_sum for name, value in outcome.sums.extra.items()}
        metrics = StepMetrics(
            loss_nats_per_token=outcome.sums.nats / weight_sum,
            nats_sum=outcome.sums.nats,
            weight_sum=weight_sum,
            grad_norm=outcome.grad_norm,
            learning_rate=jnp.asarray(learning_rate(state.step), jnp.float32),
            extra=means | outcome.extra,
        )
        return new_state, metrics

    shardings = state_shardings(abstract)
    return jax.jit(
        train_step,
        in_shardings=(shardings, row_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )


class TrainProgram(NamedTuple):
    """The jitted step of a run, its optimiser, its abstract state (`state.abstract_state`) and its algorithm."""

    step: TrainStep
    rule: UpdateRule
    abstract: TrainState
    algorithm: Algorithm


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
    rule = make_update_rule(run.optim, schedule, model)
    abstract = abstract_state(model, rule, mesh, execution.fsdp)
    num_micro = microbatches_per_device(run.batch_size, run.context_length, execution, mesh)
    gradient = make_gradient(
        microbatch_loss(run.objective, model), model.axes(), num_micro=num_micro, execution=execution, mesh=mesh
    )
    algorithm = make_algorithm(run.algorithm, gradient, rule)
    abstract = with_extra(abstract, algorithm, mesh)
    step = make_train_step(algorithm, schedule, abstract, mesh, randomness=_randomness(run) if run.is_random else None)
    return TrainProgram(step, rule, abstract, algorithm)


def _randomness(run: RunConfig) -> Callable[[jax.Array], Randomness]:
    """Return the randomness of each step of a run. It depends on the seed and on the number of the step alone."""

    def of_step(step: jax.Array) -> Randomness:
        # The initial parameters take the seed's own key. The losses take another key.
        key = jax.random.fold_in(jax.random.key(run.seed), LOSS_STREAM)
        return Randomness(jax.random.fold_in(key, step), step.astype(jnp.float32) / run.num_steps)

    return of_step
