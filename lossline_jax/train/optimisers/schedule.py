"""Learning-rate schedules, as functions of optax's count.

Updates are numbered 1 to N. optax counts from 0, so its `count` at update s is s - 1.
"""

from dataclasses import dataclass

import optax

from lossline_jax.config.training import ScheduleConfig
from lossline_jax.errors import LosslineError


@dataclass(frozen=True)
class ScheduleSteps:
    """The phases of a schedule in steps. `warmup` + `stable` + `decay` = the run's steps.

    Attributes:
        warmup: number of the update that first has the peak learning rate; at least 1.
        stable: updates at the peak.
        decay: updates that lower the learning rate.
    """

    warmup: int
    stable: int
    decay: int


def schedule_steps(schedule: ScheduleConfig, num_steps: int) -> ScheduleSteps:
    """Convert the fractions of a schedule to whole steps.

    Args:
        schedule: the schedule.
        num_steps: steps of the run.

    Raises:
        LosslineError: a fraction is outside [0, 1], or warm-up and decay together are longer than the run.
    """
    for field in ("warmup_fraction", "final_fraction", "decay_fraction"):
        value = getattr(schedule, field)
        if not 0.0 <= value <= 1.0:
            raise LosslineError(f"schedule.{field}: {value} is not a fraction; give a number from 0 to 1")
    warmup = max(1, round(schedule.warmup_fraction * num_steps))
    if schedule.name == "cosine":
        return ScheduleSteps(warmup, 0, num_steps - warmup)
    decay = round(schedule.decay_fraction * num_steps)
    if warmup + decay > num_steps:
        raise LosslineError(
            f"schedule: warmup_fraction {schedule.warmup_fraction} and decay_fraction "
            f"{schedule.decay_fraction} are {warmup} + {decay} steps, more than the "
            f"run's {num_steps}; lower one of them"
        )
    return ScheduleSteps(warmup, num_steps - warmup - decay, decay)


def make_schedule(schedule: ScheduleConfig, peak: float, num_steps: int) -> optax.Schedule:
    """Return the learning rate as a function of optax's count (update s has count s - 1).

    The warm-up is linear, from peak/W at update 1 to the peak at update W. The learning rate of the last update is
    final_fraction x peak. Between these two, `cosine` follows half a period of a cosine. `wsd` holds the peak, then
    falls on a straight line (Hu et al. 2024, arXiv 2404.06395, with linear decay).

    Args:
        schedule: the schedule.
        peak: the highest learning rate.
        num_steps: steps of the run.

    Raises:
        LosslineError: as for `schedule_steps`.
    """
    steps = schedule_steps(schedule, num_steps)
    final = peak * schedule.final_fraction
    warmup = optax.linear_schedule(peak / steps.warmup, peak, steps.warmup - 1)
    if steps.decay == 0:
        decay = optax.constant_schedule(peak)
    elif schedule.name == "cosine":
        decay = optax.cosine_decay_schedule(peak, steps.decay, alpha=schedule.final_fraction)
    else:
        decay = optax.linear_schedule(peak, final, steps.decay)
    # Each phase begins at an update that has the peak, so neighbouring phases agree there.
    starts = [steps.warmup - 1, steps.warmup - 1 + steps.stable]
    return optax.join_schedules([warmup, optax.constant_schedule(peak), decay], starts)
