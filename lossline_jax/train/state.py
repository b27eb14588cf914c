"""The train state: one pytree, created with its shardings, and its abstract form that checkpoints are restored with.

The abstract form has a `jax.ShapeDtypeStruct` with a sharding in the place of each array.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from lossline_jax.distributed.sharding import replicated, shardings
from lossline_jax.models.model import Model
from lossline_jax.models.parameters import Params
from lossline_jax.train.optimisers.rule import UpdateRule


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TrainState:
    """Everything that the next step needs besides its batch.

    Attributes:
        step: int32 scalar, the number of updates done so far.
        params: the parameters of the model.
        opt_state: the state of the optimiser.
        extra: what the algorithm needs besides. None: nothing, as for data-parallel training.
    """

    step: Any  # a jax.Array, or a ShapeDtypeStruct in an abstract state, like the leaves of the trees below
    params: Params  # the model that is scored, saved and exported, whatever the algorithm
    opt_state: Any
    extra: Any = None


def abstract_params(model: Model, mesh: Mesh, fsdp: bool | None = None) -> Params:
    """Return the parameters as `ShapeDtypeStruct`s with their shardings. Nothing is computed.

    Args:
        model: the model.
        mesh: the mesh.
        fsdp: as for `sharding.uses_fsdp`.

    Raises:
        LosslineError: the mesh does not divide a dimension.
    """
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    return jax.tree.map(abstract_array, shapes, shardings(model.axes(), mesh, shapes, fsdp=fsdp))


def abstract_state(model: Model, rule: UpdateRule, mesh: Mesh, fsdp: bool | None = None) -> TrainState:
    """Return the state as `ShapeDtypeStruct`s with shardings. A moment has the sharding of its parameter.

    Args:
        model: the model.
        rule: the optimiser.
        mesh: the mesh.
        fsdp: as for `sharding.uses_fsdp`.

    Raises:
        LosslineError: the mesh does not divide a dimension.
    """
    params = abstract_params(model, mesh, fsdp)
    opt_state = optax.tree.map_params(
        rule.init,
        lambda moment, param: moment if _is_masked(moment) else abstract_array(moment, param.sharding),
        jax.eval_shape(rule.init, params),
        params,
        transform_non_params=lambda counter: abstract_array(counter, replicated(mesh)),
        is_leaf=_is_masked,
    )
    return TrainState(jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(mesh)), params, opt_state)


def init_state(
    model: Model,
    rule: UpdateRule,
    seed: int,
    abstract: TrainState,
    *,
    init_extra: Callable[[Params], Any] | None = None,
) -> TrainState:
    """Create the initial state with the shardings of `abstract`. The state is never whole on one device.

    The compiler places the intermediate arrays of `model.init`.

    Args:
        model: initialises the parameters from a key.
        rule: initialises the moments, and may change the model's initial parameters.
        seed: seed of the key.
        abstract: the state as `abstract_state` returns it, with the algorithm's extra if it has one.
        init_extra: initialises what the algorithm keeps besides. None: it keeps nothing.
    """

    def init(key: jax.Array) -> TrainState:
        params = rule.begin(model.init(key))
        extra = None if init_extra is None else init_extra(params)
        return TrainState(jnp.zeros((), jnp.int32), params, rule.init(params), extra)

    return jax.jit(init, out_shardings=state_shardings(abstract))(jax.random.key(seed))


def state_shardings(abstract: TrainState) -> TrainState:
    """Return the shardings of an abstract state, in the tree of the state."""
    return jax.tree.map(lambda leaf: leaf.sharding, abstract)


def _is_masked(leaf: Any) -> bool:
    """Return True where an optimiser of some parameters has no moment of this parameter."""
    return isinstance(leaf, optax.MaskedNode)


def abstract_array(leaf: Any, sharding: jax.sharding.Sharding) -> jax.ShapeDtypeStruct:
    """Return an array's shape and dtype with a sharding."""
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)
