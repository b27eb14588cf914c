"""The hours that a study still needs, at the speed of its own runs that are done."""

from collections import defaultdict
from dataclasses import dataclass

from lossline_jax.distributed.chips import SECONDS_PER_HOUR
from lossline_jax.plan.plan import StudyPlan
from lossline_jax.storage.paths import StudyDir
from lossline_jax.storage.run_records import read_result


@dataclass(frozen=True)
class MeasuredSpeed:
    """The speed of finished runs on one kind of devices, and what it means for the other runs.

    Attributes:
        devices: number and kind of the devices, such as `2 x cpu`.
        num_done: number of runs that were measured.
        num_left: number of runs that are not done on any devices.
        flops_per_second: training FLOPs of the finished runs over the seconds of their steps.
        hours_left: hours of training of the runs that are not done, one after another, at this speed.
    """

    devices: str
    num_done: int
    num_left: int
    flops_per_second: float
    hours_left: float


def measured_speeds(plan: StudyPlan, folder: StudyDir) -> list[MeasuredSpeed]:
    """Return the speed on each kind of devices that finished a run of the study. Empty: no run is done.

    Args:
        plan: the plan of the study.
        folder: the study's folder.
    """
    done: dict[str, list[tuple[float, float]]] = defaultdict(list)
    flops_left, num_left = 0.0, 0
    for run in plan.runs:
        result = read_result(folder.run(run.run_id))
        if result is None:
            flops_left, num_left = flops_left + run.flops, num_left + 1
        elif result.device_kind is not None and result.tokens_per_second:
            devices = f"{result.num_devices} x {result.device_kind}"
            done[devices].append((run.flops, result.tokens / result.tokens_per_second))
    speeds = []
    for devices, costs in sorted(done.items()):
        rate = sum(flops for flops, _ in costs) / sum(seconds for _, seconds in costs)
        hours = flops_left / rate / SECONDS_PER_HOUR
        speeds.append(MeasuredSpeed(devices, len(costs), num_left, rate, hours))
    return speeds
