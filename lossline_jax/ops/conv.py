"""The short causal depthwise convolution of the Mamba blocks."""

import functools
import operator
from collections.abc import Iterable

import jax
import jax.numpy as jnp

from lossline_jax.ops.prefix_tree import PrefixTree


def causal_depthwise_conv(
    x_BTE: jax.Array,
    kernel_WE: jax.Array,
    bias_E: jax.Array | None = None,
    segments_BT: jax.Array | None = None,
    *,
    tree: PrefixTree | None = None,
) -> jax.Array:
    """Return `y[t] = sum_w kernel[w] * x[t - (W - 1) + w] (+ bias)`, with zeros before the sequence.

    Args:
        x_BTE: inputs.
        kernel_WE: one filter per channel. The last tap reads the present position, as in PyTorch's conv1d.
        bias_E: added to the result. None: no bias.
        segments_BT: number of the document of every position, never decreasing along T. A tap that would read another
            document reads zero. None: each row is one document.
        tree: the positions that texts share. The taps read the positions before t in its own text. None: each row is
            one text.

    Returns:
        The dtype and shape of `x_BTE`.
    """
    kernel_WE = kernel_WE.astype(x_BTE.dtype)
    y_BTE = _conv(x_BTE, kernel_WE, segments_BT) if tree is None else _tree_conv(x_BTE, kernel_WE, tree)
    return y_BTE if bias_E is None else y_BTE + bias_E.astype(x_BTE.dtype)[None, None, :]


@jax.custom_vjp
def _conv(x_BTE: jax.Array, kernel_WE: jax.Array, segments_BT: jax.Array | None) -> jax.Array:
    width = kernel_WE.shape[0]
    past = _neighbours(x_BTE, range(1 - width, 1), segments_BT)
    # W is 2 to 4: shifted multiply-adds fuse into one loop, but a grouped convolution is slow on CPU.
    return _sum(kernel_WE[w][None, None, :] * tap_BTE for w, tap_BTE in enumerate(past))


_Residuals = tuple[jax.Array, jax.Array, jax.Array | None]  # inputs, kernel, segments


def _conv_forward(
    x_BTE: jax.Array, kernel_WE: jax.Array, segments_BT: jax.Array | None
) -> tuple[jax.Array, _Residuals]:
    return _conv(x_BTE, kernel_WE, segments_BT), (x_BTE, kernel_WE, segments_BT)


def _conv_backward(residuals: _Residuals, dy_BTE: jax.Array) -> tuple[jax.Array, jax.Array, None]:
    """Return the gradients. jax's own backward pass sums pads, the gradients of slices, in a slow loop on CPU."""
    x_BTE, kernel_WE, segments_BT = residuals
    width = kernel_WE.shape[0]
    past = _neighbours(x_BTE, range(1 - width, 1), segments_BT)
    future = _neighbours(dy_BTE, range(width), segments_BT)
    dx_BTE = _sum(kernel_WE[width - 1 - w][None, None, :] * tap_BTE for w, tap_BTE in enumerate(future))
    sums_WE = [jnp.sum(tap_BTE * dy_BTE, axis=(0, 1), dtype=jnp.float32) for tap_BTE in past]
    return dx_BTE, jnp.stack(sums_WE).astype(kernel_WE.dtype), None


_conv.defvjp(_conv_forward, _conv_backward)


def _sum(terms: Iterable[jax.Array]) -> jax.Array:
    return functools.reduce(operator.add, terms)


def _neighbours(x_BTE: jax.Array, offsets: range, segments_BT: jax.Array | None) -> list[jax.Array]:
    """Return `x[t + offset]` for each offset; 0 beyond the ends, and in documents other than the document of t."""
    length, before, after = x_BTE.shape[1], max(0, -offsets.start), max(0, offsets.stop - 1)
    padding = ((0, 0), (before, after))
    # The barrier puts the padded array into memory. Fused into the loop, the padding would be a branch at every number.
    padded = jax.lax.optimization_barrier(jnp.pad(x_BTE, (*padding, (0, 0))))
    taps = [padded[:, before + offset : before + offset + length] for offset in offsets]
    if segments_BT is None:
        return taps
    # The padding of the segments may have any number, because the padded values of x are zero.
    numbers = jnp.pad(segments_BT, padding)
    is_same = [numbers[:, before + offset : before + offset + length] == segments_BT for offset in offsets]
    return [jnp.where(same_BT[:, :, None], tap_BTE, 0) for same_BT, tap_BTE in zip(is_same, taps, strict=True)]


def _tree_conv(x_BTE: jax.Array, kernel_WE: jax.Array, tree: PrefixTree) -> jax.Array:
    """Convolve along the texts of a tree. The taps read the present position, its parent, the parent's parent, ..."""
    # Index 0 is a position of zeros before every text. It is its own parent.
    parent_BT = jnp.pad(tree.parent_BT + 1, ((0, 0), (1, 0)))
    padded_BTE = jnp.pad(x_BTE, ((0, 0), (1, 0), (0, 0)))
    ancestor_BT = parent_BT[:, 1:]
    y_BTE = kernel_WE[-1][None, None, :] * x_BTE
    for tap_E in kernel_WE[-2::-1]:
        y_BTE = y_BTE + tap_E[None, None, :] * _gather(padded_BTE, ancestor_BT)
        ancestor_BT = _gather(parent_BT, ancestor_BT)
    return y_BTE


_gather = jax.vmap(lambda x_TE, place_T: x_TE.at[place_T].get(mode="promise_in_bounds"))
