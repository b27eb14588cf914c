"""The losses that training lowers. Each is a sum over the targets of a microbatch."""

import jax
import jax.numpy as jnp

from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.train.gradient import LossSums, MicrobatchLoss, TrainingBatch


def next_token(model: Model) -> MicrobatchLoss:
    """Return the negative log-likelihood of the next tokens, in nats."""

    def loss(params: Params, batch: TrainingBatch, keys_B: jax.Array | None) -> tuple[jax.Array, LossSums]:
        nll_BT = model.nll(params, batch.tokens_BT, batch.targets_BT, batch.segments_BT)
        nats = jnp.sum(nll_BT * batch.weights_BT, dtype=jnp.float32)
        return nats, LossSums(nats, {})

    return loss
