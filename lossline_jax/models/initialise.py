"""Declared parameters as arrays: their start values, and how a Linen module reads them."""

import math
from collections.abc import Callable
from typing import Any, Protocol, assert_never

import jax
import jax.numpy as jnp

from lossline_jax.models.parameters import (
    Constant,
    Declaration,
    LogIndex,
    LogUniform,
    Normal,
    Params,
    Start,
    StepBias,
    Uniform,
)
from lossline_jax.ops.fsdp import gather_parameter

_CUT = 3.0  # the normal distribution is truncated at 3 sigma, as in the study


def initialise(key: jax.Array, declaration: Declaration) -> Params:
    """Return float32 start values: a function of the key and the declaration alone, whatever the devices.

    All leaves are cut from one flat draw: a draw a leaf costs seconds of compilation.
    """
    leaves, structure = jax.tree.flatten(declaration)
    draws = jax.random.truncated_normal(key, -_CUT, _CUT, (sum(leaf.size for leaf in leaves),))
    values, offset = [], 0
    for leaf in leaves:
        values.append(_start_values(leaf.start, draws[offset : offset + leaf.size].reshape(leaf.shape)))
        offset += leaf.size
    return jax.tree.unflatten(structure, values)


def _start_values(start: Start, draw: jax.Array) -> jax.Array:
    """Turn draws of a standard normal truncated at 3 sigma, in the leaf's shape, into start values."""
    match start:
        case Normal(sigma):
            return sigma * draw
        case Uniform(low, high):
            return _uniform(draw, low, high)
        case Constant(value):
            return jnp.full_like(draw, value)
        case LogUniform(low, high):
            return jnp.log(_uniform(draw, low, high))
        case LogIndex():
            index_S = jnp.arange(1, draw.shape[-2] + 1, dtype=draw.dtype)
            return jnp.broadcast_to(jnp.log(index_S)[:, None], draw.shape)
        case StepBias(dt_min, dt_max):
            return _inverse_softplus(jnp.exp(_uniform(draw, math.log(dt_min), math.log(dt_max))))
        case _:
            assert_never(start)


def _uniform(draw: jax.Array, low: float, high: float) -> jax.Array:
    """Map truncated normal draws to [low, high] by their distribution function."""
    bound = math.erf(_CUT / math.sqrt(2))
    return low + (high - low) * 0.5 * (1 + jax.lax.erf(draw / math.sqrt(2)) / bound)


def _inverse_softplus(x: jax.Array) -> jax.Array:
    return x + jnp.log(-jnp.expm1(-x))


class _HoldsParameters(Protocol):
    def get_variable(self, collection: str, name: str) -> jax.Array: ...
    def param(self, name: str, init_fn: Callable[..., jax.Array], *args: Any) -> jax.Array: ...
    def is_initializing(self) -> bool: ...


def declare(module: _HoldsParameters, declaration: Declaration, dtype: jnp.dtype) -> dict[str, jax.Array]:
    """Read a Linen module's parameters, with matrices cast to the compute dtype.

    Vectors and the leaves without weight decay (rates of decay) stay float32. Where devices hold shards (FSDP), a layer
    is gathered here. The values come from `initialise`: Linen's own initialiser only states the shape, because it
    refuses a shard of another shape.
    """
    values = {}
    for name, leaf in declaration.items():
        stated = module.param(name, _zeros, leaf.shape) if module.is_initializing() else None
        # The barrier cuts a layer's parameter out of the stack before it is used: fused into an elementwise loop,
        # the cut is made again at every number (4% of a Mamba-2 step on CPU).
        value = jax.lax.optimization_barrier(module.get_variable("params", name) if stated is None else stated)
        values[name] = gather_parameter(
            value.astype(dtype) if leaf.is_decayed and value.ndim > 1 else value, leaf.shape
        )
    return values


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)
