"""Accelerators: the speed, memory and price of each chip, and the time that a number of FLOPs takes."""

from dataclasses import dataclass

from lossline_jax.errors import LosslineError, suggestion

# Share of the peak FLOPs, used for estimates. Large dense models reach it; models of some million parameters do not.
ASSUMED_UTILISATION = 0.4
SECONDS_PER_HOUR = 3600
GIB = 2**30


@dataclass(frozen=True)
class Chip:
    """One accelerator.

    Attributes:
        name: name of the chip.
        short: name that flags take.
        peak_flops_per_second: peak for dense bfloat16 matrix products.
        hbm_bytes: memory that a program can use, in bytes, as XLA (TPU) or the driver (GPU) reports it.
        dollars_per_hour: price on demand.
        device_kinds: the names of the chip in jax (`jax.Device.device_kind`).
    """

    name: str
    short: str
    peak_flops_per_second: float
    hbm_bytes: int
    dollars_per_hour: float
    device_kinds: tuple[str, ...]


# Peaks: cloud.google.com/tpu/docs, per chip (from v4 on, a chip is one jax device); NVIDIA's data sheets, SXM, without
# sparsity. Prices: one chip on demand, as listed in 2025 at cloud.google.com/tpu/pricing and /compute/gpus-pricing.
# TPUs in us-central2 (v4), us-central1 (v5e) and us-east5 (v5p, v6e); GPUs in us-central1 (a3-highgpu-8g,
# a3-ultragpu-8g, a2-ultragpu-1g). Prices change, and spot or committed use costs half or less. They serve to compare
# plans.
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
    """Return the chip with a short name.

    Args:
        name: short name, in any case.

    Raises:
        LosslineError: no chip has this name.
    """
    known = {chip.short: chip for chip in CHIPS}
    if name.lower() not in known:
        close = suggestion(name.lower(), known)
        raise LosslineError(f"chip {name!r} is not known{close}; there are {', '.join(known)}")
    return known[name.lower()]


def chip_of(device_kind: str) -> Chip | None:
    """Return the chip that jax calls `device_kind`. None: it is not in `CHIPS`, as a CPU is not."""
    return next((chip for chip in CHIPS if device_kind in chip.device_kinds), None)


PLANNED_CHIPS = tuple(chip_named(name) for name in ("v5e", "v5p", "h100"))  # the chips that a plan shows by default


def chip_hours(flops: float, chip: Chip, utilisation: float = ASSUMED_UTILISATION) -> float:
    """Return the hours that one chip needs for a number of FLOPs.

    Args:
        flops: number of FLOPs.
        chip: the chip.
        utilisation: share of the chip's peak that is reached.

    Raises:
        LosslineError: the share is not above 0 and at most 1.
    """
    if not 0 < utilisation <= 1:
        raise LosslineError(
            f"--utilisation: {utilisation:g} is not a share of a chip's peak; give a number above 0 and at most 1"
        )
    return flops / (chip.peak_flops_per_second * utilisation * SECONDS_PER_HOUR)
