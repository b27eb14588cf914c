"""Causal self-attention with jax's Pallas kernel for TPUs (splash attention), which keeps no scores in memory."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
from jax.sharding import PartitionSpec as P

from lossline_jax.errors import LosslineError

_LANES = 128  # positions of the kernel's smallest block
_MAX_BLOCK = 512  # positions
_ROW_AXES = ("slice", "data")  # mesh axes of `distributed.layout`, over which rows are split


def splash_attention(
    q_BTNH: jax.Array,
    k_BTKH: jax.Array,
    v_BTKH: jax.Array,
    segments_BT: jax.Array | None = None,
    *,
    interpret: bool = False,
) -> jax.Array:
    """Return the result of `causal_attention`. Every device of the mesh computes its own rows and heads.

    Args:
        q_BTNH: queries, as for `causal_attention`. T is padded to a multiple of 128.
        k_BTKH: keys.
        v_BTKH: values.
        segments_BT: numbers of the documents, as for `causal_attention`. None: each row is one document.
        interpret: run the kernel's program in plain jax, slowly but on any backend, to test it.

    Raises:
        LosslineError: the mesh does not divide the rows or the heads.
    """
    attend = functools.partial(_attend, interpret=interpret)
    arrays = (q_BTNH, k_BTKH, v_BTKH, segments_BT)
    mesh = jax.sharding.get_abstract_mesh()
    free = [axis for axis in mesh.axis_names if axis not in mesh.manual_axes]
    if not free:
        return attend(*arrays)
    # The compiler cannot split a kernel, so rows and heads are split over the mesh axes here.
    rows, heads = tuple(axis for axis in _ROW_AXES if axis in free), ("model" if "model" in free else None)
    _check_divisible(k_BTKH.shape, rows, heads, mesh)
    qkv = P(rows or None, None, heads)
    specs = (qkv, qkv, qkv, None if segments_BT is None else P(rows or None))
    return jax.shard_map(attend, in_specs=specs, out_specs=qkv, axis_names=set(free), check_vma=False)(*arrays)


def _check_divisible(
    shape: tuple[int, ...], rows: tuple[str, ...], heads: str | None, mesh: jax.sharding.AbstractMesh
) -> None:
    num_devices = math.prod(mesh.shape[axis] for axis in rows), 1 if heads is None else mesh.shape[heads]
    names = ("sequences", "data"), ("key/value heads", "model")
    for size, count, (name, axis) in zip((shape[0], shape[2]), num_devices, names, strict=True):
        if size % count:
            raise LosslineError(
                f"attention: impl 'splash' cannot split {size} {name} over the {count} devices of mesh "
                f"axis {axis!r}; choose an execution.{axis}_parallel that divides them, or use impl 'xla'"
            )


def _attend(
    q_BTNH: jax.Array, k_BTKH: jax.Array, v_BTKH: jax.Array, segments_BT: jax.Array | None, *, interpret: bool
) -> jax.Array:
    """Run the kernel on one device, which holds its arguments whole."""
    num_positions, num_heads, head_dim = q_BTNH.shape[1:]
    # No position sees later positions, so padding at the end changes nothing.
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
    kernel: Any = kernels.make_splash_mha_single_device(mask, block_sizes=blocks, interpret=interpret)

    def attend_row(q_NTH: jax.Array, k_KTH: jax.Array, v_KTH: jax.Array, segments_T: jax.Array | None) -> jax.Array:
        segments = None if segments_T is None else kernels.SegmentIds(q=segments_T, kv=segments_T)
        return kernel(q_NTH, k_KTH, v_KTH, segments)

    # The kernel does not scale the queries, and expects heads before positions.
    padded = [_pad_end(x, length) for x in (q_BTNH * head_dim**-0.5, k_BTKH, v_BTKH)]
    q_BNTH, k_BKTH, v_BKTH = (x.swapaxes(1, 2) for x in padded)
    segments_BT = None if segments_BT is None else _pad_end(segments_BT, length)
    out_BNTH = jax.vmap(attend_row)(q_BNTH, k_BKTH, v_BKTH, segments_BT)
    return out_BNTH[:, :, :num_positions].swapaxes(1, 2)


def _pad_end(x_BT: jax.Array, length: int) -> jax.Array:
    return jnp.pad(x_BT, ((0, 0), (0, length - x_BT.shape[1])) + ((0, 0),) * (x_BT.ndim - 2))
