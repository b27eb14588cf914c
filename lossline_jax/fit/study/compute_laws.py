"""Fit a compute law to every set of runs that differ in size and seed alone."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves.compute_law import fit_compute_law
from lossline_jax.fit.group_intervals import groups_of_budgets, with_group_intervals
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.study.results import ComputeFit
from lossline_jax.fit.tables.batch import BATCH, batch_is_factor
from lossline_jax.fit.tables.columns import UNITS, name_checkpoints, numeric_losses, plain
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.settings import FACTORS
from lossline_jax.losses.loss_row import LATER_FACTORS

COMPUTE_CONVENTIONS = {
    "N": "total parameters, embeddings included",
    "D": "tokens seen",
    "compute points": "every checkpoint; only the last of a run has a fully decayed learning rate",
}
NEEDED = {*FACTORS, "params_total", "tokens_seen", "run_id", "eval_set"}.difference(LATER_FACTORS)


def fit_compute_laws(
    frame: pd.DataFrame, eval_sets: Sequence[str], units: Sequence[str]
) -> tuple[tuple[ComputeFit, ...], list[str]]:
    """Fit the compute law of each set of runs that has two sizes or more.

    A table without lossline's factor columns, sizes, tokens or evaluation sets has no compute laws.

    Args:
        frame: a long table of losses.
        eval_sets: the evaluation sets to fit, each on its own.
        units: loss columns to fit, each on its own.

    Returns:
        The laws, and a note for each set of runs whose losses cannot be used.
    """
    if not set(frame.columns) >= NEEDED:
        return (), []
    fits: list[ComputeFit] = []
    notes: list[str] = []
    for group, rows in _runs_of_several_sizes(frame, eval_sets):
        label = ", ".join(str(value) for value in group.values())
        for eval_set in eval_sets:
            chosen = name_checkpoints(rows.loc[rows["eval_set"] == eval_set])
            for unit in units:
                try:
                    losses = numeric_losses(chosen, unit, eval_set)
                except LosslineError as error:
                    notes.append(f"compute law of {label} ({unit}): {error}")
                    continue
                fits.append(ComputeFit(label, group, eval_set, unit, _fit(chosen, losses, unit)))
    return tuple(fits), notes


def _runs_of_several_sizes(
    frame: pd.DataFrame, eval_sets: Sequence[str]
) -> Iterator[tuple[dict[str, str | int | float], pd.DataFrame]]:
    """Yield the levels and the rows of each set of runs that are equal in all factors but the size."""
    present = [name for name in FACTORS if name in frame.columns]
    left_out = {"size", *(name for name in present if name in LATER_FACTORS and frame.loc[:, name].nunique() < 2)}
    left_out |= set() if batch_is_factor(frame, present) else {BATCH}
    columns = [name for name in present if name not in left_out]
    known = frame.loc[frame["eval_set"].isin(eval_sets) & frame["tokens_seen"].notna()]
    for levels, rows in row_groups(known, columns):
        if rows.loc[:, "params_total"].nunique() > 1:
            yield {name: plain(value) for name, value in levels.items()}, rows


def _fit(rows: pd.DataFrame, losses: np.ndarray, unit: str) -> FitResult:
    """Fit the law, with intervals by run where runs have several rows, else by budget where the runs show budgets.

    The error of a run may fade along its checkpoints. A bootstrap of whole runs allows for that. Intervals of groups
    that share one error do not.
    """
    inputs = {"N": rows["params_total"], "D": rows["tokens_seen"]}
    runs = rows.loc[:, "run_id"]
    fit = fit_compute_law(losses, N=inputs["N"], D=inputs["D"], clusters=runs, unit=UNITS.get(unit, unit))
    if fit.has_curve and has_checkpoints(fit):
        return with_run_intervals(fit, bootstrap(fit, inputs, losses, clusters=runs), INTERVAL_LEVEL)
    return with_group_intervals(fit, inputs, losses, groups_of_budgets(inputs))
