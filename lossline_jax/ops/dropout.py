"""Dropout whose masks depend on the row of the global batch, and not on how rows are divided over devices."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Dropout(NamedTuple):
    """The randomness of dropout in one forward pass. Without it (None), a model drops nothing, as in evaluation.

    Attributes:
        keys_B: a random key for each row, or [L, B] for each layer and row.
        rate: float32, the probability that a value is dropped, or [L].
    """

    keys_B: jax.Array
    rate: jax.Array


def for_layers(dropout: Dropout, num_layers: int) -> Dropout:
    """Return the randomness of every layer, stacked on axis 0."""
    layers_L = jnp.arange(num_layers)
    keys_LB = jax.vmap(lambda layer: _folded(dropout.keys_B, layer))(layers_L)
    return Dropout(keys_LB, jnp.broadcast_to(dropout.rate, (num_layers,)))


def drop(x_BTD: jax.Array, dropout: Dropout | None, site: int) -> jax.Array:
    """Set values to zero with the probability `rate`, and scale the others by 1 / (1 - rate).

    Args:
        x_BTD: the values.
        dropout: the keys of the rows. None: the values are returned as they are.
        site: number of the place in the layer, so that no two places share a mask.

    Source: Srivastava et al. 2014, in the inverted form that needs no change in evaluation.
    """
    if dropout is None:
        return x_BTD
    keep = 1 - dropout.rate
    keys_B = _folded(dropout.keys_B, site)
    mask_BTD = jax.vmap(lambda key: jax.random.bernoulli(key, keep, x_BTD.shape[1:]))(keys_B)
    return jnp.where(mask_BTD, x_BTD / keep.astype(x_BTD.dtype), 0)


def _folded(keys_B: jax.Array, number: jax.Array | int) -> jax.Array:
    return jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys_B, number)
