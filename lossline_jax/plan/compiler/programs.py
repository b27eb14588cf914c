"""The real training and evaluation programs of a run, compiled for a TPU slice that is not there.

libtpu compiles on a machine without a TPU; nothing runs, and no data are needed: the training step takes its shapes
from the run, the evaluation step from the suite's context length.
"""

import dataclasses
import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig, StudyConfig
from lossline_jax.data.batches import Batch
from lossline_jax.distributed.batch_rows import num_row_shards, row_sharding
from lossline_jax.distributed.chips import Chip, chip_of
from lossline_jax.distributed.mesh import make_mesh
from lossline_jax.distributed.sharding import manual_partition_specs, uses_fsdp
from lossline_jax.errors import LosslineError, install_hint
from lossline_jax.evaluate.evaluator import TOKENS_PER_BATCH_ACCELERATOR, PlacedBlock, score_rows
from lossline_jax.evaluate.packing.pack import LONGEST_BRANCHING_ROW
from lossline_jax.models.model import Model, build_model
from lossline_jax.plan.choose_layout import resolve_execution
from lossline_jax.plan.compiler.hlo import Program, read_program
from lossline_jax.train.state import abstract_params
from lossline_jax.train.step import train_program

EVALUATION_BATCHES = 2  # the program is a loop over batches: more change nothing but its length
BRANCHING_SLOT_SHARE = 4  # of so many positions of a row that branches, one is scored: options are short


@dataclass(frozen=True)
class Compiled:
    """What the compiler says of one program; bytes are of one device."""

    kind: str  # train or evaluate
    argument_bytes: int
    output_bytes: int
    aliased_bytes: int  # of outputs that lie where arguments lay
    temporary_bytes: int
    code_bytes: int
    program: Program | None  # None: it did not fit, and there is no program
    compile_seconds: float
    minimum_bytes: float  # that a device must send: `minimum_bytes`
    rows_held: int  # positions whose logits would be those of a whole (micro)batch on one device
    too_much: str = ""  # the compiler's words, where it ran out of memory

    @property
    def hbm_bytes(self) -> int:
        return self.argument_bytes + self.output_bytes - self.aliased_bytes + self.temporary_bytes + self.code_bytes


def topology_devices(name: str) -> tuple[Sequence[Any], Chip]:
    """The devices of a slice such as `v5e:4x4`, and their chip.

    Raises:
        LosslineError: libtpu is not installed, or does not know the slice.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no metadata server to ask
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # nothing is shared: no chip is opened
    try:
        import libtpu  # noqa: F401
    except ImportError as error:
        raise LosslineError(f"check: needs TPU's compiler; {install_hint('check')}") from error
    from jax.experimental import topologies

    # one device a chip, as jax has it on a v4
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        devices = topologies.get_topology_desc(name, platform="tpu", **options).devices
    except (RuntimeError, ValueError, LookupError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise LosslineError(f"--topology: {name!r} is no slice that libtpu knows, as v5e:4x4 is ({reason})") from error
    chip = chip_of(devices[0].device_kind)
    if chip is None:
        raise LosslineError(f"--topology: the memory of a {devices[0].device_kind} is not known here")
    return devices, chip


def mesh_and_model(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, devices: Sequence[Any], chip: Chip
) -> tuple[Mesh, Model, ExecutionConfig]:
    """As a run would have them on these devices."""
    execution = resolve_execution(run, vocab_size, execution, len(devices), chip)
    model = build_model(run.model, vocab_size, remat=execution.remat, attention=execution.attention)
    return make_mesh(execution, devices), model, execution


def compile_training(run: RunConfig, model: Model, execution: ExecutionConfig, mesh: Mesh) -> Compiled:
    """The step of `step.train_program`."""
    step, _, abstract = train_program(run, model, execution, mesh)
    shape, rows = (run.batch_size, run.context_length), row_sharding(mesh)
    whole, weights = (jax.ShapeDtypeStruct(shape, dtype, sharding=rows) for dtype in (jnp.int32, jnp.float32))
    batch = Batch(whole, whole, weights, whole if run.data.separate_documents else None)
    held = execution.microbatch_size or run.batch_size // num_row_shards(mesh)
    minimum = minimum_bytes(model, mesh, execution.fsdp, training=True)
    with jax.set_mesh(mesh):
        return _compile("train", step.lower(abstract, batch), minimum, held * run.context_length)


def compile_evaluation(study: StudyConfig, run: RunConfig, model: Model, fsdp: bool | None, mesh: Mesh) -> Compiled:
    """`evaluator.score_rows` on full batches of the longest rows that the suite can have of either form."""
    model = dataclasses.replace(model, attention="xla")
    context = study.suite.for_context(run.context_length).context_length
    blocks, has_branches = [_block(context, context, mesh)], [False]
    if study.suite.choice or study.suite.cloze:
        longest = min(LONGEST_BRANCHING_ROW, context)
        blocks.append(_block(longest, longest // BRANCHING_SLOT_SHARE, mesh))
        has_branches.append(True)
    params = abstract_params(model, mesh, fsdp)
    split = uses_fsdp(mesh, fsdp)
    minimum = EVALUATION_BATCHES * len(blocks) * minimum_bytes(model, mesh, fsdp, training=False)
    with jax.set_mesh(mesh):
        lowered = score_rows.lower(model, params, tuple(blocks), tuple(has_branches), split)
        held = blocks[0].ids_GBT.shape[1] // num_row_shards(mesh) * context
        return _compile("evaluate", lowered, minimum, held)


def minimum_bytes(model: Model, mesh: Mesh, fsdp: bool | None, training: bool) -> float:
    """What a device must send for the parameters: of a training step, or forwards once.

    As `estimates.fsdp_bytes` has it, of each parameter in the dtype it is computed with.
    """
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    share = (mesh.shape["data"] - 1) / mesh.shape["data"] / mesh.shape["model"]
    if not uses_fsdp(mesh, fsdp):
        return 2 * 4 * share * sum(leaf.size for leaf in jax.tree.leaves(shapes)) if training else 0.0

    def size(leaf: Any, spec: P, decayed: bool) -> float:
        width = jnp.dtype(model.config.compute_dtype if decayed and len(leaf.shape) > 1 else leaf.dtype).itemsize
        return leaf.size * (width if "data" in spec else 0)

    sizes = jax.tree.map(size, shapes, manual_partition_specs(model.axes(), True), model.weight_decay_mask())
    return (3 if training else 1) * share * sum(jax.tree.leaves(sizes))


def _block(length: int, slots_a_row: int, mesh: Mesh) -> PlacedBlock:
    shards = num_row_shards(mesh)
    rows_per_shard = max(TOKENS_PER_BATCH_ACCELERATOR // length, 1)
    sharding = row_sharding(mesh, axis=1)
    rows, slots = (
        jax.ShapeDtypeStruct((EVALUATION_BATCHES, shards * size, inner), jnp.int32, sharding=sharding)
        for size, inner in ((rows_per_shard, length), (1, rows_per_shard * slots_a_row))
    )
    return PlacedBlock(rows, rows, slots, slots)


def _compile(kind: str, lowered: Any, minimum: float, rows_held: int) -> Compiled:
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        match = re.search(r"Used [^.]*\.\S+ of \S+ hbm", str(error))
        words = match[0] if match else str(error).splitlines()[0][:200]
        return Compiled(kind, 0, 0, 0, 0, 0, None, time.monotonic() - start, minimum, rows_held, words)
    memory = compiled.memory_analysis()
    return Compiled(
        kind=kind,
        argument_bytes=memory.argument_size_in_bytes,
        output_bytes=memory.output_size_in_bytes,
        aliased_bytes=memory.alias_size_in_bytes,
        temporary_bytes=memory.temp_size_in_bytes,
        code_bytes=memory.generated_code_size_in_bytes,
        program=read_program(compiled.as_text()),
        compile_seconds=time.monotonic() - start,
        minimum_bytes=minimum,
        rows_held=rows_held,
    )
