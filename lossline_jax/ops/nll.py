"""Compute the negative log-likelihood of the next token, without the logits of a whole batch in memory."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from lossline_jax.ops.linear import linear


class TargetScores(NamedTuple):
    """The scores of chosen next tokens.

    Attributes:
        nats_AS: negative log-likelihood of the token, float32.
        greedy_AS: bool, whether the token is the likeliest; of equally likely tokens, the first is.
    """

    nats_AS: jax.Array
    greedy_AS: jax.Array


def token_nll(
    x_BTD: jax.Array, unembed_DV: jax.Array, targets_BT: jax.Array, chunk_length: int | None = None
) -> jax.Array:
    """Return `logsumexp(x W) - (x W)[target]` at every position.

    Args:
        x_BTD: hidden states after the final norm.
        unembed_DV: output matrix W, whole or sharded over the vocabulary.
        targets_BT: integers in [0, V).
        chunk_length: positions whose logits exist at once. The backward pass computes them again. T need not be a
            multiple. None: the logits of all T exist at once, and are kept for the backward pass.

    Returns:
        [B, T] float32, nats.
    """
    length = x_BTD.shape[1]
    if chunk_length is None or chunk_length >= length:
        return _nll(logits(x_BTD, unembed_DV), targets_BT)

    def chunk_nll(x_BCD: jax.Array, targets_BC: jax.Array) -> jax.Array:
        return _nll(logits(x_BCD, unembed_DV), targets_BC)

    return _by_chunks(jax.checkpoint(chunk_nll, prevent_cse=False), x_BTD, targets_BT, chunk_length)


def target_scores(
    x_ASD: jax.Array, unembed_DV: jax.Array, targets_AS: jax.Array, chunk_length: int | None = None
) -> TargetScores:
    """Return the `token_nll` of the targets, and whether each target is the token of greedy decoding.

    Greedy decoding takes the argmax of the logits, and the first of equal logits.

    Args:
        x_ASD: hidden states after the final norm.
        unembed_DV: output matrix, whole or sharded over the vocabulary.
        targets_AS: integers in [0, V).
        chunk_length: as for `token_nll`.
    """

    def chunk_scores(x_ACD: jax.Array, targets_AC: jax.Array) -> TargetScores:
        logits_ACV = logits(x_ACD, unembed_DV)
        return TargetScores(_nll(logits_ACV, targets_AC), _is_argmax(logits_ACV, targets_AC))

    length = x_ASD.shape[1]
    if chunk_length is None or chunk_length >= length:
        return chunk_scores(x_ASD, targets_AS)
    return _by_chunks(jax.checkpoint(chunk_scores, prevent_cse=False), x_ASD, targets_AS, chunk_length)


def logits(x_BTD: jax.Array, unembed_DV: jax.Array) -> jax.Array:
    """Return the logits, [B, T, V] float32."""
    return linear(x_BTD, unembed_DV.astype(x_BTD.dtype), dtype=jnp.float32)


def _nll(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    target_BT = _at_target(logits_BTV, targets_BT)
    return jax.nn.logsumexp(logits_BTV, axis=-1) - target_BT


def _is_argmax(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    # Every shard of the vocabulary can make these comparisons alone. The result is False if a logit is NaN.
    target_BT1 = _at_target(logits_BTV, targets_BT)[..., None]
    is_later_BTV = _vocabulary(logits_BTV, targets_BT) >= targets_BT[..., None]
    return jnp.all((logits_BTV < target_BT1) | ((logits_BTV == target_BT1) & is_later_BTV), axis=-1)


def _at_target(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    # A comparison, not a gather: it works on a sharded vocabulary without collecting the logits.
    is_target = _vocabulary(logits_BTV, targets_BT) == targets_BT[..., None]
    return jnp.sum(jnp.where(is_target, logits_BTV, 0.0), axis=-1)


def _vocabulary(logits_BTV: jax.Array, targets_BT: jax.Array) -> jax.Array:
    """Return the tokens 0 to V - 1, [1, 1, V]."""
    return jax.lax.broadcasted_iota(targets_BT.dtype, (1, 1, logits_BTV.shape[-1]), 2)


def _by_chunks(score: Callable[..., Any], x_BTD: jax.Array, targets_BT: jax.Array, chunk_length: int) -> Any:
    """Call `score(x, targets)` for one chunk of T after another. It returns a pytree of arrays [B, C]."""
    batch, length = targets_BT.shape
    num_chunks = -(-length // chunk_length)
    padding = num_chunks * chunk_length - length
    chunks = (
        _split(jnp.pad(x_BTD, ((0, 0), (0, padding), (0, 0))), num_chunks),
        _split(jnp.pad(targets_BT, ((0, 0), (0, padding))), num_chunks),
    )
    scores_JBC = jax.lax.map(lambda chunk: score(*chunk), chunks)
    return jax.tree.map(lambda x_JBC: jnp.moveaxis(x_JBC, 0, 1).reshape(batch, -1)[:, :length], scores_JBC)


def _split(x_BT: jax.Array, num_chunks: int) -> jax.Array:
    """Reshape [B, J C, ...] to [J, B, C, ...]."""
    return jnp.moveaxis(x_BT.reshape(x_BT.shape[0], num_chunks, -1, *x_BT.shape[2:]), 1, 0)
