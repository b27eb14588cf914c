"""Causal self-attention with grouped key/value heads."""

from typing import Literal, get_args

import jax
import jax.numpy as jnp

from lossline_jax.errors import LosslineError
from lossline_jax.ops.block_sizes import MAX_QUERY_BLOCKS, MIN_QUERY_BLOCK
from lossline_jax.ops.platform import platform
from lossline_jax.ops.prefix_tree import PrefixTree, visible


def query_blocks(length: int) -> list[slice]:
    """Return at most 8 blocks of at least 32 positions.

    With 8 blocks, each against the keys up to its end, attention takes 9/16 of the work of all pairs.
    """
    block = max(-(-length // MAX_QUERY_BLOCKS), MIN_QUERY_BLOCK)
    return [slice(start, min(start + block, length)) for start in range(0, length, block)]


AttentionImpl = Literal["xla", "cudnn", "splash"]


def causal_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    impl: AttentionImpl = "xla",
    *,
    segments_BT: jax.Array | None = None,
    tree: PrefixTree | None = None,
) -> jax.Array:
    """Return `softmax(q k^T / sqrt(H)) v` over the present and earlier positions.

    Args:
        q_BTNH: queries. N is a multiple of K, and query head n reads key/value head n // (N / K).
        k_BTKH: keys.
        v_BTKH: values.
        impl: `xla` runs anywhere. `cudnn` is the fused kernel for NVIDIA GPUs and half precision, without segments.
            `splash` is the kernel for TPUs (`lossline_jax.ops.splash`).
        segments_BT: number of the document of every position, never decreasing along T. A position reads its own
            document only. None: each row is one document.
        tree: the positions that texts share. Only `xla` reads a tree, and not together with segments. None: each row
            is one text.

    Returns:
        [B, T, N, H] in the dtype of `q_BTNH`; the softmax is computed in float32.

    Raises:
        LosslineError: `impl` is unknown or cannot run here. There is no fallback.
    """
    if impl == "xla":
        return _blocked_causal_attention(q_BTNH, k_BTKH, v_BTKH, segments_BT, tree=tree)
    if tree is not None and impl in get_args(AttentionImpl):
        raise LosslineError(f"attention: impl {impl!r} cannot read texts that share a beginning (tree); use impl 'xla'")
    if impl == "cudnn":
        return _cudnn_attention(q_BTNH, k_BTKH, v_BTKH, segments_BT)
    if impl == "splash":
        return _splash_attention(q_BTNH, k_BTKH, v_BTKH, segments_BT)
    raise LosslineError(f"attention: impl {impl!r} is not one of {list(get_args(AttentionImpl))}")


def reference_causal_attention(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segments_BT: jax.Array | None = None
) -> jax.Array:
    """Return the result of `causal_attention` from its formula, with all scores in memory, to test it."""
    group = q_BTNH.shape[2] // k_BTKH.shape[2]
    k_BTNH, v_BTNH = jnp.repeat(k_BTKH, group, axis=2), jnp.repeat(v_BTKH, group, axis=2)
    scores_BNTT = jnp.einsum("btnh,bsnh->bnts", q_BTNH, k_BTNH, preferred_element_type=jnp.float32)
    visible_BNTT = jnp.tri(q_BTNH.shape[1], dtype=bool)[None, None]
    if segments_BT is not None:
        visible_BNTT = visible_BNTT & (segments_BT[:, None, :, None] == segments_BT[:, None, None, :])
    scores_BNTT = jnp.where(visible_BNTT, scores_BNTT / q_BTNH.shape[-1] ** 0.5, -jnp.inf)
    weights_BNTT = jax.nn.softmax(scores_BNTT, axis=-1).astype(q_BTNH.dtype)
    return jnp.einsum("bnts,bsnh->btnh", weights_BNTT, v_BTNH)


def _blocked_causal_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None,
    *,
    tree: PrefixTree | None,
) -> jax.Array:
    """Compute attention in blocks of queries, each against the keys up to its end."""
    # Heads before positions, transposed once, so that no product needs its own transpose.
    q_BNTH = jnp.swapaxes(q_BTNH * q_BTNH.shape[3] ** -0.5, 1, 2)
    k_BKTH, v_BKTH = jnp.swapaxes(k_BTKH, 1, 2), jnp.swapaxes(v_BTKH, 1, 2)
    outputs = []
    for rows in query_blocks(q_BTNH.shape[1]):
        end = rows.stop
        if tree is None:
            visible_BTS = jnp.tri(end - rows.start, end, rows.start, dtype=bool)[None]
        else:
            visible_BTS = visible(tree.visible_until_BT, rows, end)
        if segments_BT is not None:
            visible_BTS = visible_BTS & (segments_BT[:, rows, None] == segments_BT[:, None, :end])
        outputs.append(_attend(q_BNTH[:, :, rows], k_BKTH[:, :, :end], v_BKTH[:, :, :end], visible_BTS))
    return jnp.swapaxes(jnp.concatenate(outputs, axis=2), 1, 2)


def _attend(q_BNTH: jax.Array, k_BKSH: jax.Array, v_BKSH: jax.Array, visible_BTS: jax.Array) -> jax.Array:
    """Attend from scaled queries at T of the S positions of the keys.

    `visible_BTS` has one mask for all sequences, or one per sequence.
    """
    batch, num_heads, _, head_dim = q_BNTH.shape
    kv_heads = k_BKSH.shape[1]
    # The queries of all heads that share a key/value head are the Q rows of one product.
    q_BKQH = q_BNTH.reshape(batch, kv_heads, -1, head_dim)
    scores_BKQS = jnp.einsum("bkqh,bksh->bkqs", q_BKQH, k_BKSH, preferred_element_type=jnp.float32)
    visible_BKQS = jnp.tile(visible_BTS, (1, num_heads // kv_heads, 1))[:, None]
    scores_BKQS = jnp.where(visible_BKQS, scores_BKQS, -jnp.inf)
    weights_BKQS = jax.nn.softmax(scores_BKQS, axis=-1).astype(v_BKSH.dtype)
    return jnp.einsum("bkqs,bksh->bkqh", weights_BKQS, v_BKSH).reshape(q_BNTH.shape)


def _cudnn_attention(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segments_BT: jax.Array | None
) -> jax.Array:
    device, head_dim = platform(), q_BTNH.shape[-1]
    if segments_BT is not None:
        raise LosslineError("attention: impl 'cudnn' cannot keep packed documents (segments) apart; use impl 'xla'")
    if device != "gpu" or q_BTNH.dtype not in (jnp.bfloat16, jnp.float16):
        raise LosslineError(
            "attention: impl 'cudnn' needs an NVIDIA GPU and compute_dtype 'bfloat16', "
            f"here {device!r} and {q_BTNH.dtype.name!r}; use impl 'xla'"
        )
    if head_dim % 8 or head_dim > 256:
        raise LosslineError(
            "attention: impl 'cudnn' needs heads of a multiple of 8 channels, at most 256 (128 before Hopper), "
            f"here {head_dim}; use impl 'xla'"
        )
    return jax.nn.dot_product_attention(q_BTNH, k_BTKH, v_BTKH, is_causal=True, implementation="cudnn")


def _splash_attention(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segments_BT: jax.Array | None
) -> jax.Array:
    device = platform()
    if device != "tpu":
        raise LosslineError(
            f"attention: impl 'splash' needs a TPU, here {device!r}; use impl 'xla', or on NVIDIA GPUs 'cudnn'"
        )
    # not at the top of the file, because importing the kernel takes 0.4 seconds
    from lossline_jax.ops.splash import splash_attention

    return splash_attention(q_BTNH, k_BTKH, v_BTKH, segments_BT)
