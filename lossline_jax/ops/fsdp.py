"""Gather parameters that are sharded over the mesh axis `data` (FSDP), at the places where they are used.

The code gathers explicitly inside `jax.shard_map` over `data`, because the compiler would gather in worse places. In a
loop over chunks of a sequence, it would gather the unembedding and sum its gradient once per chunk. It would also turn
the look-up of embeddings into an all-to-all of hidden states.
"""

import functools
import math

import jax
import jax.numpy as jnp

from lossline_jax.ops.platform import platform

_MAX_RING = 4  # TPU devices whose reduce-scatter the compiler keeps, independent of the way they are connected


def gather_parameter(x: jax.Array, shape: tuple[int, ...], sent_as: jnp.dtype | None = None) -> jax.Array:
    """Return the whole parameter, gathered over `data` if `x` is a shard. Its gradient is reduce-scattered.

    Args:
        x: the parameter, or inside `jax.shard_map` over `data` this device's shard of it.
        shape: shape of the whole parameter.
        sent_as: dtype in which the shards are sent. None: the dtype of `x`. The result and the sum of gradients have
            the dtype of `x` in any case, so that a sum over many positions is not rounded.

    Raises:
        ValueError: the shards together do not have the shape `shape`.
    """
    for axis, (local_size, size) in enumerate(zip(x.shape, shape, strict=True)):
        if local_size != size:
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
    """Sum `x` over the devices along `data`, and keep this device's shard of the sum. Call it in `jax.shard_map`.

    Args:
        x: the values of this device.
        axis: the dimension of `x` that is sharded.
        in_two: reduce in two steps, first among distant devices, then among neighbours. This sends as little data as
            one step. It is for TPUs: on all devices of a slice with two or three dimensions, libtpu turns one step
            into an all-reduce, which sends twice as much.
    """
    scatter = functools.partial(jax.lax.psum_scatter, axis_name="data", tiled=True)
    size = jax.lax.axis_size("data")
    num_neighbours = max(k for k in range(1, math.isqrt(size) + 1) if size % k == 0)
    if not in_two or size <= _MAX_RING or num_neighbours == 1:
        return scatter(x, scatter_dimension=axis)
    distant = [list(range(k, size, num_neighbours)) for k in range(num_neighbours)]
    neighbours = [list(range(k, k + num_neighbours)) for k in range(0, size, num_neighbours)]
    # Shards on the first axis, so that none ends inside a tile of the memory layout: libtpu would make an all-reduce.
    split = x.reshape(*x.shape[:axis], size, -1, *x.shape[axis + 1 :])
    shards = jnp.moveaxis(split, axis, 0)
    for groups in (distant, neighbours):
        shards = scatter(shards, scatter_dimension=0, axis_index_groups=groups)
    return shards[0]
