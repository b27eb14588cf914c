"""The rows of a global batch: which of them a process loads, and their place on the mesh."""

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from lossline_jax.distributed.layout import (
    ROW_AXES,
)
from lossline_jax.errors import LosslineError


def num_row_shards(mesh: Mesh) -> int:
    """In how many parts the rows of a batch lie on the mesh."""
    return mesh.shape["slice"] * mesh.shape["data"]


def row_sharding(mesh: Mesh, axis: int = 0) -> NamedSharding:
    """The sharding of an array whose dimension `axis` holds the rows of a batch."""
    return NamedSharding(mesh, P(*[None] * axis, ROW_AXES))


class RowShare(NamedTuple):
    """Which rows of a batch one process reads: block `index` of `count` equal ones, for these `parts` of the mesh."""

    index: int
    count: int
    parts: tuple[int, ...]  # of the `num_row_shards`, ascending


def rows_of_process(devices: np.ndarray, process: int) -> RowShare:
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
def local_rows(mesh: Mesh) -> RowShare:
    """The rows of this process. Raises as `rows_of_process` does."""
    return rows_of_process(mesh.devices, jax.process_index())


def place_batch(batch: Any, mesh: Mesh) -> Any:
    """Numpy rows of this process to global arrays whose axis 0 lies over `ROW_AXES`.

    Args:
        batch: pytree of numpy arrays, axis 0 the rows that this process holds (`local_rows`).
        mesh: of `make_mesh`.
    """
    sharding, share = row_sharding(mesh), local_rows(mesh)

    def place(rows: np.ndarray) -> jax.Array:
        size = len(rows) // len(share.parts)  # of a part

        def part(index: tuple[slice, ...]) -> np.ndarray:
            k = share.parts.index((index[0].start or 0) // size)
            return rows[k * size : (k + 1) * size]

        return jax.make_array_from_callback((len(rows) * share.count, *rows.shape[1:]), sharding, part)

    return jax.tree.map(lambda rows: place(np.asarray(rows)), batch)
