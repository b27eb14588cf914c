"""The losses that training lowers. Each is a sum over the targets of a microbatch."""

import jax
import jax.numpy as jnp

from lossline_jax.config.training import NextToken, Objective
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.ops.dropout import Dropout
from lossline_jax.train.gradient import LossSums, MicrobatchLoss, Randomness, TrainingBatch


def microbatch_loss(objective: Objective, model: Model) -> MicrobatchLoss:
    """Return the loss of a run's objective.

    Args:
        objective: the objective.
        model: the model of the run.
    """
    return next_token(model) if isinstance(objective, NextToken) else objective.loss(model)


def next_token(model: Model) -> MicrobatchLoss:
    """Return the negative log-likelihood of the next tokens, in nats."""

    def loss(params: Params, batch: TrainingBatch, randomness: Randomness | None) -> tuple[jax.Array, LossSums]:
        nll_BT = model.nll(
            params, batch.tokens_BT, batch.targets_BT, batch.segments_BT, **dropout_of(model, randomness)
        )
        nats = jnp.sum(nll_BT * batch.weights_BT, dtype=jnp.float32)
        return nats, LossSums(nats, {})

    return loss


def dropout_of(model: Model, randomness: Randomness | None) -> dict[str, Dropout]:
    """Return the argument `dropout` of the model for a microbatch. It is empty for a model without dropout."""
    if randomness is None or not model.config.dropout:
        return {}
    begun = randomness.fraction_done >= model.config.dropout_from
    return {"dropout": Dropout(randomness.keys, jnp.where(begun, jnp.float32(model.config.dropout), 0.0))}
