"""Causal self-attention by jax's Pallas kernel for TPUs, which keeps no scores (splash attention)."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec as P

from lossline_jax.errors import LosslineError

_LANES = 128  # the kernel's smallest block of positions
_MAX_BLOCK = 512
_ROW_AXES = ("slice", "data")  # mesh axes of `distributed.mesh`


def splash_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None = None,
    interpret: bool = False,
) -> jax.Array:
    """`causal_attention` by the kernel, on every device of the mesh for its own rows and heads.

    Args:
        q_BTNH, k_BTKH, v_BTKH, segments_BT: as in `causal_attention`. T is filled up to a multiple of 128.
        interpret: run the kernel's program in plain jax, on any backend and slowly, to test it.

    Raises:
        LosslineError: rows or heads that the mesh does not divide.
    """
    attend = functools.partial(_attend, interpret=interpret)
    arrays = (q_BTNH, k_BTKH, v_BTKH, segments_BT)
    mesh = jax.sharding.get_abstract_mesh()
    free = [axis for axis in mesh.axis_names if axis not in mesh.manual_axes]
    if not free:
        return attend(*arrays)
    # The compiler cannot split a kernel: rows and heads are laid on the axes of `distributed.mesh` here.
    rows, heads = tuple(axis for axis in _ROW_AXES if axis in free), ("model" if "model" in free else None)
    _check_divisible(k_BTKH.shape, rows, heads, mesh)
    qkv = P(rows or None, None, heads)
    specs = (qkv, qkv, qkv, None if segments_BT is None else P(rows or None))
    return jax.shard_map(attend, in_specs=specs, out_specs=qkv, axis_names=set(free), check_vma=False)(*arrays)


def _check_divisible(shape: tuple[int, ...], rows: tuple[str, ...], heads: str | None, mesh) -> None:
    parts = math.prod(mesh.shape[axis] for axis in rows), 1 if heads is None else mesh.shape[heads]
    whats = ("sequences", "data"), ("key/value heads", "model")
    for size, count, (what, axis) in zip((shape[0], shape[2]), parts, whats, strict=True):
        if size % count:
            raise LosslineError(
                f"attention: impl 'splash' cannot split {size} {what} over the {count} devices of mesh "
                f"axis {axis!r}; choose an execution.{axis}_parallel that divides them, or use impl 'xla'"
            )


def _attend(q_BTNH, k_BTKH, v_BTKH, segments_BT, interpret):
    """On one device, which holds its arguments whole."""
    num_positions, num_heads, head_dim = q_BTNH.shape[1:]
    # No position sees the ones after it, so filling up the end changes nothing.
    length = -(-num_positions // _LANES) * _LANES
    block = math.gcd(length, _MAX_BLOCK)
    blocks = kernels.BlockSizes(
        block_q=block,
        block_kv=block,
        block_q_dkv=block,
        block_kv_dkv=block,
        block_q_dq=block,
        block_kv_dq=block,
    )
    mask = masks.MultiHeadMask([masks.CausalMask((length, length))] * num_heads)
    kernel = kernels.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)

    def attend_row(q_NTH, k_KTH, v_KTH, segments_T):
        segments = None if segments_T is None else kernels.SegmentIds(q=segments_T, kv=segments_T)
        return kernel(q_NTH, k_KTH, v_KTH, segments)

    # The kernel does not scale, and wants heads before positions.
    padded = (_pad_end(x, length) for x in (q_BTNH * head_dim**-0.5, k_BTKH, v_BTKH))
    segments_BT = None if segments_BT is None else _pad_end(segments_BT, length)
    out_BNTH = jax.vmap(attend_row)(*(x.swapaxes(1, 2) for x in padded), segments_BT)
    return out_BNTH[:, :, :num_positions].swapaxes(1, 2)


def _pad_end(x_BT: jax.Array, length: int) -> jax.Array:
    return jnp.pad(x_BT, ((0, 0), (0, length - x_BT.shape[1])) + ((0, 0),) * (x_BT.ndim - 2))
