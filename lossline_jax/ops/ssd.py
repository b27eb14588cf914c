"""State-space duality: the scan of Mamba-2 as matrix products over chunks (Dao & Gu 2024, section 6).

Every head n carries a state h of shape [H, S] with a scalar decay:

    h[t] = exp(dt[t] a) h[t-1] + dt[t] x[t] b[t]^T        y[t] = h[t] c[t]

Letters beside the usual ones: G groups (N is a multiple of G; head n reads group n // (N / G)), and inside
the scan G stands for all groups of all sequences; R heads of one group, P = R H its channels, J chunks.
"""

import functools

import jax
import jax.numpy as jnp


def ssd_reference(
    x_BTNH: jax.Array, dt_BTN: jax.Array, a_N: jax.Array, b_BTGS: jax.Array, c_BTGS: jax.Array
) -> jax.Array:
    """The recurrence as written above, one position after another, in float32. Arguments as in `ssd`."""
    heads_a_group = x_BTNH.shape[2] // b_BTGS.shape[2]
    x, dt = x_BTNH.astype(jnp.float32), dt_BTN.astype(jnp.float32)
    b_BTNS = jnp.repeat(b_BTGS.astype(jnp.float32), heads_a_group, axis=2)
    c_BTNS = jnp.repeat(c_BTGS.astype(jnp.float32), heads_a_group, axis=2)

    def step(h_BNHS, at):
        x_BNH, dt_BN, b_BNS, c_BNS = at
        decay_BN = jnp.exp(dt_BN * a_N[None, :])
        update_BNHS = (dt_BN[..., None] * x_BNH)[..., None] * b_BNS[:, :, None, :]
        h_BNHS = decay_BN[..., None, None] * h_BNHS + update_BNHS
        return h_BNHS, jnp.einsum("bnhs,bns->bnh", h_BNHS, c_BNS)

    batch, _, num_heads, head_dim = x.shape
    start = jnp.zeros((batch, num_heads, head_dim, b_BTGS.shape[-1]), jnp.float32)
    time_first = [jnp.moveaxis(z, 1, 0) for z in (x, dt, b_BTNS, c_BTNS)]
    _, y_TBNH = jax.lax.scan(step, start, tuple(time_first))
    return jnp.moveaxis(y_TBNH, 0, 1).astype(x_BTNH.dtype)


def ssd(
    x_BTNH: jax.Array,
    dt_BTN: jax.Array,
    a_N: jax.Array,
    b_BTGS: jax.Array,
    c_BTGS: jax.Array,
    chunk_size: int,
) -> jax.Array:
    """The recurrence by chunks: attention-like products inside a chunk, the state carried to the next.

    Args:
        x_BTNH: inputs; products run in this dtype and add up in float32.
        dt_BTN: positive step sizes.
        a_N: negative decay rates, float32.
        b_BTGS, c_BTGS: input and output projections of the state.
        chunk_size: positions a chunk; T need not be a multiple.

    Returns:
        y in the dtype and shape of `x_BTNH`. Decays and the carried state are float32. Of each chunk only the
        state that enters it is kept for the backward pass.
    """
    batch, length, _, head_dim = x_BTNH.shape
    d_state = b_BTGS.shape[-1]
    # dt = 0 keeps the state as it is, so padding at the end changes nothing.
    dt_BTN = dt_BTN.astype(jnp.float32)
    inputs_BTNH = (dt_BTN[..., None] * x_BTNH.astype(jnp.float32)).astype(x_BTNH.dtype)
    split = functools.partial(_split, num_groups=b_BTGS.shape[2], chunk_size=min(chunk_size, length))
    chunks = (
        split(inputs_BTNH),
        split(dt_BTN * a_N[None, None, :]),
        split(b_BTGS)[:, :, :, 0],
        split(c_BTGS)[:, :, :, 0],
    )
    _, rows, _, heads_a_group, _ = chunks[0].shape
    start_GSP = jnp.zeros((rows, d_state, heads_a_group * head_dim), jnp.float32)
    _, y_JGCRH = jax.lax.scan(jax.checkpoint(_chunk, prevent_cse=False), start_GSP, chunks)
    return _join(y_JGCRH, batch)[:, :length]


def _chunk(state_GSP, chunk):
    """Every position reads the decayed entering state and its own chunk's past; then the new state."""
    x_GCRH, log_decay_GCR, b_GCS, c_GCS = chunk
    rows, length, _, head_dim = x_GCRH.shape
    dtype = x_GCRH.dtype
    since_start_GCR = jnp.cumsum(log_decay_GCR, axis=1)

    # y[i] = exp(s[i]) c[i] h
    y_GCP = _matmul("gcs,gsp->gcp", c_GCS, state_GSP.astype(dtype))
    y_GCRH = y_GCP.reshape(x_GCRH.shape) * jnp.exp(since_start_GCR)[..., None]
    # y[i] += sum over k <= i of (c[i] . b[k]) exp(s[i] - s[k]) x[k]
    scores_GCK = _matmul("gcs,gks->gck", c_GCS, b_GCS)
    weights_GRCK = (scores_GCK[:, None] * _decay_between(since_start_GCR)).astype(dtype)
    within_GRCH = _matmul("grck,gkrh->grch", weights_GRCK, x_GCRH)
    y_GCRH = y_GCRH + jnp.moveaxis(within_GRCH, 1, 2)

    # h = exp(s[end]) h + sum over k of exp(s[end] - s[k]) b[k] x[k]
    to_end_GCR = jnp.exp(since_start_GCR[:, -1:] - since_start_GCR)
    weighted_GCRH = (x_GCRH.astype(jnp.float32) * to_end_GCR[..., None]).astype(dtype)
    added_GSP = _matmul("gcs,gcp->gsp", b_GCS, weighted_GCRH.reshape(rows, length, -1))
    decay_GP = jnp.repeat(jnp.exp(since_start_GCR[:, -1]), head_dim, axis=-1)
    return state_GSP * decay_GP[:, None, :] + added_GSP, y_GCRH.astype(dtype)


def _decay_between(since_start_GCR: jax.Array) -> jax.Array:
    """exp(s[i] - s[k]) for k <= i, else 0, of shape [G, R, C, C]."""
    s_GRC = jnp.moveaxis(since_start_GCR, 1, -1)
    causal_CC = jnp.tri(s_GRC.shape[-1], dtype=bool)[None, None]
    # The mask goes inside exp: exp of a masked positive difference may overflow, and its gradient with it.
    return jnp.exp(jnp.where(causal_CC, s_GRC[..., :, None] - s_GRC[..., None, :], -jnp.inf))


def _matmul(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _split(x_BTN: jax.Array, num_groups: int, chunk_size: int) -> jax.Array:
    """[B, T, G R, ...] -> [J, B G, C, R, ...] with zeros at the end of T."""
    batch, length, _, *rest = x_BTN.shape
    padding = -length % chunk_size
    padded = jnp.pad(x_BTN, ((0, 0), (0, padding)) + ((0, 0),) * (x_BTN.ndim - 2))
    x_BJCGR = padded.reshape(batch, -1, chunk_size, num_groups, x_BTN.shape[2] // num_groups, *rest)
    x_JBGCR = jnp.moveaxis(x_BJCGR, (1, 3), (0, 2))
    return x_JBGCR.reshape(x_JBGCR.shape[0], -1, *x_JBGCR.shape[3:])


def _join(y_JGCRH: jax.Array, batch: int) -> jax.Array:
    """The inverse of `_split`, padding included: [B, T, N, H]."""
    num_chunks, _, chunk_size, heads_a_group, head_dim = y_JGCRH.shape
    y = y_JGCRH.reshape(num_chunks, batch, -1, chunk_size, heads_a_group, head_dim)
    return jnp.transpose(y, (1, 0, 3, 2, 4, 5)).reshape(batch, num_chunks * chunk_size, -1, head_dim)
