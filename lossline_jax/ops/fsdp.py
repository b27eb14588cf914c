"""Parameters of which every device along `data` holds a shard (FSDP), made whole where they are used.

Inside `jax.shard_map` over `data` this is said, not left to the compiler: left to it, a loop over chunks of a sequence
gathers the unembedding and sums its gradient over the devices once a chunk, and the embedding's look-up becomes an
all-to-all of hidden states.
"""

import functools
import math

import jax
import jax.numpy as jnp

from lossline_jax.ops.platform import platform

_MAX_RING = 4  # devices of a TPU whose reduce-scatter the compiler keeps whatever way they are wired


def gather_parameter(x: jax.Array, shape: tuple[int, ...], sent_as: jnp.dtype | None = None) -> jax.Array:
    """`x` in its full shape, gathered along `data` where it is a shard; its gradient is summed and split again.

    Args:
        x: the parameter, or inside `jax.shard_map` over `data` the shard of it that lies here.
        shape: of the whole.
        sent_as: dtype on the wire; None: that of `x`. The result and the sum of gradients have the dtype of `x`
            all the same, so that what is added up over many positions is not rounded on the way.

    Raises:
        ValueError: the shards do not make up `shape`.
    """
    for axis, (here, size) in enumerate(zip(x.shape, shape, strict=True)):
        if here != size:
            x = _gather(x, axis, jnp.dtype(sent_as or x.dtype))
    if x.shape != shape:
        raise ValueError(f"shards make up a parameter of shape {x.shape}, not {shape}")
    return x


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(x: jax.Array, axis: int, sent_as: jnp.dtype) -> jax.Array:
    return jax.lax.all_gather(x.astype(sent_as), "data", axis=axis, tiled=True).astype(x.dtype)


def _gather_forward(x: jax.Array, axis: int, sent_as: jnp.dtype) -> tuple[jax.Array, None]:
    return _gather(x, axis, sent_as), None


def _gather_backward(axis: int, sent_as: jnp.dtype, _: None, gradient: jax.Array) -> tuple[jax.Array]:
    return (reduce_scatter(gradient, axis, in_two=platform() == "tpu"),)


_gather.defvjp(_gather_forward, _gather_backward)


def reduce_scatter(x: jax.Array, axis: int, in_two: bool) -> jax.Array:
    """The sum of `x` over the devices along `data`, of which each keeps its shard of `axis`; in `jax.shard_map`.

    Args:
        in_two: first among devices that stand apart, then among neighbours, which sends as little. For TPUs: over all
            devices of a slice of two or three dimensions libtpu makes an all-reduce of it, which sends twice as much.
    """
    scatter = functools.partial(jax.lax.psum_scatter, axis_name="data", tiled=True)
    size = jax.lax.axis_size("data")
    near = max(k for k in range(1, math.isqrt(size) + 1) if size % k == 0)
    if not in_two or size <= _MAX_RING or near == 1:
        return scatter(x, scatter_dimension=axis)
    apart = [list(range(k, size, near)) for k in range(near)]
    neighbours = [list(range(k, k + near)) for k in range(0, size, near)]
    # Shards in front, where no tile of the memory layout is cut: libtpu gives up on those that end within a tile.
    split = x.reshape(*x.shape[:axis], size, -1, *x.shape[axis + 1 :])
    shards = jnp.moveaxis(split, axis, 0)
    for groups in (apart, neighbours):
        shards = scatter(shards, scatter_dimension=0, axis_index_groups=groups)
    return shards[0]
