"""Texts that share a beginning, laid in one row: the shared part once, then each way that it goes on.

Positions stand in depth-first order. Position i sees position k where `k <= i <= until[k]`, so what i sees are the
positions of its own text up to itself. A row may hold several trees, one after another, and a text without branches
is a tree like any other.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class PrefixTree(NamedTuple):
    """How the texts of a batch of rows share positions, int32 each; made by `build_prefix_tree`."""

    visible_until_BT: jax.Array  # the last position that sees this one
    depth_BT: jax.Array  # its place in its own text: how many positions it sees before itself
    parent_BT: jax.Array  # the position before it in its own text, -1 at a beginning


def build_prefix_tree(visible_until_BT: jax.Array) -> PrefixTree:
    """Depths and parents, found among all pairs of positions: make it once a batch, not in every layer.

    Args:
        visible_until_BT: int32; the spans `[k, until[k]]` lie in each other or apart. The end of a text has its own
            position, the end of a shared beginning that of the last text which goes on from there.
    """
    length = visible_until_BT.shape[1]
    seen_BTS = visible(visible_until_BT, slice(0, length), length) & jnp.tri(length, k=-1, dtype=bool)[None]
    parent_BT = jnp.max(jnp.where(seen_BTS, jnp.arange(length, dtype=jnp.int32)[None, None, :], -1), axis=2)
    return PrefixTree(visible_until_BT, jnp.sum(seen_BTS, axis=2, dtype=jnp.int32), parent_BT)


def visible(visible_until_BT: jax.Array, rows: slice, end: int) -> jax.Array:
    """Whether the positions of `rows` see the positions before `end`: bool [B, rows, end]."""
    position_T, position_S = jnp.arange(rows.start, rows.stop), jnp.arange(end)
    causal_TS = position_S[None, :] <= position_T[:, None]
    return causal_TS[None] & (position_T[None, :, None] <= visible_until_BT[:, None, :end])
