"""What a model file says of its parameters: shape, logical axes, start value, weight decay; their birth.

A model's parameters are a nested dict of `Parameter`; the same tree drives Linen's declarations, the
initialisation, the shardings and the weight decay mask.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from lossline_jax.ops.fsdp import whole

Params = dict[str, Any]  # nested, of arrays
Declaration = dict[str, Any]  # nested, of Parameter

_CUT = 3.0  # the normal distribution is truncated at 3 sigma, as in the study


@dataclass(frozen=True)
class Parameter:
    """One leaf.

    `start` maps draws of a standard normal truncated at 3 sigma, in the leaf's shape, to start values.
    """

    shape: tuple[int, ...]
    axes: tuple[str | None, ...]
    start: Callable[[jax.Array], jax.Array]
    decayed: bool = True  # by weight decay

    def __post_init__(self):
        if len(self.shape) != len(self.axes):
            raise ValueError(f"Parameter: shape {self.shape} and axes {self.axes} differ in length; name every axis")

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def normal(sigma: float) -> Callable[[jax.Array], jax.Array]:
    return lambda draw: sigma * draw


def uniform(low: float, high: float) -> Callable[[jax.Array], jax.Array]:
    """Through the distribution function of the truncated normal."""
    bound = math.erf(_CUT / math.sqrt(2))
    return lambda draw: low + (high - low) * 0.5 * (1 + jax.lax.erf(draw / math.sqrt(2)) / bound)


def constant(value: float) -> Callable[[jax.Array], jax.Array]:
    return lambda draw: jnp.full_like(draw, value)


def log_uniform_step_bias(dt_min: float, dt_max: float) -> Callable[[jax.Array], jax.Array]:
    """Inverse softplus of step sizes that are log-uniform in [dt_min, dt_max] (Gu & Dao 2023)."""
    log_dt = uniform(math.log(dt_min), math.log(dt_max))
    return lambda draw: _inverse_softplus(jnp.exp(log_dt(draw)))


def stack_layers(block: Declaration, num_layers: int) -> Declaration:
    """The declaration of `num_layers` blocks stacked on axis 0."""
    return {
        name: replace(leaf, shape=(num_layers, *leaf.shape), axes=("layers", *leaf.axes))
        for name, leaf in block.items()
    }


def initialise(key: jax.Array, declaration: Declaration) -> Params:
    """Start values, float32: a function of the key and the declaration alone, whatever the devices.

    All leaves are cut from one flat draw: a draw a leaf costs seconds of compilation.
    """
    leaves, structure = jax.tree.flatten(declaration)
    draws = jax.random.truncated_normal(key, -_CUT, _CUT, (sum(leaf.size for leaf in leaves),))
    values, offset = [], 0
    for leaf in leaves:
        values.append(leaf.start(draws[offset : offset + leaf.size].reshape(leaf.shape)))
        offset += leaf.size
    return jax.tree.unflatten(structure, values)


class _Holds(Protocol):
    def get_variable(self, collection: str, name: str) -> jax.Array: ...
    def param(self, name: str, init_fn: Callable[..., jax.Array], *args: Any) -> jax.Array: ...
    def is_initializing(self) -> bool: ...


def declare(module: _Holds, declaration: Declaration, dtype: jnp.dtype) -> dict[str, jax.Array]:
    """Read a Linen module's parameters, matrices cast to the compute dtype.

    Vectors, and the delicate leaves that weight decay spares too (rates of decay), stay float32. The values
    come from `initialise`; where devices hold shards of them (FSDP), they are gathered here, a layer at a time. Linen's
    own initialiser only states the shape; it would refuse a shard of another.
    """
    values = {}
    for name, leaf in declaration.items():
        stated = module.param(name, _zeros, leaf.shape) if module.is_initializing() else None
        # The barrier cuts a layer's parameter out of the stack before it is used: fused into an elementwise loop,
        # the cut is made again at every number (4% of a Mamba-2 step on CPU).
        value = jax.lax.optimization_barrier(module.get_variable("params", name) if stated is None else stated)
        values[name] = whole(value.astype(dtype) if leaf.decayed and value.ndim > 1 else value, leaf.shape)
    return values


def _zeros(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    return jnp.zeros(shape, jnp.float32)


def _inverse_softplus(x: jax.Array) -> jax.Array:
    return x + jnp.log(-jnp.expm1(-x))
