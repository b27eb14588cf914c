"""The selective scan of Mamba-1 (Gu & Dao 2023, algorithm 2): a diagonal state of width S for every channel.

    h[t] = exp(dt[t] a) h[t-1] + dt[t] b[t] x[t]        y[t] = c[t] . h[t]

The first position of a document (segment) forgets the state before it: its decay is 0.

The state lies in memory as [batch, state, channel]: the channels are many and next to each other, so each
step is a few long loops, and the sums over the short state axis need no shuffles.
"""

import functools

import jax
import jax.numpy as jnp

from lossline_jax.ops.prefix_tree import PrefixTree


def selective_scan_reference(
    x_BTE: jax.Array,
    dt_BTE: jax.Array,
    a_SE: jax.Array,
    b_BTS: jax.Array,
    c_BTS: jax.Array,
    segments_BT: jax.Array | None = None,
) -> jax.Array:
    """The recurrence as written above, differentiated by jax. Arguments as in `selective_scan`."""

    def step(h_BSE, at):
        x_BE, dt_BE, b_BS, c_BS, keep_B = at
        h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS, keep_B)
        return h_BSE, jnp.sum(c_BS[:, :, None] * h_BSE, axis=1)

    start = jnp.zeros((x_BTE.shape[0], *a_SE.shape), jnp.float32)
    inputs = [_time_first(z) for z in (x_BTE, dt_BTE, b_BTS, c_BTS)]
    _, y_TBE = jax.lax.scan(step, start, (*inputs, _keep(segments_BT)))
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def selective_scan(
    x_BTE: jax.Array,
    dt_BTE: jax.Array,
    a_SE: jax.Array,
    b_BTS: jax.Array,
    c_BTS: jax.Array,
    chunk_size: int,
    segments_BT: jax.Array | None = None,
    tree: PrefixTree | None = None,
) -> jax.Array:
    """The same with its own backward pass: only the state before each chunk is kept, the rest recomputed.

    Args:
        x_BTE: inputs.
        dt_BTE: positive step sizes.
        a_SE: negative decay rates.
        b_BTS, c_BTS: input and output projections of the state.
        chunk_size: positions between kept states, unrolled in the compiled loop; T need not be a multiple.
        segments_BT: a number for the document of every position, never falling along T; no state passes from
            one document to the next. None: one document.
        tree: texts that share a beginning. A text may go on from the position before it or from the last position
            that several go on from, so only one fork may lie on the way to it: beyond a second, all is NaN.

    Returns:
        y in the dtype and shape of `x_BTE`; computed and carried in float32.
    """
    length = x_BTE.shape[1]
    # dt = 0 keeps the state as it is, so padding at the end changes nothing.
    chunked = [_chunked(_time_first(z), chunk_size) for z in (x_BTE, dt_BTE, b_BTS, c_BTS)]
    if tree is not None:
        along_JCB = [_chunked(z_BT.T, chunk_size) for z_BT in _walk(tree)]
        y_JCBE = _tree_scan(*chunked, *along_JCB, a_SE.astype(jnp.float32))
    else:
        keep_TB = _keep(segments_BT)
        keep_JCB = None if keep_TB is None else _chunked(keep_TB, chunk_size)
        y_JCBE = _scan(*chunked, keep_JCB, a_SE.astype(jnp.float32))
    y_TBE = y_JCBE.reshape(-1, *y_JCBE.shape[2:])[:length]
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def _time_first(x_BTE: jax.Array) -> jax.Array:
    return jnp.moveaxis(x_BTE, 1, 0).astype(jnp.float32)


def _chunked(x_TBE: jax.Array, chunk_size: int) -> jax.Array:
    """[T, ...] -> [J, C, ...] with zeros at the end of T."""
    padding = ((0, -x_TBE.shape[0] % chunk_size),) + ((0, 0),) * (x_TBE.ndim - 1)
    return jnp.pad(x_TBE, padding).reshape(-1, chunk_size, *x_TBE.shape[1:])


def _keep(segments_BT: jax.Array | None) -> jax.Array | None:
    """[T, B] float32: 0 where a document starts, else 1."""
    if segments_BT is None:
        return None
    segments_TB = segments_BT.T
    same_TB = segments_TB[1:] == segments_TB[:-1]
    return jnp.pad(same_TB.astype(jnp.float32), ((1, 0), (0, 0)))


def _decay(dt_BE, a_SE, keep_B):
    decay_BSE = jnp.exp(dt_BE[:, None, :] * a_SE[None])
    return decay_BSE if keep_B is None else decay_BSE * keep_B[:, None, None]


def _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS, keep_B):
    return _decay(dt_BE, a_SE, keep_B) * h_BSE + (dt_BE * x_BE)[:, None, :] * b_BS[:, :, None]


def _steps(x_CBE, dt_CBE, b_CBS, c_CBS, keep_CB):
    """The inputs of one position after another."""
    keeps = [None] * len(x_CBE) if keep_CB is None else keep_CB
    return list(zip(x_CBE, dt_CBE, b_CBS, c_CBS, keeps, strict=True))


@jax.custom_vjp
def _scan(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB, a_SE):
    return _scan_forward(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB, a_SE)[0]


def _scan_forward(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB, a_SE):
    def chunk(start_BSE, inputs):
        h_BSE, outputs = start_BSE, []
        for x_BE, dt_BE, b_BS, c_BS, keep_B in _steps(*inputs):
            h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS, keep_B)
            outputs.append(jnp.sum(c_BS[:, :, None] * h_BSE, axis=1))
        return h_BSE, (jnp.stack(outputs), start_BSE)

    inputs = (x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB)
    start = jnp.zeros((x_JCBE.shape[2], *a_SE.shape), jnp.float32)
    _, (y_JCBE, starts_JBSE) = jax.lax.scan(chunk, start, inputs)
    return y_JCBE, (*inputs, a_SE, starts_JBSE)


def _scan_backward(residuals, dy_JCBE):
    """Walks the chunks backwards; `g` is the gradient of the loss with respect to the state."""
    *inputs, a_SE, starts_JBSE = residuals
    chunk = functools.partial(_chunk_backward, a_SE)
    zeros_BSE = jnp.zeros_like(starts_JBSE[0])
    (_, da_BSE), gradients = jax.lax.scan(chunk, (zeros_BSE, zeros_BSE), (*inputs, dy_JCBE, starts_JBSE), reverse=True)
    no_gradient_to_keep = None
    return (*gradients, no_gradient_to_keep, jnp.sum(da_BSE, axis=0))


def _chunk_backward(a_SE, carry, chunk):
    g_BSE, da_BSE = carry
    *inputs, dy_CBE, start_BSE = chunk
    steps = _steps(*inputs)
    states = [start_BSE]
    for x_BE, dt_BE, b_BS, _, keep_B in steps:
        states.append(_advance(states[-1], x_BE, dt_BE, a_SE, b_BS, keep_B))
    gradients = []
    for t in reversed(range(len(steps))):
        x_BE, dt_BE, b_BS, c_BS, keep_B = steps[t]
        dy_BE = dy_CBE[t]
        g_BSE = g_BSE + dy_BE[:, None, :] * c_BS[:, :, None]
        dc_BS = jnp.sum(dy_BE[:, None, :] * states[t + 1], axis=-1)
        db_BS = jnp.sum(g_BSE * (dt_BE * x_BE)[:, None, :], axis=-1)
        d_input_BE = jnp.sum(g_BSE * b_BS[:, :, None], axis=1)  # of dt x
        g_BSE = g_BSE * _decay(dt_BE, a_SE, keep_B)
        d_log_decay_BSE = g_BSE * states[t]  # of dt a
        ddt_BE = d_input_BE * x_BE + jnp.sum(d_log_decay_BSE * a_SE[None], axis=1)
        da_BSE = da_BSE + d_log_decay_BSE * dt_BE[:, None, :]
        gradients.append((d_input_BE * dt_BE, ddt_BE, db_BS, dc_BS))
    in_order = zip(*reversed(gradients), strict=True)
    return (g_BSE, da_BSE), tuple(jnp.stack(gradient) for gradient in in_order)


_scan.defvjp(_scan_forward, _scan_backward)


def _walk(tree: PrefixTree) -> tuple[jax.Array, jax.Array, jax.Array]:
    """How a step comes to the state before it, each [B, T].

    Returns:
        keep, float32: 0 where a text begins, NaN where that state is neither the last nor that of the last fork;
        bool, whether it is that of the last fork; bool, whether this position is a fork.
    """
    position_1T = jnp.arange(tree.parent_BT.shape[1])[None]
    # A fork: not all that see it see the position after it, which sees it.
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


def _tree_scan(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB, returns_JCB, is_fork_JCB, a_SE):
    """`_scan` with a second state, that of the last fork. Differentiated by jax: nothing trains on trees."""

    def chunk(states, inputs):
        (h_BSE, fork_BSE), outputs = states, []
        *inputs, returns_CB, is_fork_CB = inputs
        for (x_BE, dt_BE, b_BS, c_BS, keep_B), returns_B, is_fork_B in zip(
            _steps(*inputs), returns_CB, is_fork_CB, strict=True
        ):
            h_BSE = jnp.where(returns_B[:, None, None], fork_BSE, h_BSE)
            h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS, keep_B)
            fork_BSE = jnp.where(is_fork_B[:, None, None], h_BSE, fork_BSE)
            outputs.append(jnp.sum(c_BS[:, :, None] * h_BSE, axis=1))
        return (h_BSE, fork_BSE), jnp.stack(outputs)

    start_BSE = jnp.zeros((x_JCBE.shape[2], *a_SE.shape), jnp.float32)
    inputs = (x_JCBE, dt_JCBE, b_JCBS, c_JCBS, keep_JCB, returns_JCB, is_fork_JCB)
    return jax.lax.scan(chunk, (start_BSE, start_BSE), inputs)[1]
