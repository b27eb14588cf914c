"""Choose how a run lies on named chips: the mesh, the microbatch and what is recomputed. No jax."""

import dataclasses

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.config.study import RunConfig
from lossline_jax.distributed.chips import Chip
from lossline_jax.distributed.layout import (
    FSDP_RULES,
    PARAMETER_RULES,
    DeviceLayout,
    check_microbatch,
    check_split,
    mesh_shape,
    rows_per_device,
)
from lossline_jax.errors import LosslineError
from lossline_jax.models.declaration import split_dimensions
from lossline_jax.plan.estimates import memory

FITTING_SHARE = 0.92  # of a chip's memory that an estimate may fill


def choose_layout(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, devices: int, chip: Chip | None
) -> DeviceLayout:
    """The mesh, and what `None` of remat and microbatch means on chips of that kind.

    Of the layouts that fit the chip by the estimate, the one that is quickest: nothing made anew before products with
    weights kept before whole layers made anew; and whole batches before halves, for each microbatch sends the
    parameters once more. The last of them where none fits, the first where the chip is unknown.

    Raises:
        LosslineError: a mesh that does not fit the devices, or rows or parameters that it does not divide.
    """
    slices, data, model = mesh_shape(execution, devices, chip.name if chip else "unknown")
    rows, fsdp = rows_per_device(run.batch_size, slices * data), execution.fsdp is not False
    sizes = [rows // k for k in range(1, rows + 1) if rows % k == 0]
    if execution.microbatch_size is not None:
        check_microbatch(execution.microbatch_size, rows)
        sizes = [execution.microbatch_size]
    for name, size in split_dimensions(run.model, vocab_size).items():
        axis = (FSDP_RULES if fsdp else PARAMETER_RULES)[name]
        if axis is not None:
            check_split(size, axis, {"data": data, "model": model}[axis], f"run {run.run_id}: {name} of its parameters")
    remats = ("none", "cheap", "full") if execution.remat is None else (execution.remat,)
    candidates = [DeviceLayout(slices, data, model, fsdp, rows, size, remat) for size in sizes for remat in remats]
    if chip is None:
        return candidates[0]
    room = chip.hbm_bytes * FITTING_SHARE
    return next((each for each in candidates if memory(run, vocab_size, each).total <= room), candidates[-1])


def resolve_execution(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, devices: int, chip: Chip
) -> ExecutionConfig:
    """The execution with what `choose_layout` chose in place of None."""
    chosen = choose_layout(run, vocab_size, execution, devices, chip)
    return dataclasses.replace(execution, remat=chosen.remat, microbatch_size=chosen.microbatch)


def smallest_devices(run: RunConfig, vocab_size: int, execution: ExecutionConfig, chip: Chip) -> int | None:
    """The fewest chips that hold the run, of those that divide its batch; None: not even one sequence a chip does."""
    model = execution.model_parallel * execution.slices
    free = dataclasses.replace(execution, data_parallel=None)
    for data in (k for k in range(1, run.batch_size + 1) if run.batch_size % (k * execution.slices) == 0):
        try:
            chosen = choose_layout(run, vocab_size, free, data * model, chip)
        except LosslineError:  # a microbatch size that does not divide the rows there
            continue
        if memory(run, vocab_size, chosen).total <= chip.hbm_bytes * FITTING_SHARE:
            return data * model
    return None
