"""Measure nominal 90% intervals of the compute laws of a study, with the ways to get them side by side."""

import argparse

import numpy as np
from rough_laws import (
    Design,
    Noise,
    checkpoints,
    decaying_within_runs,
    gaussian,
    isoflop,
    larger_at_small_budgets,
    of_runs,
    shared_within_a_budget,
)

from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.group_intervals import RUNS, RowGroups, groups_of_budgets, with_group_intervals
from lossline_jax.fit.laws.size_and_tokens import KAPLAN
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult

# Both terms are 0.35 at 1e9 parameters and 2e10 tokens.
TRUTH = {"E": 1.7, "A": 1e9 * 0.35 ** (1 / 0.32), "B": 2e10 * 0.35 ** (1 / 0.35), "alpha": 0.32, "beta": 0.35}
PARAMETERS = ("E", "alpha", "beta")
STUDIES = 60  # for each row of the table


def runs_of_one_length(num_sizes: int, num_seeds: int) -> Design:
    """Return runs of several sizes and seeds over 2e10 tokens, with a row for each of ten checkpoints."""
    num_runs = num_sizes * num_seeds
    size = np.repeat(np.geomspace(5e7, 1e9, num_sizes), num_seeds * 10)
    share = np.tile(np.linspace(0.1, 1.0, 10), num_runs)
    return Design(size, 2e10 * share, 6 * size * 2e10, np.repeat(np.arange(num_runs), 10))


ROWS: dict[str, tuple[Design, Noise]] = {
    "30 runs, last row: shared in a budget": (isoflop(5), shared_within_a_budget),
    "30 runs, last row: gaussian": (isoflop(5), gaussian),
    "30 runs, last row: larger at small budgets": (isoflop(5), larger_at_small_budgets),
    "4 sizes x 2 seeds x 10: of runs": (runs_of_one_length(4, 2), of_runs),
    "4 sizes x 4 seeds x 10: of runs": (runs_of_one_length(4, 4), of_runs),
    "5 sizes x 1 seed x 10: of runs": (runs_of_one_length(5, 1), of_runs),
    "12 runs x 8: of runs": (checkpoints(), of_runs),
    "4 sizes x 2 seeds x 10: decaying": (runs_of_one_length(4, 2), decaying_within_runs),
    "12 runs x 8: decaying": (checkpoints(), decaying_within_runs),
    "4 sizes x 2 seeds x 10: gaussian": (runs_of_one_length(4, 2), gaussian),
}


def table(options: argparse.Namespace) -> str:
    """Return the markdown table of `rough_statistics.py study-laws`."""
    lines = ["| runs and noise | n | intervals | E | alpha | beta | width |", "|---|---|---|---|---|---|---|"]
    for name in options.rows or ROWS:
        num_studies = options.studies or STUDIES
        studies = [_intervals(*ROWS[name], options.seed, k) for k in range(num_studies)]
        for way in studies[0]:
            fits = [study[way] for study in studies]
            held = [f"{100 * np.nanmean([_holds(fit, p) for fit in fits]):.0f}" for p in PARAMETERS]
            width = np.median([np.ptp(fit.intervals["E"]) for fit in fits if "E" in fit.intervals])
            lines.append(f"| {name} | {len(fits)} | {way} | {' | '.join(held)} | {width:.3f} |")
    return "\n".join(lines)


def _intervals(design: Design, noise: Noise, seed: int, k: int) -> dict[str, FitResult]:
    """Return the fit of study `k` with each kind of interval."""
    inputs, runs = {"N": design.size, "D": design.tokens}, design.run.astype(str)
    generator = np.random.Generator(np.random.PCG64([seed, k]))
    loss = KAPLAN(TRUTH, inputs) * np.exp(noise(design, generator))
    fit = fit_compute_law(loss, **inputs, clusters=runs)
    if not has_checkpoints(fit):
        return {"independent": fit, "budgets": with_group_intervals(fit, inputs, loss, groups_of_budgets(inputs))}
    drawn = with_run_intervals(fit, bootstrap(fit, inputs, loss, clusters=runs), INTERVAL_LEVEL)
    by_run = with_group_intervals(fit, inputs, loss, RowGroups(runs, RUNS, named=True))
    return {"independent": fit, "bootstrap of runs": drawn, "profile by run": by_run}


def _holds(fit: FitResult, name: str) -> float:
    """Return 1.0 if the interval holds the truth, 0.0 if not, and NaN without an interval."""
    if name not in fit.intervals:
        return np.nan
    low, high = fit.intervals[name]
    return float(low <= TRUTH[name] <= high)
