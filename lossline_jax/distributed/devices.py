"""The devices of this machine: their number, kind and speed, and the memory that they use."""

import os
import sys
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.chips import chip_of
from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class Hardware:
    """The devices of a mesh.

    Attributes:
        num_devices: number of devices in all processes.
        device_kind: their kind, as jax names it.
        num_processes: number of processes.
        peak_flops_per_second: bfloat16 peak of all devices together. None: the kind is not in `chips.CHIPS`.
    """

    num_devices: int
    device_kind: str
    num_processes: int
    peak_flops_per_second: float | None

    def mfu(self, flops: float, seconds: float) -> float | None:
        """Return the model FLOPs utilisation, as a share of the peak. None: the peak is not known.

        Args:
            flops: FLOPs of the model that were computed.
            seconds: time that they took.
        """
        if self.peak_flops_per_second is None:
            return None
        return round(flops / (max(seconds, 1e-9) * self.peak_flops_per_second), 4)


def hardware_of(mesh: Mesh) -> Hardware:
    """Return the hardware of a mesh. All devices of a mesh are of one kind."""
    kind = mesh.devices.flat[0].device_kind
    chip = chip_of(kind)
    peak = None if chip is None else chip.peak_flops_per_second * mesh.size
    return Hardware(mesh.size, kind, jax.process_count(), peak)


def peak_memory_bytes(mesh: Mesh) -> int | None:
    """Return the peak memory so far of this process' devices, in bytes: the maximum over the devices.

    On CPU, the devices share the memory of the process. The peak is then that of the resident set of the process,
    with programs and libraries. None: the device does not report its memory, or this is a CPU under Windows.
    """
    device_stats = [device.memory_stats() for device in mesh.local_devices]
    peaks = [stats["peak_bytes_in_use"] for stats in device_stats if stats and "peak_bytes_in_use" in stats]
    if peaks:
        return max(peaks)
    if mesh.devices.flat[0].platform != "cpu":
        return None
    try:
        import resource
    except ImportError:  # Windows
        return None
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024  # getrusage counts bytes on macOS and KiB on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * bytes_per_unit


MAX_DEFAULT_CPU_DEVICES = 8
GPU_DETERMINISM = "xla_gpu_deterministic_ops"  # flag in XLA_FLAGS


def configure_devices(execution: ExecutionConfig) -> None:
    """Set the number of CPU devices, and whether GPUs must be deterministic. Call it before jax is first used.

    The default is one CPU device per core, at most 8. Data parallelism over them is faster than one device with many
    threads, and it is the code path of a TPU pod. The number of accelerators is never changed.

    The number of CPU devices stays as it is if a jax backend runs already. It also stays if the environment sets it
    (`JAX_NUM_CPU_DEVICES`, `XLA_FLAGS`) and the config does not.

    Args:
        execution: the settings.

    Raises:
        LosslineError: execution.cpu_devices is below 1.
    """
    if execution.deterministic and GPU_DETERMINISM not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} --{GPU_DETERMINISM}=true".strip()
    chosen = execution.cpu_devices
    set_by_flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    num_devices = jax.config.jax_num_cpu_devices  # pyright: ignore[reportAttributeAccessIssue]  # jax adds its options at run time
    set_by_environment = num_devices > 0 or set_by_flag
    if chosen is None and set_by_environment:
        return
    if chosen is not None and chosen < 1:
        raise LosslineError(f"execution.cpu_devices: {chosen} is not a number of devices; give 1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # a power of two, because it divides the usual batch sizes
    count = chosen or 1 << (min(cores, MAX_DEFAULT_CPU_DEVICES).bit_length() - 1)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # jax refuses the change once a backend has started
        return
