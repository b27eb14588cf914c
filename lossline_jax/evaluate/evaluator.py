"""Score a checkpoint with one compiled function for all sets and tasks of a suite.

Read `Evaluator` first, then `RowScorer` and `score_rows`. `packing.rows` explains the shape letters Q, G, A and S.
"""

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

# Tokens of a batch on each device, padding included.
TOKENS_PER_BATCH_CPU = 1024  # so few that a batch stays in the caches of a core
TOKENS_PER_BATCH_ACCELERATOR = 32768  # so many that a batch keeps an accelerator busy


class RequestScores(NamedTuple):
    """The scores that a model gives to each request."""

    nats_Q: np.ndarray  # float64, the sum over the scored tokens; NaN for a request without a row
    greedy_Q: np.ndarray  # bool, whether every scored token was the model's likeliest token


class PlacedBlock(NamedTuple):
    """The batches of one block of rows, placed on the devices; `device_batches.DeviceBatches` explains the fields."""

    ids_GBT: jax.Array
    visible_until_GBT: jax.Array
    source_GAS: jax.Array
    target_GAS: jax.Array


@functools.partial(jax.jit, static_argnames=("model", "has_branches", "fsdp"))
def score_rows(  # noqa: PLR0917 (`compile_together` lowers a program with positional arguments)
    model: "Model", params: Any, blocks: tuple[PlacedBlock, ...], has_branches: tuple[bool, ...], fsdp: bool
) -> list[tuple[jax.Array, jax.Array]]:
    """Return nats (float32) and greediness (bool) of the scored tokens of each block, both [G, A, S].

    All blocks of a suite and all models of one shape share one program, because the parameters are an argument.

    Args:
        model: the model, whose attention is "xla".
        params: the parameters, sharded over the mesh.
        blocks: the batches of every block. The batches of a block are scored one after another.
        has_branches: for each block, whether texts of a row share beginnings. If not, `visible_until_GBT` only
            separates the texts of a row.
        fsdp: whether the parameters are split over the mesh axis `data`.
    """

    def score_batch(params: Any, batch: PlacedBlock, has_branches: bool) -> tuple[jax.Array, jax.Array]:
        ids_BT, visible_until_BT, source_AS, target_AS = batch
        # Without branches, the position where a text ends never decreases along a row, so it serves as a segment id.
        tree = build_prefix_tree(visible_until_BT) if has_branches else None
        segments_BT = None if has_branches else visible_until_BT
        scores = model.target_scores(params, ids_BT, source_AS, target_AS, segments_BT=segments_BT, tree=tree)
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
    return jax.lax.with_sharding_constraint(scores, PartitionSpec())  # every process reads all scores


class RowScorer:
    """A scorer of blocks of rows, for checkpoints of one model shape. The rows stay on the devices."""

    def __init__(
        self,
        model: "Model",
        mesh: Mesh,
        blocks: Sequence[PackedRows],
        num_requests: int,
        *,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
        reuse_shapes: bool = False,
        duplicate_of_Q: np.ndarray | None = None,
    ) -> None:
        """Place the rows on the devices.

        Args:
            model: the model. Its attention is always run as "xla", because other kernels have no masks for packed rows.
            mesh: a mesh of `mesh.make_mesh`.
            blocks: the rows to score.
            num_requests: the number of requests that the rows are a part of.
            tokens_per_batch: tokens of a batch on each device, padding included. It bounds the memory and does not
                change the scores. None: chosen for the kind of device.
            fsdp: whether parameters are also sharded over the mesh axis `data`. None: see `sharding.uses_fsdp`.
            reuse_shapes: round shapes up (`device_batches.batch_for_devices`), and compile a program for each block.
                Blocks of a later scorer then find compiled programs.
            duplicate_of_Q: the request whose scores each request has (`rows.Requests`). None: its own scores.
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
        # The blocks of each program: one program for all blocks, or a program for each block, which can be reused.
        self._programs = [slice(k, k + 1) for k in range(len(blocks))] if reuse_shapes else [slice(None)]
        self._is_compiled = False
        self._slots = [layout.slot_S for layout in layouts]
        self._request_S = np.concatenate([block.request_S for block in blocks]).astype(np.intp)
        self._has_rows_Q = np.bincount(self._request_S, minlength=num_requests) > 0
        self._duplicate_of_Q = slice(None) if duplicate_of_Q is None else duplicate_of_Q

    def __call__(self, params: Any) -> RequestScores:
        """Score every request of the blocks. Nats are NaN or infinite if the parameters make them so.

        Args:
            params: parameters of the model, on any devices. They are moved to the shardings of this mesh.
        """
        params = jax.device_put(params, self._param_shardings)  # no copy if they have these shardings already
        with jax.set_mesh(self.mesh):
            arguments = [
                (self.model, params, self._placed[part], self._has_branches[part], self._fsdp)
                for part in self._programs
            ]
            if is_distributed() and not self._is_compiled:
                for program_arguments in arguments:
                    compile_together(score_rows, *program_arguments)
                self._is_compiled = True
            calls = [score_rows(*program_arguments) for program_arguments in arguments]
        on_host = jax.device_get([scores for call in calls for scores in call])
        nats_S, greedy_S = (
            np.concatenate([scores[k].reshape(-1)[slots] for scores, slots in zip(on_host, self._slots, strict=True)])
            for k in range(2)
        )
        # The tokens are in the order of the blocks, so the sums do not depend on how rows are spread over devices.
        nats_Q = np.bincount(self._request_S, weights=nats_S.astype(np.float64), minlength=self._num_requests)
        missed_Q = np.bincount(self._request_S[~greedy_S], minlength=self._num_requests)
        nats_Q[~self._has_rows_Q] = np.nan
        greedy_Q = self._has_rows_Q & (missed_Q == 0)
        return RequestScores(nats_Q[self._duplicate_of_Q], greedy_Q[self._duplicate_of_Q])


class Evaluator:
    """A scorer of one suite, for checkpoints of one model shape."""

    def __init__(
        self,
        model: "Model",
        mesh: Mesh,
        suite: PreparedSuite,
        *,
        tokens_per_batch: int | None = None,
        fsdp: bool | None = None,
        names: frozenset[str] | None = None,
    ) -> None:
        """Place the rows of the suite on the devices.

        Args:
            model: the model, see `RowScorer`.
            mesh: a mesh of `mesh.make_mesh`.
            suite: the suite to score.
            tokens_per_batch: tokens of a batch on each device, see `RowScorer`.
            fsdp: whether parameters are also sharded over the mesh axis `data`, see `RowScorer`.
            names: the sets to score, at least one. Only rows with tokens of these sets are run. None: all sets.

        Raises:
            ValueError: `names` is empty, or has a name that is not a set of the suite.
        """
        self.suite = suite
        requests, blocks = suite.requests, suite.blocks
        known = [prepared_set.name for prepared_set in suite.sets]
        if names is not None:
            if not names or not names <= {*known}:
                raise ValueError(f"names {sorted(names)}: the suite has {known}")
            blocks = select_requests(blocks, np.array([name in names for name in known])[requests.dataset_Q])
        # The requests of a set are consecutive, in the order of the sets.
        bounds = np.searchsorted(requests.dataset_Q, np.arange(len(known) + 1))
        self._sets = [
            (prepared_set, slice(start, end), requests.take(slice(start, end)))
            for prepared_set, start, end in zip(suite.sets, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)
            if names is None or prepared_set.name in names
        ]
        self._score_rows = RowScorer(
            model,
            mesh,
            blocks,
            len(requests.item_Q),
            tokens_per_batch=tokens_per_batch,
            fsdp=fsdp,
            duplicate_of_Q=requests.duplicate_of_Q,
        )

    def request_scores(self, params: Any) -> RequestScores:
        """Score every request of the suite, in the order of `suite.requests`.

        Args:
            params: parameters of the model, on any devices.
        """
        return self._score_rows(params)

    def score(self, params: Any) -> dict[str, SetScore]:
        """Return the score of every set that was asked for, by name.

        Args:
            params: parameters of the model, on any devices.
        """
        nats_Q, greedy_Q = self.request_scores(params)
        return {
            prepared_set.name: score_set(prepared_set.kind, requests, nats_Q[set_slice], greedy_Q[set_slice])
            for prepared_set, set_slice, requests in self._sets
        }


def _place(array: np.ndarray, mesh: Mesh) -> jax.Array:
    """Shard the rows (axis 1) over the mesh. Every process has the whole suite and hands over its own part."""
    return jax.make_array_from_callback(array.shape, row_sharding(mesh, axis=1), lambda index: array[index])
