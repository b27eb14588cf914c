"""Divide the rows of a global batch over processes, and place them on the mesh."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.layout import ROW_AXES
from lossline_jax.errors import LosslineError


def num_row_shards(mesh: Mesh) -> int:
    """Return the number of shards into which the mesh divides the rows of a batch."""
    return mesh.shape["slice"] * mesh.shape["data"]


def row_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """Return the sharding of an array whose dimension `axis` holds the rows of a batch."""
    return NamedSharding(mesh, P(*[None] * axis, ROW_AXES))


class RowShare(NamedTuple):
    """The rows of a global batch that one process loads.

    The batch is cut into `count` equal blocks, and the process loads block `index`.

    Attributes:
        index: number of the block, counted from 0.
        count: number of blocks.
        shards: numbers of the row shards (`num_row_shards`) that the block fills, in ascending order.
    """

    index: int
    count: int
    shards: tuple[int, ...]


def rows_of_process(devices: np.ndarray, process: int) -> RowShare:
    """Return the rows that a process loads. Processes that share the axis `model` load the same rows.

    On a TPU, the chips of a host are neighbours on the torus, but not always on the mesh. So the shards of a process
    need not be consecutive. The loss is a sum over the batch, so it does not matter which row is in which shard.

    Args:
        devices: the devices of a mesh, an array [slice, data, model].
        process: index of the process.

    Raises:
        LosslineError: two processes have some row shards in common, but not all.
    """
    process_of_device = np.vectorize(lambda device: device.process_index, otypes=[int])(devices)
    process_of_device = process_of_device.reshape(-1, devices.shape[-1])  # [row shard, model]
    shards_of_process = {
        index: tuple(np.flatnonzero((process_of_device == index).any(axis=-1)).tolist())
        for index in np.unique(process_of_device).tolist()
    }
    blocks = sorted(set(shards_of_process.values()))
    if len({len(block) for block in blocks}) > 1 or sum(len(block) for block in blocks) != len(process_of_device):
        raise LosslineError(
            f"execution: model_parallel={devices.shape[-1]} makes processes share some rows of a batch and not all; "
            "choose one that divides the devices of a process, or is a multiple of them"
        )
    shards = shards_of_process[process]
    return RowShare(blocks.index(shards), len(blocks), shards)


@functools.cache  # called at every step, for a mesh that may have thousands of devices
def local_rows(mesh: Mesh) -> RowShare:
    """Return the rows that this process loads.

    Raises:
        LosslineError: as for `rows_of_process`.
    """
    return rows_of_process(mesh.devices, jax.process_index())


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Convert this process' rows to global arrays on the mesh, whose axis 0 is sharded over `ROW_AXES`.

    Args:
        batch: pytree of numpy arrays. Axis 0 has the rows of this process (`local_rows`).
        mesh: the mesh, as `make_mesh` returns it.
    """
    sharding, share = row_sharding(mesh), local_rows(mesh)

    def place(rows: np.ndarray) -> jax.Array:
        shard_size = len(rows) // len(share.shards)

        def shard(index: Any) -> np.ndarray:  # index: one slice per dimension of the global array
            k = share.shards.index((index[0].start or 0) // shard_size)
            return rows[k * shard_size : (k + 1) * shard_size]

        return jax.make_array_from_callback((len(rows) * share.count, *rows.shape[1:]), sharding, shard)

    return jax.tree.map(lambda rows: place(np.asarray(rows)), batch)
