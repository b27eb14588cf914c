"""The selective scan of Mamba-1 (Gu & Dao 2023, algorithm 2): a diagonal state of width S for every channel.

    h[t] = exp(dt[t] a) h[t-1] + dt[t] b[t] x[t]        y[t] = c[t] . h[t]

The first position of a document (segment) forgets the state before it: its decay is 0.

The state has the memory layout [batch, state, channel]. The channels are many and adjacent in memory, so each step is
a few long loops. The sums over the short state axis need no shuffles.

Read `selective_scan_reference` first, then `selective_scan`.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from lossline_jax.ops.prefix_tree import PrefixTree


def selective_scan_reference(  # noqa: PLR0917  (the five arrays of the recurrence)
    x_BTE: jax.Array,
    dt_BTE: jax.Array,
    a_SE: jax.Array,
    b_BTS: jax.Array,
    c_BTS: jax.Array,
    *,
    segments_BT: jax.Array | None = None,
) -> jax.Array:
    """Compute the recurrence as written above. jax differentiates it. Arguments as for `selective_scan`."""

    def step(h_BSE: jax.Array, inputs: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
        x_BE, dt_BE, b_BS, c_BS, keep_B = inputs
        h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS=b_BS, keep_B=keep_B)
        return h_BSE, jnp.sum(c_BS[:, :, None] * h_BSE, axis=1)

    start = jnp.zeros((x_BTE.shape[0], *a_SE.shape), jnp.float32)
    inputs = [_time_first(z) for z in (x_BTE, dt_BTE, b_BTS, c_BTS)]
    _, y_TBE = jax.lax.scan(step, start, (*inputs, _keep(segments_BT)))
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def selective_scan(  # noqa: PLR0917  (the five arrays of the recurrence)
    x_BTE: jax.Array,
    dt_BTE: jax.Array,
    a_SE: jax.Array,
    b_BTS: jax.Array,
    c_BTS: jax.Array,
    *,
    chunk_size: int,
    segments_BT: jax.Array | None = None,
    tree: PrefixTree | None = None,
) -> jax.Array:
    """Compute the recurrence with its own backward pass.

    Only the state before each chunk is kept for the backward pass, which computes the other states again.

    Args:
        x_BTE: inputs.
        dt_BTE: positive step sizes.
        a_SE: negative decay rates.
        b_BTS: input projections of the state.
        c_BTS: output projections of the state.
        chunk_size: positions between kept states, unrolled in the compiled loop. T need not be a multiple.
        segments_BT: number of the document of every position, never decreasing along T. No state passes from one
            document to the next. None: each row is one document.
        tree: the positions that texts share. A position may continue from the position before it, or from the last
            fork before it. So a text may pass one fork only: everything after a second fork is NaN. None: each row is
            one text.

    Returns:
        y in the dtype and shape of `x_BTE`; computed and carried in float32.
    """
    length, a_SE = x_BTE.shape[1], a_SE.astype(jnp.float32)
    # dt = 0 does not change the state, so padding at the end changes nothing.
    x_JCBE, dt_JCBE, b_JCBS, c_JCBS = (_chunked(_time_first(z), chunk_size) for z in (x_BTE, dt_BTE, b_BTS, c_BTS))
    if tree is not None:
        keep_JCB, returns_JCB, is_fork_JCB = (_chunked(z_BT.T, chunk_size) for z_BT in _walk(tree))
        inputs = (x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB)
        y_JCBE = _tree_scan(inputs, returns_JCB, is_fork_JCB, a_SE)
    else:
        keep_TB = _keep(segments_BT)
        keep_JCB = None if keep_TB is None else _chunked(keep_TB, chunk_size)
        y_JCBE = _scan((x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB), a_SE)
    y_TBE = y_JCBE.reshape(-1, *y_JCBE.shape[2:])[:length]
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def _time_first(x_BTE: jax.Array) -> jax.Array:
    return jnp.moveaxis(x_BTE, 1, 0).astype(jnp.float32)


def _chunked(x_TBE: jax.Array, chunk_size: int) -> jax.Array:
    """Reshape [T, ...] to [J, C, ...], with zeros at the end of T."""
    padding = ((0, -x_TBE.shape[0] % chunk_size),) + ((0, 0),) * (x_TBE.ndim - 1)
    return jnp.pad(x_TBE, padding).reshape(-1, chunk_size, *x_TBE.shape[1:])


def _keep(segments_BT: jax.Array | None) -> jax.Array | None:
    """Return the factors of the decay, [T, B] float32: 0 at the start of a document, else 1. None: no documents."""
    if segments_BT is None:
        return None
    segments_TB = segments_BT.T
    same_TB = segments_TB[1:] == segments_TB[:-1]
    return jnp.pad(same_TB.astype(jnp.float32), ((1, 0), (0, 0)))


def _decay(dt_BE: jax.Array, a_SE: jax.Array, keep_B: jax.Array | None) -> jax.Array:
    decay_BSE = jnp.exp(dt_BE[:, None, :] * a_SE[None])
    return decay_BSE if keep_B is None else decay_BSE * keep_B[:, None, None]


def _advance(
    h_BSE: jax.Array,
    x_BE: jax.Array,
    dt_BE: jax.Array,
    a_SE: jax.Array,
    *,
    b_BS: jax.Array,
    keep_B: jax.Array | None,
) -> jax.Array:
    """Return the state after one more position."""
    return _decay(dt_BE, a_SE, keep_B) * h_BSE + (dt_BE * x_BE)[:, None, :] * b_BS[:, :, None]


# The inputs of a scan: x, dt, b, c and the factors of `_keep`. Each is [J, C, B, ...], or [C, B, ...] for one chunk.
_Inputs = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array | None]
_Residuals = tuple[_Inputs, jax.Array, jax.Array]  # inputs, decay rates, and the state before each chunk


def _steps(inputs: _Inputs) -> list[tuple[Any, ...]]:
    """Return the inputs of a chunk as a list over its positions."""
    *arrays, keep_CB = inputs
    keeps = [None] * len(arrays[0]) if keep_CB is None else keep_CB
    return list(zip(*arrays, keeps, strict=True))


@jax.custom_vjp
def _scan(inputs: _Inputs, a_SE: jax.Array) -> jax.Array:
    return _scan_forward(inputs, a_SE)[0]


def _scan_forward(inputs: _Inputs, a_SE: jax.Array) -> tuple[jax.Array, _Residuals]:
    def chunk(start_BSE: jax.Array, chunk_inputs: _Inputs) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
        h_BSE, outputs = start_BSE, []
        for x_BE, dt_BE, b_BS, c_BS, keep_B in _steps(chunk_inputs):
            h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS=b_BS, keep_B=keep_B)
            outputs.append(jnp.sum(c_BS[:, :, None] * h_BSE, axis=1))
        return h_BSE, (jnp.stack(outputs), start_BSE)

    start = jnp.zeros((inputs[0].shape[2], *a_SE.shape), jnp.float32)
    _, (y_JCBE, starts_JBSE) = jax.lax.scan(chunk, start, inputs)
    return y_JCBE, (inputs, a_SE, starts_JBSE)


def _scan_backward(residuals: _Residuals, dy_JCBE: jax.Array) -> tuple[tuple[Any, ...], jax.Array]:
    """Return the gradients, going through the chunks backwards."""
    inputs, a_SE, starts_JBSE = residuals
    chunk = functools.partial(_chunk_backward, a_SE)
    zeros_BSE = jnp.zeros_like(starts_JBSE[0])
    (_, da_BSE), gradients = jax.lax.scan(chunk, (zeros_BSE, zeros_BSE), (inputs, dy_JCBE, starts_JBSE), reverse=True)
    no_gradient_to_keep = None
    return (*gradients, no_gradient_to_keep), jnp.sum(da_BSE, axis=0)


def _chunk_backward(
    a_SE: jax.Array, carry: tuple[jax.Array, jax.Array], chunk: tuple[_Inputs, jax.Array, jax.Array]
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, ...]]:
    """Go through the positions of a chunk backwards. `g` is the gradient of the loss by the state."""
    g_BSE, da_BSE = carry
    inputs, dy_CBE, start_BSE = chunk
    steps = _steps(inputs)
    states = [start_BSE]
    for x_BE, dt_BE, b_BS, _, keep_B in steps:
        states.append(_advance(states[-1], x_BE, dt_BE, a_SE, b_BS=b_BS, keep_B=keep_B))
    gradients = []
    for t in reversed(range(len(steps))):
        x_BE, dt_BE, b_BS, c_BS, keep_B = steps[t]
        dy_BE = dy_CBE[t]
        g_BSE = g_BSE + dy_BE[:, None, :] * c_BS[:, :, None]
        dc_BS = jnp.sum(dy_BE[:, None, :] * states[t + 1], axis=-1)
        db_BS = jnp.sum(g_BSE * (dt_BE * x_BE)[:, None, :], axis=-1)
        d_input_BE = jnp.sum(g_BSE * b_BS[:, :, None], axis=1)  # gradient by dt x
        g_BSE = g_BSE * _decay(dt_BE, a_SE, keep_B)
        d_log_decay_BSE = g_BSE * states[t]  # gradient by dt a
        ddt_BE = d_input_BE * x_BE + jnp.sum(d_log_decay_BSE * a_SE[None], axis=1)
        da_BSE = da_BSE + d_log_decay_BSE * dt_BE[:, None, :]
        gradients.append((d_input_BE * dt_BE, ddt_BE, db_BS, dc_BS))
    in_order = zip(*reversed(gradients), strict=True)
    return (g_BSE, da_BSE), tuple(jnp.stack(gradient) for gradient in in_order)


_scan.defvjp(_scan_forward, _scan_backward)


def _walk(tree: PrefixTree) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return where each position of a tree finds the state before it, as three arrays [B, T].

    Returns:
        keep: float32, 0 at the beginning of a text, else 1. NaN: the state before the position is neither the state of
            the last position nor the state of the last fork.
        returns: bool, whether the state before the position is the state of the last fork.
        is_fork: bool, whether the position is a fork.
    """
    position_1T = jnp.arange(tree.parent_BT.shape[1])[None]
    # The position after a fork sees the fork, but is not visible to all positions that see the fork.
    visible_until_BT = tree.visible_until_BT
    next_until_BT = jnp.pad(visible_until_BT[:, 1:], ((0, 0), (0, 1)), mode="edge")
    is_fork_BT = (visible_until_BT > position_1T) & (next_until_BT < visible_until_BT)
    fork_before_BT = jax.lax.cummax(jnp.where(is_fork_BT, position_1T, -1), axis=1)
    fork_before_BT = jnp.pad(fork_before_BT[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    begins_BT = tree.parent_BT < 0
    returns_BT = ~begins_BT & (tree.parent_BT != position_1T - 1)
    lost_BT = returns_BT & (tree.parent_BT != fork_before_BT)
    keep_BT = jnp.where(begins_BT, 0.0, jnp.where(lost_BT, jnp.nan, 1.0))
    return keep_BT, returns_BT, is_fork_BT


def _tree_scan(inputs: _Inputs, returns_JCB: jax.Array, is_fork_JCB: jax.Array, a_SE: jax.Array) -> jax.Array:
    """Scan with a second state, the state of the last fork. jax differentiates it, because no run trains on trees."""

    def chunk(
        states: tuple[jax.Array, jax.Array], chunk_inputs: tuple[_Inputs, jax.Array, jax.Array]
    ) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        (h_BSE, fork_BSE), outputs = states, []
        scan_inputs, returns_CB, is_fork_CB = chunk_inputs
        for (x_BE, dt_BE, b_BS, c_BS, keep_B), returns_B, is_fork_B in zip(
            _steps(scan_inputs), returns_CB, is_fork_CB, strict=True
        ):
            h_BSE = jnp.where(returns_B[:, None, None], fork_BSE, h_BSE)
            h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS=b_BS, keep_B=keep_B)
            fork_BSE = jnp.where(is_fork_B[:, None, None], h_BSE, fork_BSE)
            outputs.append(jnp.sum(c_BS[:, :, None] * h_BSE, axis=1))
        return (h_BSE, fork_BSE), jnp.stack(outputs)

    start_BSE = jnp.zeros((inputs[0].shape[2], *a_SE.shape), jnp.float32)
    return jax.lax.scan(chunk, (start_BSE, start_BSE), (inputs, returns_JCB, is_fork_JCB))[1]
