"""Data-parallel training: one gradient over the global batch, and one update of one set of parameters."""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from lossline_jax.models.parameters import Params
from lossline_jax.train.algorithms.algorithm import Algorithm, StepOutcome
from lossline_jax.train.gradient import Gradient, LossSums, Randomness, TrainingBatch
from lossline_jax.train.optimisers.rule import UpdateRule
from lossline_jax.train.state import TrainState


def data_parallel(gradient: Gradient, rule: UpdateRule) -> Algorithm:
    """Return the algorithm that gives the gradient of the mean loss over the global batch to the optimiser.

    Args:
        gradient: the sums of the loss over the global batch, and their gradient.
        rule: the optimiser.
    """

    def update(
        state: TrainState, batch: TrainingBatch, randomness: Randomness | None
    ) -> tuple[TrainState, StepOutcome]:
        weight_sum = jnp.sum(batch.weights_BT, dtype=jnp.float32)

        def gradient_at(params: Params) -> tuple[LossSums, Params]:
            sums, grads = gradient(params, batch, randomness)
            return sums, jax.tree.map(lambda grad: grad / weight_sum, grads)

        updated = rule.update(gradient_at, state.params, state.opt_state)
        outcome = StepOutcome(updated.sums, optax.tree.norm(updated.gradient), {})
        return dataclasses.replace(state, params=updated.params, opt_state=updated.opt_state), outcome

    return Algorithm(None, update)
