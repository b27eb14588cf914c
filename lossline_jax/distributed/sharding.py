"""Map the logical axes of parameters and activations to the axes of the device mesh.

There is one mesh with the axes ("slice", "data", "model"), of type Auto: the compiler places every array that has no
sharding here. Model files name logical axes (the keys of `ACTIVATION_RULES`), never mesh axes, so they do not depend
on the mesh.

The axis `slice` separates groups of devices that only a slow network connects (TPU slices; `execution.slices`). Rows
are split over `slice`, and every slice has all parameters. So each step sends the gradients over the slow network
once, and nothing else.
"""

from collections.abc import Collection, Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.layout import ACTIVATION_RULES, FSDP_RULES, PARAMETER_RULES, MeshAxes, check_split
from lossline_jax.distributed.mesh import on_cpu


def uses_fsdp(mesh: Mesh, fsdp: bool | None) -> bool:
    """Return whether parameters are sharded over the axis `data`.

    Args:
        mesh: the mesh.
        fsdp: `ExecutionConfig.fsdp`. None: True on accelerators, False on CPU. CPU devices share one memory, so
            sharding would cost collectives and save nothing.
    """
    return not on_cpu(mesh) if fsdp is None else fsdp


def shardings(axes: Any, mesh: Mesh, shapes: Any = None, *, fsdp: bool | None = None) -> Any:
    """Return the shardings of parameters, or of arrays with the same axes as parameters.

    Args:
        axes: tree whose leaves are tuples with one logical axis name per dimension. None in a tuple: the dimension is
            not sharded.
        mesh: the mesh, as `make_mesh` returns it.
        shapes: tree of arrays or shapes in the structure of `axes`. None: divisibility is not checked.
        fsdp: see `uses_fsdp`.

    Returns:
        The tree with a `NamedSharding` at each leaf.

    Raises:
        LosslineError: a mesh axis does not divide a dimension that is split over it. Such a dimension is never
            replicated instead.
        ValueError: an axis name is unknown, or two dimensions of one array are on the same mesh axis.
    """
    rules = FSDP_RULES if uses_fsdp(mesh, fsdp) else PARAMETER_RULES

    def leaf(path: Any, names: tuple[str | None, ...], shape: Any = None) -> NamedSharding:
        where = jax.tree_util.keystr(path, simple=True, separator="/")
        spec = _partition(names, rules, where)
        if shape is not None:
            _check_divisible(tuple(shape.shape), spec, mesh, f"{where} {names}")
        return NamedSharding(mesh, spec)

    trees = (axes,) if shapes is None else (axes, shapes)
    return jax.tree_util.tree_map_with_path(leaf, *trees, is_leaf=lambda node: isinstance(node, tuple))


def manual_partition_specs(axes: Any, fsdp: bool) -> Any:
    """Return the specs of parameters for a `jax.shard_map` that is manual over the axis `data`.

    Args:
        axes: as for `shardings`.
        fsdp: whether parameters are sharded over `data`.
    """
    rules = FSDP_RULES if fsdp else PARAMETER_RULES

    def leaf(names: tuple[str | None, ...]) -> P:
        return P(*(axis if axis == "data" else None for axis in _partition(names, rules, "parameter")))

    return jax.tree.map(leaf, axes, is_leaf=lambda node: isinstance(node, tuple))


def replicated(mesh: Mesh) -> NamedSharding:
    """Return the sharding of a value that every device holds whole."""
    return NamedSharding(mesh, P())


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Shard an activation over the mesh of `jax.set_mesh`. Without a mesh, return `x` itself.

    Inside `jax.shard_map`, the manual mesh axes are left out, because `x` is local to a device there.

    Args:
        x: the activation.
        *axes: one logical axis name per dimension. None: the dimension is not sharded.

    Raises:
        ValueError: a name is unknown, two dimensions are on the same mesh axis, or the number of names is wrong.
    """
    if len(axes) != x.ndim:
        raise ValueError(f"constrain: {len(axes)} axes {axes} for an array of shape {x.shape}")
    spec = _partition(axes, ACTIVATION_RULES, "activation")
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    if len(mesh.manual_axes) == len(mesh.axis_names):
        return x
    automatic = P(*(_without_manual(axis, mesh.manual_axes) for axis in spec))
    return jax.lax.with_sharding_constraint(x, automatic)


def _without_manual(axes: MeshAxes, manual: Collection[Any]) -> MeshAxes:
    """Return the mesh axes of one dimension without those that `jax.shard_map` has mapped already."""
    if isinstance(axes, tuple):
        return tuple(axis for axis in axes if axis not in manual) or None
    return None if axes in manual else axes


def _partition(names: tuple[str | None, ...], rules: Mapping[str, MeshAxes], where: str) -> P:
    """Return the mesh axes of an array. Flax's own rules silently replicate a misspelt or doubly used axis."""
    unknown = [name for name in names if name is not None and name not in rules]
    if unknown:
        raise ValueError(f"{where}: unknown logical axis {unknown[0]!r} in {names}; known: {sorted(rules)}")
    mesh_axes = [None if name is None else rules[name] for name in names]
    used = [axis for axis in mesh_axes if axis is not None]
    if len(used) != len(set(used)):
        raise ValueError(f"{where}: {names} puts two dimensions on one mesh axis {mesh_axes}")
    return P(*mesh_axes)


def _check_divisible(shape: tuple[int, ...], spec: P, mesh: Mesh, where: str) -> None:
    for size, axis in zip(shape, spec, strict=True):  # a dimension of a parameter is on at most one mesh axis
        if axis is not None:
            check_split(size, axis, mesh.shape[axis], f"parameter {where}")
