"""Scoring a checkpoint: one compiled function for every set and task of a suite."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from lossline_jax.distributed.batch_rows import num_row_shards, row_sharding
from lossline_jax.distributed.layout import ROW_AXES
from lossline_jax.distributed.mesh import on_cpu
from lossline_jax.distributed.processes import compile_together, is_distributed
from lossline_jax.distributed.sharding import manual_partition_specs, shardings, uses_fsdp
from lossline_jax.evaluate.packing.device_batches import batch_for_devices
from lossline_jax.evaluate.packing.rows import PackedRows, select_requests
from lossline_jax.evaluate.scores import score_set
from lossline_jax.evaluate.suite import PreparedSuite
from lossline_jax.losses.loss_row import SetScore
from lossline_jax.ops.prefix_tree import build_prefix_tree

if TYPE_CHECKING:
    from lossline_jax.models.model import Model

# Tokens of a batch on each device: what stays in the caches of a core, what keeps an accelerator busy.
TOKENS_PER_BATCH_CPU = 1024
TOKENS_PER_BATCH_ACCELERATOR = 32768


class RequestScores(NamedTuple):
    """What a model thinks of each request."""

    nats_Q: np.ndarray  # float64, the sum over its scored tokens; NaN of a request that no row counts towards
    greedy_Q: np.ndarray  # bool, whether each of these tokens was the likeliest there


class PlacedBlock(NamedTuple):
    """The batches of one block of rows on the devices (`device_batches.DeviceBatches`)."""

    ids_GBT: jax.Array
    visible_until_GBT: jax.Array
    source_GAS: jax.Array
    target_GAS: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "has_branches", "fsdp"))
def score_rows(
    model: "Model", params: Any, blocks: tuple[PlacedBlock, ...], has_branches: tuple[bool, ...], fsdp: bool
) -> list[tuple[jax.Array, jax.Array]]:
    """Nats (float32) and greediness (bool) of the scored tokens of each block, [G, A, S], batch after batch.

    One program for all blocks of a suite and for all models of one shape: parameters are an argument.

    Args:
        has_branches: of each block, whether texts of a row share beginnings; if not, `visible_until_GBT` only tells
            them apart.
        fsdp: whether the parameters are split over `data`.
    """

    def score_batch(params: Any, batch: PlacedBlock, has_branches: bool) -> tuple[jax.Array, jax.Array]:
        ids_BT, visible_until_BT, source_AS, target_AS = batch
        # without branches the end of each text is a number that does not fall along the row, as segments want it
        mask = {"tree": build_prefix_tree(visible_until_BT)} if has_branches else {"segments_BT": visible_until_BT}
        scores = model.target_scores(params, ids_BT, source_AS, target_AS, **mask)
        return scores.nats_AS, scores.greedy_AS

    def score_all(params: Any, blocks: tuple[PlacedBlock, ...]) -> list[tuple[jax.Array, jax.Array]]:
        return [
            jax.lax.map(functools.partial(score_batch, params, has_branches=branches), block)
            for block, branches in zip(blocks, has_branches, strict=True)
        ]

    if fsdp:
        rows = PartitionSpec(None, ROW_AXES)
        specs = (manual_partition_specs(model.axes(), fsdp), rows)
        score_all = jax.shard_map(score_all, in_specs=specs, out_specs=rows, axis_names=set(ROW_AXES), check_vma=False)
    scores = score_all(params, blocks)
    return jax.lax.with_sharding_constraint(scores, PartitionSpec())  # every process reads all of it


class RowScorer:
    """Scores blocks of rows that stay on the devices, with checkpoints of one model shape."""

    def __init__(
        self,
        model: "Model",
        mesh: Mesh,
        blocks: Sequence[PackedRows],
        num_requests: int,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
        reuse_shapes: bool = False,
        duplicate_of_Q: np.ndarray | None = None,
    ) -> None:
        """
        Args:
            model: its attention is run as "xla" whatever it says, for the other kernels lack the masks of packed rows.
            mesh: of `mesh.make_mesh`.
            num_requests: that the rows count towards.
            tokens_per_batch: on each device, padding included: bounds the memory and leaves the scores alone.
                None: chosen for the kind of device.
            fsdp: whether parameters are sharded over `data` too (`sharding.uses_fsdp`).
            reuse_shapes: as of `device_batches.batch_for_devices`; and each block has a program of its own.
            duplicate_of_Q: whose scores each request has (`rows.Requests`); None: its own.
        """
        if tokens_per_batch is None:
            tokens_per_batch = TOKENS_PER_BATCH_CPU if on_cpu(mesh) else TOKENS_PER_BATCH_ACCELERATOR
        self.model = model if model.attention == "xla" else dataclasses.replace(model, attention="xla")
        self.mesh, self._num_requests = mesh, num_requests
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        self._fsdp = uses_fsdp(mesh, fsdp)
        self._param_shardings = shardings(model.axes(), mesh, shapes, fsdp=fsdp)
        layouts = [batch_for_devices(block, num_row_shards(mesh), tokens_per_batch, reuse_shapes) for block in blocks]
        self._placed = tuple(
            PlacedBlock(*(_place(getattr(layout, name), mesh) for name in PlacedBlock._fields)) for layout in layouts
        )
        self._has_branches = tuple(bool(block.has_branches) for block in blocks)
        # One program for all, or one each, which blocks of the next call may meet again.
        self._programs = [slice(k, k + 1) for k in range(len(blocks))] if reuse_shapes else [slice(None)]
        self._is_compiled = False
        self._slots = [layout.slot_S for layout in layouts]
        self._request_S = np.concatenate([block.request_S for block in blocks]).astype(np.intp)
        self._has_rows_Q = np.bincount(self._request_S, minlength=num_requests) > 0
        self._duplicate_of_Q = slice(None) if duplicate_of_Q is None else duplicate_of_Q

    def __call__(self, params: Any) -> RequestScores:
        """Every request of the blocks. Nats are NaN or infinite where the parameters make them so.

        Args:
            params: of this model, wherever they lie; they are laid out on the mesh as `sharding` has it.
        """
        params = jax.device_put(params, self._param_shardings)  # nothing to do where they lie so already
        with jax.set_mesh(self.mesh):
            arguments = [
                (self.model, params, self._placed[part], self._has_branches[part], self._fsdp)
                for part in self._programs
            ]
            if is_distributed() and not self._is_compiled:
                for each in arguments:
                    compile_together(score_rows, *each)
                self._is_compiled = True
            calls = [score_rows(*each) for each in arguments]
        results = [scores for call in calls for scores in call]
        on_host = jax.device_get(results)
        nats_S, greedy_S = (
            np.concatenate([scores[k].reshape(-1)[slots] for scores, slots in zip(on_host, self._slots, strict=True)])
            for k in range(2)
        )
        # in the order of the blocks, not of the layout: the sums are the same however the rows were dealt out
        nats_Q = np.bincount(self._request_S, weights=nats_S.astype(np.float64), minlength=self._num_requests)
        missed_Q = np.bincount(self._request_S[~greedy_S], minlength=self._num_requests)
        nats_Q[~self._has_rows_Q] = np.nan
        greedy_Q = self._has_rows_Q & (missed_Q == 0)
        return RequestScores(nats_Q[self._duplicate_of_Q], greedy_Q[self._duplicate_of_Q])


class Evaluator:
    """Scores checkpoints of one model shape on one suite."""

    def __init__(
        self,
        model: "Model",
        mesh: Mesh,
        suite: PreparedSuite,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
        names: frozenset[str] | None = None,
    ) -> None:
        """Arguments as of `RowScorer`, but:

        Args:
            names: of the sets to score, at least one; only rows with tokens of these are run. None: all.

        Raises:
            ValueError: a name that is of no set of the suite, or none at all.
        """
        self.suite = suite
        requests, blocks = suite.requests, suite.blocks
        known = [each.name for each in suite.sets]
        if names is not None:
            if not names or not names <= {*known}:
                raise ValueError(f"names {sorted(names)}: the suite has {known}")
            blocks = select_requests(blocks, np.array([name in names for name in known])[requests.dataset_Q])
        # the requests of a set stand together, in the order of the sets
        ends = np.searchsorted(requests.dataset_Q, np.arange(len(known) + 1))
        self._members = [
            (each, slice(start, end), requests.take(slice(start, end)))
            for each, start, end in zip(suite.sets, ends[:-1].tolist(), ends[1:].tolist(), strict=True)
            if names is None or each.name in names
        ]
        num_requests = len(requests.item_Q)
        self._score_rows = RowScorer(
            model, mesh, blocks, num_requests, tokens_per_batch, fsdp, duplicate_of_Q=requests.duplicate_of_Q
        )

    def request_scores(self, params: Any) -> RequestScores:
        """Every request of the suite, in the order of `suite.requests`; params as of `RowScorer`."""
        return self._score_rows(params)

    def score(self, params: Any) -> dict[str, SetScore]:
        """Every set that was asked for, by name; params as of `RowScorer`."""
        nats_Q, greedy_Q = self.request_scores(params)
        return {
            each.name: score_set(each.kind, requests, nats_Q[set_slice], greedy_Q[set_slice])
            for each, set_slice, requests in self._members
        }


def _place(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Rows on axis 1; by callback, so that each process hands over its own part: all hold the whole suite."""
    return jax.make_array_from_callback(array.shape, row_sharding(mesh, axis=1), lambda index: array[index])
