"""An objective, an algorithm and an optimiser as a user writes them, each a class of one file."""

import dataclasses
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import optax

from lossline_jax.config.custom import CustomAlgorithm, CustomObjective, CustomOptimiser
from lossline_jax.train.algorithms.algorithm import Algorithm
from lossline_jax.train.algorithms.data_parallel import data_parallel
from lossline_jax.train.gradient import LossSums
from lossline_jax.train.optimisers.rule import from_optax
from lossline_jax.train.state import TrainState


@dataclass(frozen=True)
class Doubled(CustomObjective):
    """Twice the loss of the next token."""

    factor: float = 2.0

    def loss(self, model):
        def loss(params, batch, randomness):
            nats = jnp.sum(model.nll(params, batch.tokens_BT, batch.targets_BT) * batch.weights_BT)
            return self.factor * nats, LossSums(nats, {"doubled": self.factor * nats})

        return loss


@dataclass(frozen=True)
class Averaging(CustomAlgorithm):
    """The scored model is an exponential moving average of the trained one, which is in `extra`."""

    decay: float = 0.5

    def algorithm(self, gradient, rule):
        inner = data_parallel(gradient, rule)

        def update(state, batch, randomness):
            fast, outcome = inner.update(dataclasses.replace(state, params=state.extra, extra=None), batch, randomness)
            mean = optax.incremental_update(fast.params, state.params, 1 - self.decay)
            distance = optax.tree.norm(optax.tree.sub(fast.params, mean))
            outcome = outcome._replace(extra={"distance": distance})
            return TrainState(fast.step, mean, fast.opt_state, fast.params), outcome

        return Algorithm(lambda params: jax.tree.map(jnp.copy, params), update)


@dataclass(frozen=True)
class PlainDescent(CustomOptimiser):
    """Gradient descent without momentum."""

    learning_rate: float = 0.1

    def update_rule(self, learning_rate, model):
        return from_optax(optax.sgd(learning_rate))
