"""Build the device mesh with the axes slice, data and model."""

from collections.abc import Sequence

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.layout import AXES, mesh_shape
from lossline_jax.errors import LosslineError


def make_mesh(execution: ExecutionConfig, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """The mesh of all devices, or of the first ones of a single process that its axes need.

    Args:
        devices: None: those that there are.

    Raises:
        LosslineError: the sizes do not fit the devices there are.
    """
    devices = jax.devices() if devices is None else devices
    slices, data, model = mesh_shape(execution, len(devices), devices[0].platform)
    if slices * data * model < len(devices) and jax.process_count() > 1:
        raise LosslineError(
            f"execution: slices={slices} by data_parallel={data} by model_parallel={model} leaves some of the "
            f"{len(devices)} devices idle, which several processes cannot; make the product equal to their number"
        )
    return build_mesh(devices[: slices * data * model], slices, data, model)


def build_mesh(devices: list[jax.Device], slices: int = 1, data: int = 1, model: int = 1) -> Mesh:
    """A mesh of exactly these devices; its slices are those that the devices say they belong to, if they say so."""
    shape = (slices, data, model)
    types = (AxisType.Auto,) * len(AXES)
    slice_indices = {getattr(device, "slice_index", None) for device in devices}
    if slices == 1:
        return jax.make_mesh(shape, AXES, axis_types=types, devices=devices)
    if len(slice_indices) == slices:
        return Mesh(mesh_utils.create_hybrid_device_mesh((1, data, model), (slices, 1, 1), devices), AXES, types)
    # not of slices that know of each other (CPU, GPU): consecutive devices are those of a process, and near
    return Mesh(np.asarray(devices).reshape(shape), AXES, types)


def on_cpu(mesh: Mesh) -> bool:
    """Whether the devices of the mesh are cores of this machine, which share one memory and its caches."""
    return mesh.devices.flat[0].platform == "cpu"
