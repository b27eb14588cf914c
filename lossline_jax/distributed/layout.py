"""How devices, rows and parameters are divided: the rules that planning and training share. No jax."""

from collections.abc import Mapping
from dataclasses import dataclass

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.errors import LosslineError

AXES = ("slice", "data", "model")
ROW_AXES = ("slice", "data")  # the mesh axes that the rows of a batch lie over

MeshAxes = str | tuple[str, ...] | None

# Activations: rows over `ROW_AXES`, wide inner dimensions over `model` (tensor parallelism).
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
# Parameters and optimiser moments: the same, and with FSDP (ZeRO-3) the width lies over `data`.
PARAMETER_RULES: Mapping[str, MeshAxes] = {k: v for k, v in ACTIVATION_RULES.items() if k != "batch"}
FSDP_RULES: Mapping[str, MeshAxes] = {**PARAMETER_RULES, "embed": "data"}

_MENDS = {
    "data": "set execution.fsdp=False or another execution.data_parallel",
    "model": "choose an execution.model_parallel that divides it",
}


def mesh_shape(execution: ExecutionConfig, num_devices: int, kind: str) -> tuple[int, int, int]:
    """Sizes of the mesh axes on so many devices of that kind.

    Raises:
        LosslineError: they do not fit.
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
    """Sequences that a device gets each step, where the rows of a batch lie in so many parts.

    Raises:
        LosslineError: they cannot be divided evenly.
    """
    if batch_size % row_shards:
        raise LosslineError(
            f"batch_size: {batch_size} sequences cannot be split over {row_shards} data-parallel devices; "
            "set execution.data_parallel (or execution.cpu_devices) to a divisor of it"
        )
    return batch_size // row_shards


def check_microbatch(microbatch_size: int, rows: int) -> None:
    """Refuse a microbatch that does not divide the rows of a device.

    Raises:
        LosslineError: it does not.
    """
    if microbatch_size < 1 or rows % microbatch_size:
        raise LosslineError(
            f"execution.microbatch_size: {microbatch_size} does not divide the {rows} sequences that a device "
            "gets each step; choose a divisor"
        )


def check_split(size: int, axis: str, num_devices: int, where: str) -> None:
    """Refuse a dimension of a parameter that the devices of mesh axis `axis` do not divide.

    Raises:
        LosslineError: they do not; `where` names the parameter or the dimension.
    """
    if size % num_devices:
        raise LosslineError(
            f"{where}: a dimension of {size} cannot be split over the {num_devices} devices of mesh axis {axis!r}; "
            f"{_MENDS[axis]}"
        )


@dataclass(frozen=True)
class DeviceLayout:
    """A run on so many devices."""

    slices: int
    data: int  # devices along `data`, which share the rows of a slice (and with FSDP the parameters)
    model: int
    fsdp: bool
    rows: int  # sequences a device gets each step
    microbatch: int  # of these, at once
    remat: str

    @property
    def devices(self) -> int:
        return self.slices * self.data * self.model
