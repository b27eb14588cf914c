"""Scoring a checkpoint: one compiled function for every set and task of a suite."""

import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from lossline_jax.evaluate.rows import RowBlock
from lossline_jax.evaluate.suites import PreparedSuite
from lossline_jax.evaluate.sums import SetScore, score_set
from lossline_jax.sharding import on_cpu, shardings

if TYPE_CHECKING:
    from lossline_jax.models.base import Model

# Tokens of a batch on each device: what stays in the caches of a core, what keeps an accelerator busy.
TOKENS_PER_BATCH_CPU = 2048
TOKENS_PER_BATCH_ACCELERATOR = 65536


@functools.partial(jax.jit, static_argnames="model")
def row_nats(model: "Model", params: Any, ids_GBT: jax.Array, first_GB: jax.Array, length_GB: jax.Array) -> jax.Array:
    """Nats of the scored tokens of every row, float32 [G, B], batch after batch on the device.

    Compiled once for a model shape and a row length; parameters are an argument, so checkpoints and runs of
    equal shape share the program.

    Args:
        ids_GBT: int32 [G, B, T + 1], batches of rows (`rows.RowBlock`).
        first_GB, length_GB: int32; inputs `first .. length - 1` of a row are scored: none where equal.
    """

    def batch_nats(batch: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        ids_BT, first_B, length_B = batch
        nll_BT = model.nll(params, ids_BT[:, :-1], ids_BT[:, 1:])
        position_BT = jax.lax.broadcasted_iota(jnp.int32, nll_BT.shape, 1)
        scored_BT = (first_B[:, None] <= position_BT) & (position_BT < length_B[:, None])
        return jnp.where(scored_BT, nll_BT, 0.0).sum(axis=1)

    nats_GB = jax.lax.map(batch_nats, (ids_GBT, first_GB, length_GB))
    return jax.lax.with_sharding_constraint(nats_GB, PartitionSpec())  # every process reads all of it


class Evaluator:
    """Scores checkpoints of one model shape on one suite, whose rows stay on the devices in between."""

    def __init__(
        self,
        model: "Model",
        mesh: Mesh,
        suite: PreparedSuite,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
    ) -> None:
        """
        Args:
            mesh: rows are sharded over its axis `data`.
            tokens_per_batch: on each device, padding included: bounds the memory and leaves the scores alone.
                None: chosen for the kind of device.
            fsdp: whether parameters are sharded over `data` too (`sharding.uses_fsdp`).
        """
        if tokens_per_batch is None:
            tokens_per_batch = TOKENS_PER_BATCH_CPU if on_cpu(mesh) else TOKENS_PER_BATCH_ACCELERATOR
        self.model, self.mesh, self.suite = model, mesh, suite
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        self._param_shardings = shardings(model.axes(), mesh, shapes, fsdp=fsdp)
        self._blocks = [_place(block, mesh, tokens_per_batch) for block in suite.blocks]

    def score(self, params: Any) -> dict[str, SetScore]:
        """Every set of the suite, by name. Losses are NaN or infinite where the parameters make them so.

        Args:
            params: of this model, wherever they lie; they are laid out on the mesh as `sharding` has it.
        """
        params = jax.device_put(params, self._param_shardings)  # nothing to do where they lie so already
        with jax.set_mesh(self.mesh):
            on_device = [row_nats(self.model, params, *arrays) for arrays in self._blocks]
        nats_by_block = jax.device_get(on_device)
        nats_Q = np.zeros(len(self.suite.requests.item_Q))
        for block, nats_GB in zip(self.suite.blocks, nats_by_block, strict=True):
            nats_B = nats_GB.reshape(-1)[: len(block.request_B)].astype(np.float64)
            nats_Q += np.bincount(block.request_B, weights=nats_B, minlength=len(nats_Q))
        return {
            each.name: score_set(each.kind, self.suite.requests.take(mine), nats_Q[mine])
            for k, each in enumerate(self.suite.sets)
            for mine in [self.suite.requests.dataset_Q == k]
        }


def _place(block: RowBlock, mesh: Mesh, tokens_per_batch: int) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The arrays of a block as equal batches [G, B, ...], B sharded over `data`, short of rows at the end.

    The rows that fill up the last batch have length 0: nothing of them is scored.
    """
    devices = mesh.shape["data"]
    num_rows = len(block.ids_BT)
    rows_per_device = max(tokens_per_batch // block.row_length, 1)
    num_batches = -(-num_rows // (devices * rows_per_device))
    batch_size = -(-num_rows // (num_batches * devices)) * devices

    def place(array: np.ndarray) -> jax.Array:
        missing = num_batches * batch_size - num_rows
        padded = np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)])
        batches = padded.reshape(num_batches, batch_size, *array.shape[1:])
        sharding = NamedSharding(mesh, PartitionSpec(None, "data"))
        # By callback, so that each process hands over its own rows: all of them hold the whole suite.
        return jax.make_array_from_callback(batches.shape, sharding, lambda index: batches[index])

    return place(block.ids_BT), place(block.first_B), place(block.length_B)
