"""Choose the layout of a run on named chips: the mesh, the microbatch and the rematerialisation. No jax here."""

import dataclasses
from typing import Literal

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

FITTING_SHARE = 0.92  # share of a chip's memory that an estimate may fill, from 0 to 1; see docs/scale.md


def choose_layout(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, *, devices: int, chip: Chip | None
) -> DeviceLayout:
    """Choose the mesh of a run, its microbatch size and its rematerialisation setting.

    The layouts are tried from the quickest to the slowest. The first layout whose estimated memory fits the chip is
    chosen, or the last one if no layout fits. Larger microbatches come first, because each microbatch sends the
    parameters again. For one microbatch size, `none` (nothing is recomputed) comes before `cheap` (products with
    weights are kept), and `cheap` before `full` (whole layers are recomputed).

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        execution: gives the mesh. It may also give the microbatch size and remat; each that is None is chosen here.
        devices: number of devices.
        chip: kind of the devices. None: an unknown kind, for which the quickest layout is chosen.

    Raises:
        LosslineError: the mesh does not fit the devices, or does not divide the rows or the parameters.
    """
    slices, data, model = mesh_shape(execution, devices, chip.name if chip else "unknown")
    rows, fsdp = rows_per_device(run.batch_size, slices * data), execution.fsdp is not False
    sizes = [rows // k for k in range(1, rows + 1) if rows % k == 0]
    if execution.microbatch_size is not None:
        check_microbatch(execution.microbatch_size, rows)
        sizes = [execution.microbatch_size]
    for name, size in split_dimensions(run.model, vocab_size).items():
        axis = (FSDP_RULES if fsdp else PARAMETER_RULES)[name]
        if isinstance(axis, str):  # the rules of parameters give one mesh axis or None, never several axes
            check_split(size, axis, {"data": data, "model": model}[axis], f"run {run.run_id}: {name} of its parameters")
    all_remats: tuple[Literal["none", "cheap", "full"], ...] = ("none", "cheap", "full")
    remats = all_remats if execution.remat is None else (execution.remat,)
    candidates = [DeviceLayout(slices, data, model, fsdp, rows, size, remat) for size in sizes for remat in remats]
    if chip is None:
        return candidates[0]
    fillable_bytes = chip.hbm_bytes * FITTING_SHARE
    fitting = (layout for layout in candidates if memory(run, vocab_size, layout).total <= fillable_bytes)
    return next(fitting, candidates[-1])


def resolve_execution(
    run: RunConfig, vocab_size: int, execution: ExecutionConfig, *, devices: int, chip: Chip
) -> ExecutionConfig:
    """Return the execution with the remat and the microbatch size of `choose_layout`.

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        execution: the settings. A remat or microbatch size that is not None stays as it is.
        devices: number of devices.
        chip: kind of the devices.

    Raises:
        LosslineError: as `choose_layout`.
    """
    layout = choose_layout(run, vocab_size, execution, devices=devices, chip=chip)
    return dataclasses.replace(execution, remat=layout.remat, microbatch_size=layout.microbatch)


def smallest_devices(run: RunConfig, vocab_size: int, execution: ExecutionConfig, chip: Chip) -> int | None:
    """Return the smallest number of chips that holds the run. The numbers tried are those that divide its batch.

    Args:
        run: the run.
        vocab_size: number of tokens of the run's tokenizer.
        execution: the settings. `data_parallel` is ignored.
        chip: kind of the chips.

    Returns:
        The number of chips. None: the run does not fit even with one sequence on each chip.
    """
    chips_per_row_shard = execution.model_parallel * execution.slices
    any_data_parallel = dataclasses.replace(execution, data_parallel=None)
    for data in (k for k in range(1, run.batch_size + 1) if run.batch_size % (k * execution.slices) == 0):
        try:
            devices = data * chips_per_row_shard
            layout = choose_layout(run, vocab_size, any_data_parallel, devices=devices, chip=chip)
        except LosslineError:  # for example, the microbatch size does not divide the rows of a device
            continue
        if memory(run, vocab_size, layout).total <= chip.hbm_bytes * FITTING_SHARE:
            return devices
    return None
