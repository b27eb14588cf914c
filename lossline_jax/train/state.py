"""The train state: one pytree, born sharded, and the description of it that a checkpoint is restored by."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lossline_jax.distributed.sharding import replicated, shardings
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """All that the next step needs besides its batch."""

    step: jax.Array  # int32 scalar: updates done so far
    params: Params
    opt_state: Any


def abstract_params(model: Model, mesh: Mesh, fsdp: bool | None = None) -> Params:
    """The parameters as `ShapeDtypeStruct`s with their shardings: nothing is computed.

    Raises:
        LosslineError: the mesh does not divide a dimension.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    placed = shardings(model.axes(), mesh, shapes, fsdp=fsdp)
    return jax.tree.map(_described, shapes, placed)


def abstract_state(
    model: Model, optimiser: optax.GradientTransformation, mesh: Mesh, fsdp: bool | None = None
) -> TrainState:
    """The whole state as `ShapeDtypeStruct`s with shardings; moments lie like their parameters."""
    params = abstract_params(model, mesh, fsdp)
    opt_state = optax.tree.map_params(
        optimiser,
        lambda moment, param: _described(moment, param.sharding),
        jax.eval_shape(optimiser.init, params),
        params,
        transform_non_params=lambda counter: _described(counter, replicated(mesh)),
    )
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh)), params, opt_state)


def init_state(model: Model, optimiser: optax.GradientTransformation, seed: int, abstract: TrainState) -> TrainState:
    """A fresh state, born with the shardings of `abstract`: never whole on one device and then moved.

    What `model.init` holds in between is the compiler's to place.

    Args:
        model: gives the parameters of a key.
        optimiser: gives the moments.
        seed: of the initialisation.
        abstract: of `abstract_state`.
    """

    def init(key: jax.Array) -> TrainState:
        params = model.init(key)
        return TrainState(jnp.zeros((), jnp.int32), params, optimiser.init(params))

    return jax.jit(init, out_shardings=state_shardings(abstract))(jax.random.key(seed))


def state_shardings(abstract: TrainState) -> TrainState:
    """The shardings of an abstract state."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _described(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
