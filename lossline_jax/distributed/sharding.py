"""The device mesh, and how logical axes of parameters and activations lie on it.

One mesh, axes ("slice", "data", "model"), Auto: the compiler places what is not said here. Everything is said by
logical axis names (the keys of `ACTIVATION_RULES`), never by mesh axes, so a model file knows no mesh.

`slice` tells apart what only a slow network joins (TPU slices; `execution.slices`): rows lie over it, parameters are
repeated in every slice, so that a step sends gradients over that network once and nothing else.
"""

from collections.abc import Mapping
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.layout import ACTIVATION_RULES, FSDP_RULES, PARAMETER_RULES, MeshAxes, check_split
from lossline_jax.distributed.mesh import on_cpu


def uses_fsdp(mesh: Mesh, fsdp: bool | None) -> bool:
    """What `ExecutionConfig.fsdp` means on this mesh.

    None: parameters are sharded over `data` on accelerators, and kept whole on CPU devices, which share one
    memory, so sharding would cost collectives and save nothing.
    """
    return not on_cpu(mesh) if fsdp is None else fsdp


def shardings(axes: Any, mesh: Mesh, shapes: Any = None, *, fsdp: bool | None = None) -> Any:
    """Shardings of parameters (or of anything laid out like them).

    Args:
        axes: tree whose leaves are tuples of logical axis names, one a dimension; None: not sharded.
        mesh: of `make_mesh`.
        shapes: optional tree of arrays or shapes like `axes`; given, divisibility is checked here.
        fsdp: see `uses_fsdp`.

    Returns:
        The tree with a `NamedSharding` at each leaf.

    Raises:
        LosslineError: a mesh axis does not divide a dimension that lies on it. Never replicated instead.
        ValueError: an unknown axis name, or two dimensions of one array on the same mesh axis.
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
    """How parameters lie over `data` alone, as `jax.shard_map` over it wants to know; `axes` as of `shardings`."""
    rules = FSDP_RULES if fsdp else PARAMETER_RULES

    def leaf(names: tuple[str | None, ...]) -> P:
        return P(*(axis if axis == "data" else None for axis in _partition(names, rules, "parameter")))

    return jax.tree.map(leaf, axes, is_leaf=lambda node: isinstance(node, tuple))


def replicated(mesh: Mesh) -> NamedSharding:
    """The sharding of a value that every device holds whole."""
    return NamedSharding(mesh, P())


def constrain(x: jax.Array, *axes: str | None) -> jax.Array:
    """Lay an activation on the mesh of `jax.set_mesh` by logical axes; without a mesh, `x` itself.

    Inside `jax.shard_map`, mesh axes that are already mapped (manual) are left out: `x` is local there.

    Raises:
        ValueError: unknown or doubly used axis, or not one name a dimension.
    """
    if len(axes) != x.ndim:
        raise ValueError(f"constrain: {len(axes)} axes {axes} for an array of shape {x.shape}")
    spec = _partition(axes, ACTIVATION_RULES, "activation")
    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or mesh.size == 1:
        return x
    free = P(*(_without(axis, mesh.manual_axes) for axis in spec))
    return x if len(mesh.manual_axes) == len(mesh.axis_names) else jax.lax.with_sharding_constraint(x, free)


def _without(axes: MeshAxes, manual: frozenset[str]) -> MeshAxes:
    """The mesh axes of one dimension that the compiler still places."""
    if isinstance(axes, tuple):
        return tuple(axis for axis in axes if axis not in manual) or None
    return None if axes in manual else axes


def _partition(names: tuple[str | None, ...], rules: Mapping[str, MeshAxes], where: str) -> P:
    """Strict: flax's own rules replicate silently on a misspelt or doubly used axis."""
    unknown = [name for name in names if name is not None and name not in rules]
    if unknown:
        raise ValueError(f"{where}: unknown logical axis {unknown[0]!r} in {names}; known: {sorted(rules)}")
    mesh_axes = [None if name is None else rules[name] for name in names]
    used = [axis for axis in mesh_axes if axis is not None]
    if len(used) != len(set(used)):
        raise ValueError(f"{where}: {names} puts two dimensions on one mesh axis {mesh_axes}")
    return P(*mesh_axes)


def _check_divisible(shape: tuple[int, ...], spec: P, mesh: Mesh, where: str) -> None:
    for size, axis in zip(shape, spec, strict=True):  # of a parameter, which lies over one mesh axis a dimension
        if axis is not None:
            check_split(size, axis, mesh.shape[axis], f"parameter {where}")
