"""Accelerators: what a chip can do, holds and costs, and how long a study would keep one busy."""

from dataclasses import dataclass

from lossline_jax.errors import LosslineError, suggestion

ASSUMED_UTILISATION = 0.4  # of the peak; large dense models reach it, models of some million parameters do not
SECONDS_PER_HOUR = 3600
GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator."""

    name: str
    short: str  # what a flag takes
    peak_flops_per_second: float  # dense bfloat16 matrix products
    hbm_bytes: int  # of memory that a program can have: what XLA (TPU) or the driver (GPU) says there is
    dollars_per_hour: float
    device_kinds: tuple[str, ...]  # what jax calls it


# Peaks: cloud.google.com/tpu/docs (a chip, from v4 on one jax device); NVIDIA's data sheets (SXM, without sparsity).
# Prices: on demand, one chip, cloud.google.com/tpu/pricing and /compute/gpus-pricing as listed in 2025: TPUs in
# us-central2 (v4), us-central1 (v5e), us-east5 (v5p, v6e); a3-highgpu-8g, a3-ultragpu-8g and a2-ultragpu-1g in
# us-central1. They change, and spot or committed use costs a half or less: an estimate to compare plans with.
CHIPS = (
    Chip("TPU v4", "v4", 275e12, int(30.75 * GIB), 3.22, ("TPU v4",)),
    Chip("TPU v5e", "v5e", 197e12, int(15.75 * GIB), 1.20, ("TPU v5 lite", "TPU v5e")),
    Chip("TPU v5p", "v5p", 459e12, int(95.74 * GIB), 4.20, ("TPU v5", "TPU v5p")),
    Chip("TPU v6e", "v6e", 918e12, int(31.25 * GIB), 2.70, ("TPU v6 lite", "TPU v6e")),
    Chip("A100 SXM 80GB", "a100", 312e12, 79 * GIB, 5.07, ("NVIDIA A100-SXM4-80GB",)),
    Chip("H100 SXM", "h100", 989e12, 79 * GIB, 11.06, ("NVIDIA H100 80GB HBM3",)),
    Chip("H200 SXM", "h200", 989e12, 139 * GIB, 10.60, ("NVIDIA H200",)),
)


def chip_named(name: str) -> Chip:
    """The chip that a flag names.

    Raises:
        LosslineError: there is none of that name.
    """
    known = {chip.short: chip for chip in CHIPS}
    if name.lower() not in known:
        close = suggestion(name.lower(), known)
        raise LosslineError(f"chip {name!r} is not known{close}; there are {', '.join(known)}")
    return known[name.lower()]


def chip_of(device_kind: str) -> Chip | None:
    """The chip that jax calls `device_kind` (`jax.Device.device_kind`); None for any other, a CPU among them."""
    return next((chip for chip in CHIPS if device_kind in chip.device_kinds), None)


PLANNED_CHIPS = tuple(chip_named(name) for name in ("v5e", "v5p", "h100"))  # what a plan shows unasked


def chip_hours(flops: float, chip: Chip, utilisation: float = ASSUMED_UTILISATION) -> float:
    """Hours of one chip for so many FLOPs at that share of its peak.

    Raises:
        LosslineError: a share that is not above 0 and at most 1.
    """
    if not 0 < utilisation <= 1:
        raise LosslineError(f"--utilisation: {utilisation:g} is no share of a chip's peak; give above 0 and at most 1")
    return flops / (chip.peak_flops_per_second * utilisation * SECONDS_PER_HOUR)
