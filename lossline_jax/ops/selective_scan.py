"""The selective scan of Mamba-1 (Gu & Dao 2023, algorithm 2): a diagonal state of width S for every channel.

    h[t] = exp(dt[t] a) h[t-1] + dt[t] b[t] x[t]        y[t] = c[t] . h[t]

The state lies in memory as [batch, state, channel]: the channels are many and next to each other, so each
step is a few long loops, and the sums over the short state axis need no shuffles.
"""

import functools

import jax
import jax.numpy as jnp


def selective_scan_reference(
    x_BTE: jax.Array, dt_BTE: jax.Array, a_SE: jax.Array, b_BTS: jax.Array, c_BTS: jax.Array
) -> jax.Array:
    """The recurrence as written above, differentiated by jax. Arguments as in `selective_scan`."""

    def step(h_BSE, at):
        x_BE, dt_BE, b_BS, c_BS = at
        h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS)
        return h_BSE, jnp.sum(c_BS[:, :, None] * h_BSE, axis=1)

    start = jnp.zeros((x_BTE.shape[0], *a_SE.shape), jnp.float32)
    inputs = tuple(_time_first(z) for z in (x_BTE, dt_BTE, b_BTS, c_BTS))
    _, y_TBE = jax.lax.scan(step, start, inputs)
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def selective_scan(
    x_BTE: jax.Array,
    dt_BTE: jax.Array,
    a_SE: jax.Array,
    b_BTS: jax.Array,
    c_BTS: jax.Array,
    chunk_size: int,
) -> jax.Array:
    """The same with its own backward pass: only the state before each chunk is kept, the rest recomputed.

    Args:
        x_BTE: inputs.
        dt_BTE: positive step sizes.
        a_SE: negative decay rates.
        b_BTS, c_BTS: input and output projections of the state.
        chunk_size: positions between kept states, unrolled in the compiled loop; T need not be a multiple.

    Returns:
        y in the dtype and shape of `x_BTE`; computed and carried in float32.
    """
    length = x_BTE.shape[1]
    padding = -length % chunk_size
    # dt = 0 keeps the state as it is, so padding at the end changes nothing.
    chunked = [
        jnp.pad(_time_first(z), ((0, padding), (0, 0), (0, 0))).reshape(-1, chunk_size, z.shape[0], z.shape[2])
        for z in (x_BTE, dt_BTE, b_BTS, c_BTS)
    ]
    y_JCBE = _scan(*chunked, a_SE.astype(jnp.float32))
    y_TBE = y_JCBE.reshape(-1, *y_JCBE.shape[2:])[:length]
    return jnp.moveaxis(y_TBE, 0, 1).astype(x_BTE.dtype)


def _time_first(x_BTE: jax.Array) -> jax.Array:
    return jnp.moveaxis(x_BTE, 1, 0).astype(jnp.float32)


def _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS):
    decay_BSE = jnp.exp(dt_BE[:, None, :] * a_SE[None])
    return decay_BSE * h_BSE + (dt_BE * x_BE)[:, None, :] * b_BS[:, :, None]


@jax.custom_vjp
def _scan(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, a_SE):
    return _scan_forward(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, a_SE)[0]


def _scan_forward(x_JCBE, dt_JCBE, b_JCBS, c_JCBS, a_SE):
    def chunk(start_BSE, inputs):
        h_BSE, outputs = start_BSE, []
        for x_BE, dt_BE, b_BS, c_BS in zip(*inputs, strict=True):
            h_BSE = _advance(h_BSE, x_BE, dt_BE, a_SE, b_BS)
            outputs.append(jnp.sum(c_BS[:, :, None] * h_BSE, axis=1))
        return h_BSE, (jnp.stack(outputs), start_BSE)

    start = jnp.zeros((x_JCBE.shape[2], *a_SE.shape), jnp.float32)
    _, (y_JCBE, starts_JBSE) = jax.lax.scan(chunk, start, (x_JCBE, dt_JCBE, b_JCBS, c_JCBS))
    return y_JCBE, (x_JCBE, dt_JCBE, b_JCBS, c_JCBS, a_SE, starts_JBSE)


def _scan_backward(residuals, dy_JCBE):
    """Walks the chunks backwards; `g` is the gradient of the loss with respect to the state."""
    *inputs, a_SE, starts_JBSE = residuals
    chunk = functools.partial(_chunk_backward, a_SE)
    carry = (jnp.zeros_like(starts_JBSE[0]), jnp.zeros_like(a_SE))
    (_, da_SE), gradients = jax.lax.scan(chunk, carry, (*inputs, dy_JCBE, starts_JBSE), reverse=True)
    return (*gradients, da_SE)


def _chunk_backward(a_SE, carry, chunk):
    g_BSE, da_SE = carry
    *inputs, dy_CBE, start_BSE = chunk
    steps = list(zip(*inputs, strict=True))
    states = [start_BSE]
    for x_BE, dt_BE, b_BS, _ in steps:
        states.append(_advance(states[-1], x_BE, dt_BE, a_SE, b_BS))
    gradients = []
    for t in reversed(range(len(steps))):
        x_BE, dt_BE, b_BS, c_BS = steps[t]
        dy_BE = dy_CBE[t]
        g_BSE = g_BSE + dy_BE[:, None, :] * c_BS[:, :, None]
        dc_BS = jnp.sum(dy_BE[:, None, :] * states[t + 1], axis=-1)
        db_BS = jnp.sum(g_BSE * (dt_BE * x_BE)[:, None, :], axis=-1)
        d_input_BE = jnp.sum(g_BSE * b_BS[:, :, None], axis=1)  # of dt x
        g_BSE = g_BSE * jnp.exp(dt_BE[:, None, :] * a_SE[None])
        d_log_decay_BSE = g_BSE * states[t]  # of dt a
        ddt_BE = d_input_BE * x_BE + jnp.sum(d_log_decay_BSE * a_SE[None], axis=1)
        da_SE = da_SE + jnp.sum(d_log_decay_BSE * dt_BE[:, None, :], axis=0)
        gradients.append((d_input_BE * dt_BE, ddt_BE, db_BS, dc_BS))
    in_order = zip(*reversed(gradients), strict=True)
    return (g_BSE, da_SE), tuple(jnp.stack(gradient) for gradient in in_order)


_scan.defvjp(_scan_forward, _scan_backward)
