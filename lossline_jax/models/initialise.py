"""Turn declared parameters into arrays: compute their initial values, and read them in a Linen module."""

import math
from typing import assert_never

import flax.linen as nn
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
from lossline_jax.ops.quantise import fake_quantise

_CUT = 3.0  # the normal distribution is truncated at 3 sigma, as in the study


def initialise(key: jax.Array, declaration: Declaration) -> Params:
    """Return float32 initial values. They depend on the key and the declaration alone, not on the devices.

    All leaves are cut from one flat draw, because one draw per leaf costs seconds of compilation.

    Args:
        key: the random key.
        declaration: the declared parameters.
    """
    leaves, structure = jax.tree.flatten(declaration)
    draws = jax.random.truncated_normal(key, -_CUT, _CUT, (sum(leaf.size for leaf in leaves),))
    values, offset = [], 0
    for leaf in leaves:
        values.append(_start_values(leaf.start, draws[offset : offset + leaf.size].reshape(leaf.shape)))
        offset += leaf.size
    return jax.tree.unflatten(structure, values)


def _start_values(start: Start, draw: jax.Array) -> jax.Array:
    """Turn draws from a standard normal, truncated at 3 sigma, into initial values of the same shape."""
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
    """Map truncated normal draws to [low, high] with their distribution function."""
    bound = math.erf(_CUT / math.sqrt(2))
    return low + (high - low) * 0.5 * (1 + jax.lax.erf(draw / math.sqrt(2)) / bound)


def _inverse_softplus(x: jax.Array) -> jax.Array:
    return x + jnp.log(-jnp.expm1(-x))


def declare(
    module: nn.Module, declaration: Declaration, dtype: jnp.dtype, weight_bits: int | None = None
) -> dict[str, jax.Array]:
    """Read the parameters of a Linen module, with matrices cast to the compute dtype.

    Vectors and parameters without weight decay (rates of decay) stay float32. If devices hold shards (FSDP), the
    parameters of a layer are gathered here.

    The values come from `initialise`. Linen's own initialiser only declares the shape: during `apply`, it would refuse
    a shard, whose shape is another.

    Args:
        module: the module.
        declaration: its parameters.
        dtype: the compute dtype.
        weight_bits: bits to which the matrices of products with tokens are rounded. None: they are not rounded.

    Returns:
        The parameters, by name.
    """
    values = {}
    for name, leaf in declaration.items():
        initial = module.param(name, _zeros, leaf.shape) if module.is_initializing() else None
        # The barrier takes a layer's parameter out of the stack before its use. Without it, XLA fuses the slice into
        # elementwise loops and repeats it at every number (4% of a Mamba-2 step on CPU).
        value = jax.lax.optimization_barrier(module.get_variable("params", name) if initial is None else initial)
        value = gather_parameter(value.astype(dtype) if leaf.is_decayed and value.ndim > 1 else value, leaf.shape)
        if weight_bits is not None and leaf.num_contracted:
            value = fake_quantise(value, weight_bits, leaf.num_contracted)
        values[name] = value
    return values


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)
