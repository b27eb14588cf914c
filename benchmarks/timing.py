"""Measure costs by turns in one process, there and back (A B B A), in wall and CPU-seconds, with ratios of pairs."""

import importlib
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType


@dataclass(frozen=True)
class Cost:
    """The seconds of one call."""

    wall: float
    cpu: float  # CPU-seconds of all threads of the process


@dataclass(frozen=True)
class Spread:
    """A median with its quartiles."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.2f} [{self.low:.2f}, {self.high:.2f}]"


def use_cores(count: int) -> None:
    """Keep this process to its first `count` cores; call it before jax or torch starts a thread.

    `devices.configure_devices` then makes as many CPU devices.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if count > len(allowed):
        raise SystemExit(f"--threads {count}: this process may use {len(allowed)} core(s)")
    os.sched_setaffinity(0, allowed[:count])


def import_peer(name: str) -> ModuleType:
    """Import a package to compare with. The program ends if the package is missing."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as missing:
        raise SystemExit(f"benchmarks: {missing.name} is not installed; pip install -e '.[parity]'") from missing


def quiet_transformers() -> ModuleType:
    """Import transformers without its warnings and progress bars."""
    transformers = import_peer("transformers")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers


def measure(call: Callable[[], None], repeats: int) -> Cost:
    """Return the mean cost of `repeats` calls. Each call must wait for its result."""
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in range(repeats):
        call()
    return Cost((time.perf_counter() - wall) / repeats, (time.process_time() - cpu) / repeats)


def child_cpu_seconds(command: Sequence[object], environment: Mapping[str, str] | None = None) -> float:
    """Return the CPU-seconds of a process and its children. The benchmark ends if the process fails."""
    before = os.times()
    process = subprocess.run([str(argument) for argument in command], capture_output=True, env=environment, check=False)
    if process.returncode:
        sys.exit(f"benchmarks: {' '.join(map(str, command[:4]))} ... failed\n{process.stderr.decode()[-3000:]}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def interleave(calls: Mapping[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, list[Cost]]:
    """Return the costs of each call, one for each round: the mean of its two turns in `a b c c b a`.

    Args:
        calls: functions to measure, by name. Each is called once before, as a warm-up.
        rounds: number of rounds; a round measures the calls in order and then in reverse order.
        seconds: a turn repeats its call for about this long, but makes at least one call.
    """
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, math.ceil(seconds / measure(call, 1).wall))
    costs = {name: [] for name in calls}
    for _ in range(rounds):
        first_turns = {name: measure(call, repeats[name]) for name, call in calls.items()}
        second_turns = {name: measure(calls[name], repeats[name]) for name in reversed(calls)}
        for name in calls:
            a, b = first_turns[name], second_turns[name]
            costs[name].append(Cost((a.wall + b.wall) / 2, (a.cpu + b.cpu) / 2))
    return costs


def median_cost(costs: Sequence[Cost]) -> Cost:
    return Cost(statistics.median(c.wall for c in costs), statistics.median(c.cpu for c in costs))


def ratios(peer: Sequence[Cost], lossline: Sequence[Cost]) -> tuple[Spread, Spread]:
    """Return how many times as fast as the peer lossline is, in wall and CPU-seconds. Costs are paired by round."""
    pairs = list(zip(peer, lossline, strict=True))
    return _spread([a.wall / b.wall for a, b in pairs]), _spread([a.cpu / b.cpu for a, b in pairs])


def _spread(values: Sequence[float]) -> Spread:
    if len(values) == 1:
        return Spread(values[0], values[0], values[0])
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, low, high)
