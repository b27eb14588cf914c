"""The device mesh, and how logical axes of parameters and activations lie on it.

One mesh, axes ("slice", "data", "model"), Auto: the compiler places what is not said here. Everything is said by
logical axis names (the keys of `ACTIVATION_RULES`), never by mesh axes, so a model file knows no mesh.

`slice` tells apart what only a slow network joins (TPU slices; `execution.slices`): rows lie over it, parameters are
repeated in every slice, so that a step sends gradients over that network once and nothing else.
"""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.errors import LosslineError
from lossline_jax.parallel import (
    ACTIVATION_RULES,
    AXES,
    FSDP_RULES,
    PARAMETER_RULES,
    ROWS,
    MeshAxes,
    check_split,
    mesh_shape,
)
from lossline_jax.train.config import ExecutionConfig

MAX_DEFAULT_CPU_DEVICES = 8
GPU_DETERMINISM = "xla_gpu_deterministic_ops"


def configure_devices(execution: ExecutionConfig) -> None:
    """Set the number of CPU devices, and what GPUs may do; call it before jax is used for the first time.

    One device a core (at most 8) with data parallelism beats one device with many threads, and it is the
    code path of a pod. Nothing changes when a backend runs already, when the environment has set the number
    (`JAX_NUM_CPU_DEVICES`, `XLA_FLAGS`) and the config does not, or on accelerators, which it does not touch.
    """
    if execution.deterministic and GPU_DETERMINISM not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} --{GPU_DETERMINISM}=true".strip()
    chosen = execution.cpu_devices
    set_by_environment = jax.config.jax_num_cpu_devices > 0 or "xla_force_host_platform_device_count" in os.environ.get(
        "XLA_FLAGS", ""
    )
    if chosen is None and set_by_environment:
        return
    if chosen is not None and chosen < 1:
        raise LosslineError(f"execution.cpu_devices: {chosen} is not a number of devices; give 1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # a power of two, which divides the usual batch sizes
    count = chosen or 1 << (min(cores, MAX_DEFAULT_CPU_DEVICES).bit_length() - 1)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # jax refuses the change once a backend has started
        return


def make_mesh(execution: ExecutionConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices, or of the first ones of a single process that its axes need.

    Args:
        devices: None: those that there are.

    Raises:
        LosslineError: the sizes do not fit the devices there are.
    """
    devices = jax.devices() if devices is None else devices
    slices, data, model = mesh_shape(execution, len(devices), devices[0].platform)
    if slices * data * model < len(devices) and jax.process_count() > 1:
        raise LosslineError(
            f"execution: slices={slices} by data_parallel={data} by model_parallel={model} leaves some of the "
            f"{len(devices)} devices idle, which several processes cannot; make the product equal to their number"
        )
    return mesh_of(devices[: slices * data * model], slices, data, model)


def mesh_of(devices: list[jax.Device], slices: int = 1, data: int = 1, model: int = 1) -> Mesh:
    """A mesh of exactly these devices; its slices are those that the devices say they belong to, if they say so."""
    shape = (slices, data, model)
    types = (AxisType.Auto,) * len(AXES)
    told = {getattr(device, "slice_index", None) for device in devices}
    if slices == 1:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    if len(told) == slices:
        return Mesh(mesh_utils.create_hybrid_device_mesh((1, data, model), (slices, 1, 1), devices), AXES, types)
    # not of slices that know of each other (CPU, GPU): consecutive devices are those of a process, and near
    return Mesh(np.asarray(devices).reshape(shape), AXES, types)


def on_cpu(mesh: Mesh) -> bool:
    """Whether the devices of the mesh are cores of this machine, which share one memory and its caches."""
    return mesh.devices.flat[0].platform == "cpu"


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


def data_specs(axes: Any, fsdp: bool) -> Any:
    """How parameters lie over `data` alone, as `jax.shard_map` over it wants to know; `axes` as of `shardings`."""
    rules = FSDP_RULES if fsdp else PARAMETER_RULES

    def leaf(names: tuple[str | None, ...]) -> P:
        return P(*(axis if axis == "data" else None for axis in _partition(names, rules, "parameter")))

    return jax.tree.map(leaf, axes, is_leaf=lambda node: isinstance(node, tuple))


def row_shards(mesh: Mesh) -> int:
    """In how many parts the rows of a batch lie on the mesh."""
    return mesh.shape["slice"] * mesh.shape["data"]


def rows_over(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding of an array whose dimension `axis` holds the rows of a batch."""
    return NamedSharding(mesh, P(*[None] * axis, ROWS))


class RowShare(NamedTuple):
    """Which rows of a batch one process reads: block `index` of `count` equal ones, for these `parts` of the mesh."""

    index: int
    count: int
    parts: tuple[int, ...]  # of the `row_shards`, ascending


def row_share(devices: np.ndarray, process: int) -> RowShare:
    """The rows of a process: where `model` reaches over several processes, these hold the same ones.

    On a TPU the chips of a host are neighbours on the torus and not in a row of the mesh: its parts need not be
    consecutive. Which row of a batch lies where is all the same to a sum over the batch.

    Args:
        devices: of a mesh, (slice, data, model).
        process: index of the process.

    Raises:
        LosslineError: two processes share some parts and not all.
    """
    holders = np.vectorize(lambda device: device.process_index, otypes=[int])(devices).reshape(-1, devices.shape[-1])
    held = {
        each: tuple(np.flatnonzero((holders == each).any(axis=-1)).tolist()) for each in np.unique(holders).tolist()
    }
    blocks = sorted(set(held.values()))
    if len({len(block) for block in blocks}) > 1 or sum(len(block) for block in blocks) != len(holders):
        raise LosslineError(
            f"execution: model_parallel={devices.shape[-1]} makes processes share some rows of a batch and not all; "
            "choose one that divides the devices of a process, or is a multiple of them"
        )
    return RowShare(blocks.index(held[process]), len(blocks), held[process])


@functools.cache  # asked at every step, of a mesh that may have thousands of devices
def my_rows(mesh: Mesh) -> RowShare:
    """The rows of this process. Raises as `row_share` does."""
    return row_share(mesh.devices, jax.process_index())


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


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Numpy rows of this process to global arrays whose axis 0 lies over `ROWS`.

    Args:
        batch: pytree of numpy arrays, axis 0 the rows that this process holds (`my_rows`).
        mesh: of `make_mesh`.
    """
    sharding, share = rows_over(mesh), my_rows(mesh)

    def place(rows: np.ndarray) -> jax.Array:
        size = len(rows) // len(share.parts)  # of a part

        def part(index: tuple[slice, ...]) -> np.ndarray:
            k = share.parts.index((index[0].start or 0) // size)
            return rows[k * size : (k + 1) * size]

        return jax.make_array_from_callback((len(rows) * share.count, *rows.shape[1:]), sharding, part)

    return jax.tree.map(lambda rows: place(np.asarray(rows)), batch)


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
