"""Draw tables with a planted speedup, for tests of `fit/speedup` and for `benchmarks/speedup.py`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

BASE = {"data": "wiki", "architecture": "llama", "context_length": "128", "optimiser": "adamw"}
# The settings that differ from the base in one factor. The first one has the planted speedup.
CHANGES = ({"data": "code"}, {"architecture": "mamba"}, {"context_length": "256"}, {"optimiser": "adam"})
CHANGES += ({"optimiser": "wsd"}, {"architecture": "gpt2"})
E, ALPHA = 1.7, 0.25
RUN_NOISE = 0.05  # standard deviation of ln(compute) between runs
POINT_NOISE = 0.002  # standard deviation of ln(loss) of a checkpoint
FIRST, LAST = 1e16, 1e18  # compute of the first and the last checkpoint


def power_curve(compute):
    return E + 2.0 * (compute / FIRST) ** -ALPHA


def plateau_curve(compute):
    """Return a curve that is no power law: it is nearly flat in its middle, as when a model learns late to copy."""
    x = np.log(compute / FIRST) / np.log(LAST / FIRST)
    return E + 2.0 * np.exp(-2.2 * x) + 0.5 / (1 + np.exp(14 * (x - 0.55)))


def diverged(table: pd.DataFrame, run: str, by: float = 0.3) -> pd.DataFrame:
    """Return the table with a run that leaves its curve after half of its checkpoints, and ends above it by `by`."""
    of_run = (table.run_id == run).to_numpy()
    half = of_run.sum() // 2
    above = np.zeros(len(table))
    above[np.flatnonzero(of_run)[half:]] = by * np.arange(1, of_run.sum() - half + 1) / (of_run.sum() - half)
    return table.assign(loss=table.loss + above)


def in_another_unit(table: pd.DataFrame, run: str, factor: float) -> pd.DataFrame:
    """Return the table with the compute of one run times a factor."""
    return table.assign(train_flops=table.train_flops * np.where(table.run_id == run, factor, 1.0))


@dataclass(frozen=True)
class Design:
    """The runs of a planted study."""

    base_runs: int = 5
    level_runs: int = 3
    num_checkpoints: int = 10  # 1: each run is one point, and the runs of a setting have different budgets
    curve: Callable = power_curve
    run_noise: float = RUN_NOISE
    point_noise: float = POINT_NOISE
    noise_of_level: float = 1.0  # noise of the setting with the speedup, in that of the others
    degrees_of_freedom: float = np.inf  # of Student's t, from which the noise of runs is drawn; infinite: normal
    change: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table  # of the whole table, such as one bad run


FIRST_OF_BASE, FIRST_OF_LEVEL = ("-".join((BASE | change).values()) + "-0" for change in ({}, CHANGES[0]))


def planted_runs(
    generator: np.random.Generator,
    levels: Mapping[str, str],
    num_runs: int,
    *,
    speedup: float = 1.0,
    design: Design = Design(),
    noisier: float = 1.0,
) -> pd.DataFrame:
    """Draw the runs of a setting, which reach a loss with 1 / speedup of the compute that the curve says."""
    name = "-".join(levels.values())
    tables = []
    for k in range(num_runs):
        if design.num_checkpoints > 1:
            compute = np.geomspace(FIRST, LAST, design.num_checkpoints)
        else:
            compute = np.geomspace(FIRST, LAST, num_runs)[[k]]
        draw = generator.standard_normal()
        if np.isfinite(design.degrees_of_freedom):
            freedom = design.degrees_of_freedom
            draw = generator.standard_t(freedom) * np.sqrt((freedom - 2) / freedom)
        shift = np.log(speedup) + noisier * design.run_noise * draw
        noise = design.point_noise * generator.standard_normal(compute.size)
        loss = design.curve(compute * np.exp(shift)) * np.exp(noise)
        rows = {"run_id": f"{name}-{k}", "step": np.arange(compute.size), "train_flops": compute, "loss": loss}
        tables.append(pd.DataFrame(rows | dict(levels)))
    return pd.concat(tables, ignore_index=True)


def planted_table(seed: int, speedup: float = 1.0, design: Design = Design()) -> pd.DataFrame:
    """Draw a base and six settings that differ from it in one factor. Only data `code` has the speedup."""
    generator = np.random.Generator(np.random.PCG64(seed))
    tables = [planted_runs(generator, BASE, design.base_runs, design=design)]
    for number, change in enumerate(CHANGES):
        planted = {"speedup": speedup, "noisier": design.noise_of_level} if number == 0 else {}
        tables.append(planted_runs(generator, BASE | change, design.level_runs, design=design, **planted))
    return design.change(pd.concat(tables, ignore_index=True))


def two_settings(shifts_of_base: Sequence[float], shifts_of_level: Sequence[float], points: int = 40) -> pd.DataFrame:
    """Return runs without noise: each reaches a loss with exp(-shift) of the compute of the power curve."""
    tables = []
    for data, shifts in (("wiki", shifts_of_base), ("code", shifts_of_level)):
        for k, shift in enumerate(shifts):
            compute = np.geomspace(FIRST, LAST, points)
            loss = power_curve(compute * np.exp(shift))
            rows = {"run_id": f"{data}-{k}", "step": np.arange(points), "data": data}
            tables.append(pd.DataFrame(rows | {"train_flops": compute, "loss": loss}))
    return pd.concat(tables, ignore_index=True)
