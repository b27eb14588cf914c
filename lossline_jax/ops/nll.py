"""Negative log-likelihood of the next token, without the logits of a whole batch in memory."""

import jax
import jax.numpy as jnp

from lossline_jax.ops.linear import linear


def token_nll(
    x_BTD: jax.Array, unembed_DV: jax.Array, targets_BT: jax.Array, chunk_length: int | None = None
) -> jax.Array:
    """`logsumexp(x W) - (x W)[target]` at every position.

    Args:
        x_BTD: hidden states after the final norm.
        unembed_DV: output matrix, whole or sharded over the vocabulary.
        targets_BT: integers in [0, V).
        chunk_length: positions whose logits exist at once, recomputed in the backward pass; T need not be a
            multiple. None: all T, kept for the backward pass.

    Returns:
        [B, T] float32, nats.
    """
    length = x_BTD.shape[1]
    if chunk_length is None or chunk_length >= length:
        return _nll(x_BTD, unembed_DV, targets_BT)
    num_chunks = -(-length // chunk_length)
    padding = num_chunks * chunk_length - length
    chunks = (
        _split(jnp.pad(x_BTD, ((0, 0), (0, padding), (0, 0))), num_chunks),
        _split(jnp.pad(targets_BT, ((0, 0), (0, padding))), num_chunks),
    )
    chunk_nll = jax.checkpoint(lambda chunk: _nll(chunk[0], unembed_DV, chunk[1]), prevent_cse=False)
    nll_JBC = jax.lax.map(chunk_nll, chunks)
    return jnp.moveaxis(nll_JBC, 0, 1).reshape(x_BTD.shape[0], -1)[:, :length]


def logits(x_BTD: jax.Array, unembed_DV: jax.Array) -> jax.Array:
    """[B, T, V] float32."""
    return linear(x_BTD, unembed_DV.astype(x_BTD.dtype), dtype=jnp.float32)


def _nll(x_BTD: jax.Array, unembed_DV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    logits_BTV = logits(x_BTD, unembed_DV)
    # A comparison instead of a gather: it splits over a sharded vocabulary without collecting the logits.
    vocabulary_V = jax.lax.broadcasted_iota(targets_BT.dtype, (1, 1, logits_BTV.shape[-1]), 2)
    is_target = vocabulary_V == targets_BT[..., None]
    target_BT = jnp.sum(jnp.where(is_target, logits_BTV, 0.0), axis=-1)
    return jax.nn.logsumexp(logits_BTV, axis=-1) - target_BT


def _split(x_BT: jax.Array, num_chunks: int) -> jax.Array:
    """[B, J C, ...] -> [J, B, C, ...]"""
    return jnp.moveaxis(x_BT.reshape(x_BT.shape[0], num_chunks, -1, *x_BT.shape[2:]), 1, 0)
