"""The rules by which devices, rows and parameters are divided. Planning and training share them. No jax here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.errors import LosslineError

AXES = ("slice", "data", "model")
ROW_AXES = ("slice", "data")  # the mesh axes over which the rows of a batch are split

MeshAxes = str | tuple[str, ...] | None

# Activations: rows are split over `ROW_AXES`, wide inner dimensions over `model` (tensor parallelism).
ACTIVATION_RULES: Mapping[str, MeshAxes] = {
    "batch": ROW_AXES,
    "seq": None,
    "embed": None,
    "vocab": "model",
    "heads": "model",
    "kv_heads": "model",
    "head_dim": None,
    "mlp": "model",
    "inner": "model",
    "state": None,
    "layers": None,
}
# Parameters and optimiser moments: the same; with FSDP (ZeRO-3), the width is split over `data`.
PARAMETER_RULES: Mapping[str, MeshAxes] = {k: v for k, v in ACTIVATION_RULES.items() if k != "batch"}
FSDP_RULES: Mapping[str, MeshAxes] = {**PARAMETER_RULES, "embed": "data"}

_FIXES = {  # what to do about a dimension that cannot be split, by mesh axis
    "data": "set execution.fsdp=False or another execution.data_parallel",
    "model": "choose an execution.model_parallel that divides it",
}


def mesh_shape(execution: ExecutionConfig, num_devices: int, kind: str) -> tuple[int, int, int]:
    """Return the sizes of the mesh axes (slice, data, model).

    Args:
        execution: gives the sizes. `data_parallel=None`: all devices that the two other axes leave.
        num_devices: number of devices.
        kind: their kind, for the message.

    Raises:
        LosslineError: the sizes do not fit the number of devices.
    """
    slices, model, chosen = execution.slices, execution.model_parallel, execution.data_parallel
    data = chosen if chosen is not None else num_devices // max(model * slices, 1)
    if min(slices, model, data) < 1 or slices * data * model > num_devices:
        by_slices = f"slices={slices} by " if slices != 1 else ""
        raise LosslineError(
            f"execution: a mesh of {by_slices}data_parallel={chosen} by model_parallel={model} does "
            f"not fit the {num_devices} {kind} device(s); each is 1 or more, and their product at most that"
        )
    return slices, data, model


def rows_per_device(batch_size: int, row_shards: int) -> int:
    """Return the number of sequences that a device gets each step.

    Args:
        batch_size: sequences of the global batch.
        row_shards: number of shards into which the mesh divides the rows.

    Raises:
        LosslineError: the sequences cannot be divided evenly.
    """
    if batch_size % row_shards:
        raise LosslineError(
            f"batch_size: {batch_size} sequences cannot be split over {row_shards} data-parallel devices; "
            "set execution.data_parallel (or execution.cpu_devices) to a divisor of it"
        )
    return batch_size // row_shards


def check_microbatch(microbatch_size: int, rows: int) -> None:
    """Check that a microbatch size divides the rows of a device.

    Args:
        microbatch_size: sequences of a microbatch.
        rows: sequences that a device gets each step.

    Raises:
        LosslineError: it does not divide the rows.
    """
    if microbatch_size < 1 or rows % microbatch_size:
        raise LosslineError(
            f"execution.microbatch_size: {microbatch_size} does not divide the {rows} sequences that a device "
            "gets each step; choose a divisor"
        )


def check_split(size: int, axis: str, num_devices: int, where: str) -> None:
    """Check that the devices of a mesh axis divide a dimension of a parameter.

    Args:
        size: size of the dimension.
        axis: name of the mesh axis.
        num_devices: devices along the mesh axis.
        where: the parameter or the dimension, for the message.

    Raises:
        LosslineError: the devices do not divide the dimension.
    """
    if size % num_devices:
        raise LosslineError(
            f"{where}: a dimension of {size} cannot be split over the {num_devices} devices of mesh axis {axis!r}; "
            f"{_FIXES[axis]}"
        )


@dataclass(frozen=True)
class DeviceLayout:
    """The way in which a run is divided over devices.

    Attributes:
        slices: size of the mesh axis `slice`.
        data: size of the mesh axis `data`. Its devices share the rows of a slice, and with FSDP the parameters.
        model: size of the mesh axis `model`.
        fsdp: whether parameters are sharded over `data`.
        rows: sequences that a device gets each step.
        microbatch: sequences that a device computes at once.
        remat: the rematerialisation setting.
    """

    slices: int
    data: int
    model: int
    fsdp: bool
    rows: int
    microbatch: int
    remat: Literal["none", "cheap", "full"]

    @property
    def devices(self) -> int:
        """The number of devices."""
        return self.slices * self.data * self.model
