"""What a run is trained with, on a mesh that is there or on one that is only compiled for."""

from typing import Any, NamedTuple

import optax
from jax.sharding import Mesh

from lossline_jax.train.config import ExecutionConfig
from lossline_jax.train.optim import make_optimiser, make_schedule
from lossline_jax.train.state import Model, TrainState, abstract_state
from lossline_jax.train.step import TrainStep, make_train_step


class TrainProgram(NamedTuple):
    """The jitted step of a run, and what its state is made of."""

    step: TrainStep
    optimiser: optax.GradientTransformation
    abstract: TrainState  # as of `state.abstract_state`


def train_program(run: Any, model: Model, execution: ExecutionConfig, mesh: Mesh) -> TrainProgram:
    """The program of a run (`study.RunConfig`).

    Raises:
        LosslineError: constants out of range, or rows or parameters that the mesh does not divide.
    """
    schedule = make_schedule(run.schedule, run.optim.learning_rate, run.num_steps)
    optimiser = make_optimiser(run.optim, schedule, model.decayed())
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
