"""Build the device mesh with the axes slice, data and model."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.layout import AXES, mesh_shape
from lossline_jax.errors import LosslineError


# jax takes the class `jax.Device` from C++, without a type for pyright.
def make_mesh(execution: ExecutionConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:  # pyright: ignore[reportInvalidTypeForm]
    """Build the mesh of a run from all devices. A single process may use only the first devices.

    Args:
        execution: gives the sizes of the mesh axes.
        devices: the devices. None: all devices of all processes.

    Raises:
        LosslineError: the sizes do not fit the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    slices, data, model = mesh_shape(execution, len(devices), devices[0].platform)
    if slices * data * model < len(devices) and jax.process_count() > 1:
        raise LosslineError(
            f"execution: slices={slices} by data_parallel={data} by model_parallel={model} leaves some of the "
            f"{len(devices)} devices idle, which several processes cannot; make the product equal to their number"
        )
    return build_mesh(devices[: slices * data * model], slices, data, model)


def build_mesh(devices: Sequence[jax.Device], slices: int = 1, data: int = 1, model: int = 1) -> Mesh:  # pyright: ignore[reportInvalidTypeForm]
    """Build a mesh of exactly these devices.

    Args:
        devices: `slices * data * model` devices.
        slices: size of the axis `slice`. If the devices have a `slice_index`, it gives their place on this axis.
        data: size of the axis `data`.
        model: size of the axis `model`.
    """
    shape = (slices, data, model)
    types = (AxisType.Auto,) * len(AXES)
    slice_indices = {getattr(device, "slice_index", None) for device in devices}
    if slices == 1:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    if len(slice_indices) == slices:
        return Mesh(mesh_utils.create_hybrid_device_mesh((1, data, model), (slices, 1, 1), devices), AXES, types)
    # CPUs and GPUs have no slice index. Consecutive devices belong to one process, so they are near each other.
    return Mesh(np.asarray(devices).reshape(shape), AXES, types)


def on_cpu(mesh: Mesh) -> bool:
    """Return whether the devices of the mesh are CPU cores of this machine, which share its memory and caches."""
    return mesh.devices.flat[0].platform == "cpu"
