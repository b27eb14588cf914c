"""Trees of texts that share a beginning, in one row: the shared part once, then each continuation.

The positions are in depth-first order. Position i sees position k if `k <= i <= until[k]`. So position i sees the
positions of its own text up to itself. A row may have several trees, one after another. A text without branches is a
tree too.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class PrefixTree(NamedTuple):
    """The positions that the texts of a batch of rows share, as int32 arrays. `build_prefix_tree` makes it.

    Attributes:
        visible_until_BT: the last position that sees this position.
        depth_BT: the index of the position in its own text: the number of positions that it sees before itself.
        parent_BT: the position before it in its own text; -1 at the beginning of a text.
    """

    visible_until_BT: jax.Array
    depth_BT: jax.Array
    parent_BT: jax.Array


def build_prefix_tree(visible_until_BT: jax.Array) -> PrefixTree:
    """Build the tree. It compares all pairs of positions, so build it once per batch, not in every layer.

    Args:
        visible_until_BT: int32, the last position that sees each position. Two spans `[k, until[k]]` are nested or
            disjoint. At the end of a text, it is the position itself. At the end of a shared beginning, it is the
            last position of the last text that continues there.
    """
    length = visible_until_BT.shape[1]
    seen_BTS = visible(visible_until_BT, slice(0, length), length) & jnp.tri(length, k=-1, dtype=bool)[None]
    parent_BT = jnp.max(jnp.where(seen_BTS, jnp.arange(length, dtype=jnp.int32)[None, None, :], -1), axis=2)
    return PrefixTree(visible_until_BT, jnp.sum(seen_BTS, axis=2, dtype=jnp.int32), parent_BT)


def visible(visible_until_BT: jax.Array, rows: slice, end: int) -> jax.Array:
    """Return whether the positions in the slice `rows` see the positions before `end`: bool [B, rows, end].

    Args:
        visible_until_BT: the last position that sees each position.
        rows: the positions that see.
        end: number of the positions that are seen.
    """
    position_T, position_S = jnp.arange(rows.start, rows.stop), jnp.arange(end)
    causal_TS = position_S[None, :] <= position_T[:, None]
    return causal_TS[None] & (position_T[None, :, None] <= visible_until_BT[:, None, :end])
