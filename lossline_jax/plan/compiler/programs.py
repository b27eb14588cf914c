"""Compile the training and evaluation programs of a run for a TPU slice that is not attached.

The programs are the real ones. libtpu compiles them on a machine without a TPU, and nothing runs. No data are needed:
the training step takes its shapes from the run, and the evaluation step from the suite's context length.
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

# Batches in the evaluation program. The program is a loop over batches, so more batches change only its length.
EVALUATION_BATCHES = 2
# Positions of a branching row for each position that is scored. Few are scored, because answer options are short.
BRANCHING_SLOT_SHARE = 4


@dataclass(frozen=True)
class Compiled:
    """The compiler's report on one program. All bytes are of one device.

    Attributes:
        kind: `train` or `evaluate`.
        argument_bytes: bytes of the arguments.
        output_bytes: bytes of the outputs.
        aliased_bytes: bytes of outputs that reuse the memory of arguments.
        temporary_bytes: bytes of temporary buffers.
        code_bytes: bytes of the program's code.
        program: the program's collectives and buffers. None: the program did not fit, so the compiler made none.
        compile_seconds: seconds that the compiler took.
        minimum_bytes: smallest number of bytes that a device must send; see the function `minimum_bytes`.
        rows_held: positions of a whole (micro)batch on one device. A program must not hold the logits of so many.
        too_much: the compiler's message if the program did not fit. Empty: the program fits.
    """

    kind: str
    argument_bytes: int
    output_bytes: int
    aliased_bytes: int
    temporary_bytes: int
    code_bytes: int
    program: Program | None
    compile_seconds: float
    minimum_bytes: float
    rows_held: int
    too_much: str = ""

    @property
    def hbm_bytes(self) -> int:
        """The memory that the program needs. Aliased bytes count once."""
        return self.argument_bytes + self.output_bytes - self.aliased_bytes + self.temporary_bytes + self.code_bytes


def topology_devices(name: str) -> tuple[Sequence[Any], Chip]:
    """Return the devices of a TPU slice, and their chip.

    Args:
        name: name of the slice, such as `v5e:4x4`.

    Raises:
        LosslineError: libtpu is not installed, or does not know the slice.
    """
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # this machine has no metadata server to ask
    os.environ.setdefault("TPU_WORKER_HOSTNAMES", "localhost")
    # Several processes may load libtpu here: none of them opens a chip, so they share nothing.
    os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")
    try:
        import libtpu  # noqa: F401  # pyright: ignore[reportMissingImports] (optional: the extra `check` installs it)
    except ImportError as error:
        raise LosslineError(f"check: needs the TPU compiler; {install_hint('check')}") from error
    from jax.experimental import topologies

    # Each v4 chip has two cores. Megacore makes one jax device of them, as on a real v4.
    options = {"chip_config_name": "megacore"} if name.startswith("v4:") else {}
    try:
        devices = topologies.get_topology_desc(name, platform="tpu", **options).devices
    except (RuntimeError, ValueError, LookupError, NotImplementedError) as error:
        reason = str(error).splitlines()[0][:200]
        raise LosslineError(
            f"--topology: {name!r} is not a slice that libtpu knows, such as v5e:4x4 ({reason})"
        ) from error
    chip = chip_of(devices[0].device_kind)
    if chip is None:
        raise LosslineError(f"--topology: lossline does not know the memory of a {devices[0].device_kind}")
    return devices, chip


def mesh_and_model(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, *, devices: Sequence[Any], chip: Chip
) -> tuple[Mesh, Model, ExecutionConfig]:
    """Build the mesh and the model that a run would have on these devices.

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        execution: the settings of the study.
        devices: the devices of the slice.
        chip: kind of the devices.

    Returns:
        The mesh, the model, and the execution with the remat and the microbatch size that fit the chip.
    """
    execution = resolve_execution(run, vocab_size, execution, devices=len(devices), chip=chip)
    remat: Any = execution.remat  # not None: `resolve_execution` has set it
    model = build_model(run.model, vocab_size, remat=remat, attention=execution.attention)
    return make_mesh(execution, devices), model, execution


def compile_training(run: RunConfig, model: Model, execution: ExecutionConfig, mesh: Mesh) -> Compiled:
    """Compile the training step of `train.step.train_program`.

    Args:
        run: the run.
        model: its model.
        execution: its execution.
        mesh: the mesh of the slice.
    """
    program = train_program(run, model, execution, mesh)
    shape, sharding = (run.batch_size, run.context_length), row_sharding(mesh)
    ids: Any = jax.ShapeDtypeStruct(shape, jnp.int32, sharding=sharding)  # shapes stand in for the arrays
    weights: Any = jax.ShapeDtypeStruct(shape, jnp.float32, sharding=sharding)
    batch = Batch(ids, ids, weights, ids if run.data.separate_documents else None)
    rows = execution.microbatch_size or run.batch_size // num_row_shards(mesh)
    minimum = minimum_bytes(model, mesh, execution.fsdp, training=True)
    with jax.set_mesh(mesh):
        return _compile("train", program.step.lower(program.abstract, batch), minimum, rows * run.context_length)


def compile_evaluation(study: StudyConfig, run: RunConfig, model: Model, *, fsdp: bool | None, mesh: Mesh) -> Compiled:
    """Compile `evaluate.evaluator.score_rows` for full batches of the longest rows that the suite can have.

    Rows without branches are always compiled. Rows with branches are compiled if the suite has choice or cloze tasks.

    Args:
        study: gives the evaluation sets.
        run: the run.
        model: its model.
        fsdp: as `ExecutionConfig.fsdp`.
        mesh: the mesh of the slice.
    """
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
        rows_held = blocks[0].ids_GBT.shape[1] // num_row_shards(mesh) * context
        return _compile("evaluate", lowered, minimum, rows_held)


def minimum_bytes(model: Model, mesh: Mesh, fsdp: bool | None, training: bool) -> float:
    """Return the smallest number of bytes that a device can send for the parameters.

    The count is that of `estimates.fsdp_bytes`, but with each parameter in the dtype in which it is computed.

    Args:
        model: the model.
        mesh: the mesh of the slice.
        fsdp: as `ExecutionConfig.fsdp`.
        training: True: for a training step. False: for one forward pass.
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
    shapes: list[Any] = [  # they stand in for the arrays
        jax.ShapeDtypeStruct((EVALUATION_BATCHES, shards * size, inner), jnp.int32, sharding=sharding)
        for size, inner in ((rows_per_shard, length), (1, rows_per_shard * slots_a_row))
    ]
    rows, slots = shapes
    return PlacedBlock(rows, rows, slots, slots)


def _compile(kind: str, lowered: Any, minimum: float, rows_held: int) -> Compiled:
    start = time.monotonic()
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        match = re.search(r"Used [^.]*\.\S+ of \S+ hbm", str(error))
        message = match[0] if match else str(error).splitlines()[0][:200]
        return Compiled(kind, 0, 0, 0, 0, 0, None, time.monotonic() - start, minimum, rows_held, message)
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
