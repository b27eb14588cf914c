"""What a run is trained on: how many devices of which kind, what they can do, and the memory they have had in use."""

import resource
import sys
from dataclasses import dataclass

import jax
from jax.sharding import Mesh

from lossline_jax.chips import chip_of


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
    told = [device.memory_stats() for device in mesh.local_devices]
    peaks = [stats["peak_bytes_in_use"] for stats in told if stats and "peak_bytes_in_use" in stats]
    if peaks:
        return max(peaks)
    if mesh.devices.flat[0].platform != "cpu":
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
