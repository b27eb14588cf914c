"""The devices of this machine: how many, of which kind, how fast, and the memory they have in use."""

import os
import resource
import sys
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from lossline_jax.config.execution import ExecutionConfig
from lossline_jax.distributed.chips import chip_of
from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class Hardware:
    """The devices of a mesh."""

    num_devices: int
    device_kind: str  # as jax calls it
    num_processes: int
    peak_flops_per_second: float | None  # of all of them together, bfloat16; None: not a chip of `chips.CHIPS`

    def mfu(self, flops: float, seconds: float) -> float | None:
        """Model FLOPs utilisation: the share of the peak that so many FLOPs in that time are; None without a peak."""
        if self.peak_flops_per_second is None:
            return None
        return round(flops / (max(seconds, 1e-9) * self.peak_flops_per_second), 4)


def hardware_of(mesh: Mesh) -> Hardware:
    """The hardware under a mesh, whose devices are all of one kind."""
    kind = mesh.devices.flat[0].device_kind
    chip = chip_of(kind)
    peak = None if chip is None else chip.peak_flops_per_second * mesh.size
    return Hardware(mesh.size, kind, jax.process_count(), peak)


def peak_memory_bytes(mesh: Mesh) -> int | None:
    """The most bytes that were in use at once so far on one of this process' devices.

    CPU devices share the memory of the process: there it is the peak of its resident set, programs and libraries
    included. None where a device does not tell.
    """
    device_stats = [device.memory_stats() for device in mesh.local_devices]
    peaks = [stats["peak_bytes_in_use"] for stats in device_stats if stats and "peak_bytes_in_use" in stats]
    if peaks:
        return max(peaks)
    if mesh.devices.flat[0].platform != "cpu":
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


MAX_DEFAULT_CPU_DEVICES = 8
GPU_DETERMINISM = "xla_gpu_deterministic_ops"


def configure_devices(execution: ExecutionConfig) -> None:
    """Set the number of CPU devices, and what GPUs may do; call it before jax is used for the first time.

    One device a core (at most 8) with data parallelism beats one device with many threads, and it is the
    code path of a pod. Nothing changes when a backend runs already, when the environment has set the number
    (`JAX_NUM_CPU_DEVICES`, `XLA_FLAGS`) and the config does not, or on accelerators, which it does not touch.
    """
    if execution.deterministic and GPU_DETERMINISM not in (flags := os.environ.get("XLA_FLAGS", "")):
        os.environ["XLA_FLAGS"] = f"{flags} --{GPU_DETERMINISM}=true".strip()
    chosen = execution.cpu_devices
    set_by_environment = jax.config.jax_num_cpu_devices > 0 or "xla_force_host_platform_device_count" in os.environ.get(
        "XLA_FLAGS", ""
    )
    if chosen is None and set_by_environment:
        return
    if chosen is not None and chosen < 1:
        raise LosslineError(f"execution.cpu_devices: {chosen} is not a number of devices; give 1 or more")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    # a power of two, which divides the usual batch sizes
    count = chosen or 1 << (min(cores, MAX_DEFAULT_CPU_DEVICES).bit_length() - 1)
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # jax refuses the change once a backend has started
        return
