"""State-space duality (SSD): the scan of Mamba-2 as matrix products over chunks (Dao & Gu 2024, section 6).

Every head n carries a state h of shape [H, S] with a scalar decay:

    h[t] = exp(dt[t] a) h[t-1] + dt[t] x[t] b[t]^T        y[t] = h[t] c[t]

The first position of a document (segment) forgets the state before it.

Axis letters, besides the usual ones: G groups (N is a multiple of G, and head n reads group n // (N / G)), R heads of
one group, P = R H channels of one group, J chunks. Inside the scan, G counts all groups of all sequences.

Read `ssd_reference` first, then `ssd` and `_chunk`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from lossline_jax.ops.attention import query_blocks
from lossline_jax.ops.prefix_tree import PrefixTree, visible

# Sums of multiples of this step are exact in float32 up to 2^18.
_COARSE_STEP = 2.0**-6


def ssd_reference(  # noqa: PLR0917  (the five arrays of the recurrence)
    x_BTNH: jax.Array,
    dt_BTN: jax.Array,
    a_N: jax.Array,
    b_BTGS: jax.Array,
    c_BTGS: jax.Array,
    *,
    segments_BT: jax.Array | None = None,
) -> jax.Array:
    """Compute the recurrence as written above, position by position, in float32. Arguments as for `ssd`."""
    heads_a_group = x_BTNH.shape[2] // b_BTGS.shape[2]
    x, dt = x_BTNH.astype(jnp.float32), dt_BTN.astype(jnp.float32)
    b_BTNS = jnp.repeat(b_BTGS.astype(jnp.float32), heads_a_group, axis=2)
    c_BTNS = jnp.repeat(c_BTGS.astype(jnp.float32), heads_a_group, axis=2)

    if segments_BT is None:
        segments_BT = jnp.zeros(dt_BTN.shape[:2], jnp.int32)
    starts_BT = jnp.diff(segments_BT, axis=1, prepend=segments_BT[:, :1]) != 0

    def step(h_BNHS: jax.Array, inputs: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        x_BNH, dt_BN, b_BNS, c_BNS, starts_B = inputs
        decay_BN = jnp.where(starts_B[:, None], 0, jnp.exp(dt_BN * a_N[None, :]))
        update_BNHS = (dt_BN[..., None] * x_BNH)[..., None] * b_BNS[:, :, None, :]
        h_BNHS = decay_BN[..., None, None] * h_BNHS + update_BNHS
        return h_BNHS, jnp.einsum("bnhs,bns->bnh", h_BNHS, c_BNS)

    batch, _, num_heads, head_dim = x.shape
    start = jnp.zeros((batch, num_heads, head_dim, b_BTGS.shape[-1]), jnp.float32)
    time_first = [jnp.moveaxis(z, 1, 0) for z in (x, dt, b_BTNS, c_BTNS, starts_BT)]
    _, y_TBNH = jax.lax.scan(step, start, tuple(time_first))
    return jnp.moveaxis(y_TBNH, 0, 1).astype(x_BTNH.dtype)


def ssd(  # noqa: PLR0917  (the five arrays of the recurrence)
    x_BTNH: jax.Array,
    dt_BTN: jax.Array,
    a_N: jax.Array,
    b_BTGS: jax.Array,
    c_BTGS: jax.Array,
    *,
    chunk_size: int,
    segments_BT: jax.Array | None = None,
    tree: PrefixTree | None = None,
) -> jax.Array:
    """Compute the recurrence in chunks, with attention-like products inside a chunk. The state goes to the next chunk.

    Args:
        x_BTNH: inputs. Products have operands of this dtype and accumulate in float32.
        dt_BTN: positive step sizes.
        a_N: negative decay rates, float32.
        b_BTGS: input projections of the state.
        c_BTGS: output projections of the state.
        chunk_size: positions per chunk. T need not be a multiple.
        segments_BT: number of the document of every position, never decreasing along T. No state passes from one
            document to the next. None: each row is one document.
        tree: the positions that texts share; trees may have any shape. The row is then one chunk, independent of
            `chunk_size`. None: each row is one text.

    Returns:
        y in the dtype and shape of `x_BTNH`. Decays and the carried state are float32. Only the state that enters each
        chunk is kept for the backward pass.
    """
    batch, length, _, head_dim = x_BTNH.shape
    d_state = b_BTGS.shape[-1]
    # dt = 0 does not change the state, so padding at the end changes nothing.
    dt_BTN = dt_BTN.astype(jnp.float32)
    inputs_BTNH = (dt_BTN[..., None] * x_BTNH.astype(jnp.float32)).astype(x_BTNH.dtype)
    chunk_size = length if tree is not None else min(chunk_size, length)
    split = functools.partial(_split, num_groups=b_BTGS.shape[2], chunk_size=chunk_size)
    chunks = (
        split(inputs_BTNH),
        split(dt_BTN * a_N[None, None, :]),
        split(b_BTGS)[:, :, :, 0],
        split(c_BTGS)[:, :, :, 0],
        None if segments_BT is None else _segment_chunks(segments_BT, split, b_BTGS.shape[2]),
    )
    if tree is not None:
        x_JGTRH, log_decay_JGTR, b_JGTS, c_JGTS, _ = chunks  # one chunk: J = 1
        y_GTRH = _tree_row(x_JGTRH[0], log_decay_JGTR[0], b_JGTS[0], c_JGTS[0], visible_until_BT=tree.visible_until_BT)
        return _join(y_GTRH[None], batch)
    _, rows, _, heads_a_group, _ = chunks[0].shape
    start_GSP = jnp.zeros((rows, d_state, heads_a_group * head_dim), jnp.float32)
    _, y_JGCRH = jax.lax.scan(jax.checkpoint(_chunk, prevent_cse=False), start_GSP, chunks)
    return _join(y_JGCRH, batch)[:, :length]


def _segment_chunks(
    segments_BT: jax.Array, split: Callable[[jax.Array], jax.Array], num_groups: int
) -> tuple[jax.Array, jax.Array]:
    """Return the segment of the position before each chunk, [J, G], and the segments inside, [J, G, C]."""
    segments_BTG = jnp.broadcast_to(segments_BT[:, :, None], (*segments_BT.shape, num_groups))
    segments_JGC = split(segments_BTG)[..., 0]
    before_JG = jnp.concatenate([segments_JGC[:1, :, 0], segments_JGC[:-1, :, -1]])
    return before_JG, segments_JGC


def _chunk(state_GSP: jax.Array, chunk: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    """Compute one chunk from the state that enters it.

    Every position reads the decayed entering state, and the earlier positions of its own chunk.

    Returns:
        The state after the chunk, and the outputs.
    """
    x_GCRH, log_decay_GCR, b_GCS, c_GCS, segments = chunk
    rows, length, _, head_dim = x_GCRH.shape
    dtype = x_GCRH.dtype
    decays = _decays(log_decay_GCR) if segments is None else _segment_decays(log_decay_GCR, *segments)
    from_start_GCR, between_GRCK, to_end_GCR, through_GR = decays

    # y[i] = exp(s[i]) c[i] h, where s is the cumulative sum of the log decays of the chunk
    y_GCP = _matmul("gcs,gsp->gcp", c_GCS, state_GSP.astype(dtype))
    y_GCRH = y_GCP.reshape(x_GCRH.shape) * from_start_GCR[..., None]
    # y[i] += sum over k <= i of (c[i] . b[k]) exp(s[i] - s[k]) x[k]
    scores_GCK = _matmul("gcs,gks->gck", c_GCS, b_GCS)
    weights_GRCK = (scores_GCK[:, None] * between_GRCK).astype(dtype)
    within_GRCH = _matmul("grck,gkrh->grch", weights_GRCK, x_GCRH)
    y_GCRH = y_GCRH + jnp.moveaxis(within_GRCH, 1, 2)

    # h = exp(s[end]) h + sum over k of exp(s[end] - s[k]) b[k] x[k]
    weighted_GCRH = (x_GCRH.astype(jnp.float32) * to_end_GCR[..., None]).astype(dtype)
    added_GSP = _matmul("gcs,gcp->gsp", b_GCS, weighted_GCRH.reshape(rows, length, -1))
    decay_GP = jnp.repeat(through_GR, head_dim, axis=-1)
    return state_GSP * decay_GP[:, None, :] + added_GSP, y_GCRH.astype(dtype)


def _decays(log_decay_GCR: jax.Array) -> tuple[jax.Array, ...]:
    """Return the decay factors between the start of a chunk, its positions and its end.

    Returns:
        From the start to i, [G, C, R]; from k to i, [G, R, C, C], 0 for k > i; from k to the end, [G, C, R]; from the
        start to the end, [G, R].
    """
    s_GCR = jnp.cumsum(log_decay_GCR, axis=1)
    from_start_GCR = jnp.exp(s_GCR)
    between_GRCK = _decay_between(s_GCR, jnp.tri(s_GCR.shape[1], dtype=bool)[None])
    return from_start_GCR, between_GRCK, jnp.exp(s_GCR[:, -1:] - s_GCR), jnp.exp(s_GCR[:, -1])


def _segment_decays(log_decay_GCR: jax.Array, before_G: jax.Array, segments_GC: jax.Array) -> tuple[jax.Array, ...]:
    """Return the decay factors of a chunk with segments: 0 between positions of different segments.

    `before_G` has the segment of the state that enters the chunk.
    """
    same_GCK = segments_GC[:, :, None] == segments_GC[:, None, :]
    visible_GCK = same_GCK & jnp.tri(segments_GC.shape[1], dtype=bool)[None]
    # The sums start at zero in each segment, so that not even their rounding depends on another document.
    s_GCR = jnp.einsum("gck,gkr->gcr", visible_GCK.astype(jnp.float32), log_decay_GCR, precision="highest")
    entered_GC = segments_GC == before_G[:, None]
    from_start_GCR = _exp_where(entered_GC[..., None], s_GCR)
    to_end_GCR = _exp_where(same_GCK[:, -1, :, None], s_GCR[:, -1:] - s_GCR)
    return from_start_GCR, _decay_between(s_GCR, visible_GCK), to_end_GCR, from_start_GCR[:, -1]


def _tree_row(
    x_GTRH: jax.Array,
    log_decay_GTR: jax.Array,
    b_GTS: jax.Array,
    c_GTS: jax.Array,
    *,
    visible_until_BT: jax.Array,
) -> jax.Array:
    """Compute a row of trees like a chunk without an entering state, in blocks of positions.

    Each block reads the positions up to its end.

    The sums of log decays grow with the length of a text, and their differences then lose small values. So each log
    decay is split into a multiple of a coarse step and a remainder. The sums of multiples are exact, and the sums of
    remainders stay small.
    """
    num_groups = len(x_GTRH) // len(visible_until_BT)
    blocks = query_blocks(x_GTRH.shape[1])
    visible_by_block = [jnp.repeat(visible(visible_until_BT, rows, rows.stop), num_groups, axis=0) for rows in blocks]
    coarse_GTR = jnp.round(log_decay_GTR / _COARSE_STEP) * _COARSE_STEP
    parts_GTX = jnp.concatenate([coarse_GTR, log_decay_GTR - coarse_GTR], axis=-1)
    sums_GTX = jnp.concatenate(
        [
            jnp.einsum("gck,gkx->gcx", mask_GCK.astype(jnp.float32), parts_GTX[:, : rows.stop], precision="highest")
            for rows, mask_GCK in zip(blocks, visible_by_block, strict=True)
        ],
        axis=1,
    )
    # The barrier puts these arrays into memory. Fused into the blocks, they would be computed again in each block.
    x_GRTH, coarse_GRT, fine_GRT, b_GTS, c_GTS = jax.lax.optimization_barrier(
        (jnp.swapaxes(x_GTRH, 1, 2), *jnp.split(jnp.swapaxes(sums_GTX, 1, 2), 2, axis=1), b_GTS, c_GTS)
    )
    outputs = []
    for rows, visible_GCK in zip(blocks, visible_by_block, strict=True):
        end = rows.stop
        between_GRCK = (coarse_GRT[:, :, rows, None] - coarse_GRT[:, :, None, :end]) + (
            fine_GRT[:, :, rows, None] - fine_GRT[:, :, None, :end]
        )
        scores_GCK = _matmul("gcs,gks->gck", c_GTS[:, rows], b_GTS[:, :end])
        weights_GRCK = scores_GCK[:, None] * _exp_where(visible_GCK[:, None], between_GRCK)
        outputs.append(_matmul("grck,grkh->grch", weights_GRCK.astype(x_GRTH.dtype), x_GRTH[:, :, :end]))
    return jnp.swapaxes(jnp.concatenate(outputs, axis=2), 1, 2).astype(x_GTRH.dtype)


def _decay_between(s_GCR: jax.Array, visible_GCK: jax.Array) -> jax.Array:
    """Return exp(s[i] - s[k]) if i sees k, else 0, of shape [G, R, C, C]."""
    s_GRC = jnp.moveaxis(s_GCR, 1, -1)
    return _exp_where(visible_GCK[:, None], s_GRC[..., :, None] - s_GRC[..., None, :])


def _exp_where(mask: jax.Array, log: jax.Array) -> jax.Array:
    # The mask is inside exp, because exp of a masked positive difference may overflow, and so may its gradient.
    return jnp.exp(jnp.where(mask, log, -jnp.inf))


def _matmul(subscripts: str, left: jax.Array, right: jax.Array) -> jax.Array:
    return jnp.einsum(subscripts, left, right, preferred_element_type=jnp.float32)


def _split(x_BTN: jax.Array, num_groups: int, chunk_size: int) -> jax.Array:
    """Reshape [B, T, G R, ...] to [J, B G, C, R, ...], with zeros at the end of T."""
    batch, length, _, *rest = x_BTN.shape
    padding = -length % chunk_size
    padded = jnp.pad(x_BTN, ((0, 0), (0, padding)) + ((0, 0),) * (x_BTN.ndim - 2))
    x_BJCGR = padded.reshape(batch, -1, chunk_size, num_groups, x_BTN.shape[2] // num_groups, *rest)
    x_JBGCR = jnp.moveaxis(x_BJCGR, (1, 3), (0, 2))
    return x_JBGCR.reshape(x_JBGCR.shape[0], -1, *x_JBGCR.shape[3:])


def _join(y_JGCRH: jax.Array, batch: int) -> jax.Array:
    """Reshape the chunks back to [B, T, N, H], with the padding that `_split` added."""
    num_chunks, _, chunk_size, heads_a_group, head_dim = y_JGCRH.shape
    y = y_JGCRH.reshape(num_chunks, batch, -1, chunk_size, heads_a_group, head_dim)
    return jnp.transpose(y, (1, 0, 3, 2, 4, 5)).reshape(batch, num_chunks * chunk_size, -1, head_dim)
