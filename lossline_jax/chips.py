"""How long a study would keep an accelerator busy: its FLOPs over what a chip is assumed to do."""

from dataclasses import dataclass

from lossline_jax.errors import LosslineError

ASSUMED_UTILISATION = 0.4  # of the peak; large dense models reach it, models of some million parameters do not
SECONDS_PER_HOUR = 3600


@dataclass(frozen=True)
class Chip:
    """One accelerator and its peak of dense bfloat16 matrix products."""

    name: str
    peak_flops_per_second: float


# cloud.google.com/tpu/docs/v5e and /v5p (a chip, not a core); NVIDIA's data sheet of the H100 (SXM, without sparsity)
CHIPS = (Chip("TPU v5e", 197e12), Chip("TPU v5p", 459e12), Chip("H100 SXM", 989e12))


def chip_hours(flops: float, chip: Chip, utilisation: float = ASSUMED_UTILISATION) -> float:
    """Hours of one chip for so many FLOPs at that share of its peak.

    Raises:
        LosslineError: a share that is not above 0 and at most 1.
    """
    if not 0 < utilisation <= 1:
        raise LosslineError(f"--utilisation: {utilisation:g} is no share of a chip's peak; give above 0 and at most 1")
    return flops / (chip.peak_flops_per_second * utilisation * SECONDS_PER_HOUR)
