"""Intervals of a fit whose rows stand in groups, such as compute budgets, and may share errors within a group.

Plain profile intervals take the rows for independent, with errors of one size. `with_group_intervals` tests both on the
residuals. Where they do not hold, it profiles again with the noise that `solver.grouped_noise` estimates.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.arguments import clean_arrays, require_level, run_labels
from lossline_jax.fit.budgets import MIN_GROUPS, apparent_runs, budgets_of
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.grouped_noise import GroupedNoise, estimate_noise
from lossline_jax.fit.solver.noise_limits import allowed_rises
from lossline_jax.fit.solver.problem import Problem, build_problem
from lossline_jax.fit.solver.profile_likelihood import profile_intervals

BUDGETS, APPARENT_RUNS, RUNS = "budgets", "apparent runs", "runs"
SIZE_AND_TOKENS = ("N", "D")  # inputs whose product is the compute of a row


@dataclass(frozen=True, eq=False)
class RowGroups:
    """The groups of rows that may share an error."""

    labels: np.ndarray  # (n,) the group of each row
    kind: str  # BUDGETS, APPARENT_RUNS or RUNS
    log_budget: np.ndarray | None = None  # (n,) None: the size of the noise is not taken for a function of the budget
    named: bool = False  # the user named the groups: what their rows share is estimated whatever the test says


def groups_of_rows(inputs: Mapping[str, Any], budget: Any = None) -> RowGroups | None:
    """Return the groups that a design shows, or None.

    Args:
        inputs: (n,) arrays by input name, in the order of the table.
        budget: (n,) the budget of each row. None: the rows of equal N D, or else rows that look like checkpoints.
    """
    if budget is not None:
        return RowGroups(np.asarray(budget), BUDGETS, _logarithm(budget), named=True)
    if not set(SIZE_AND_TOKENS) <= set(inputs):
        return None
    if (budgets := groups_of_budgets(inputs)) is not None:
        return budgets
    labels = apparent_runs(*(np.asarray(inputs[name], float) for name in SIZE_AND_TOKENS))
    return None if labels is None else RowGroups(labels, APPARENT_RUNS)


def groups_of_budgets(inputs: Mapping[str, Any]) -> RowGroups | None:
    """Return the compute budgets that a design shows, or None. Each row is a run, so no rows look like checkpoints.

    Args:
        inputs: (n,) arrays by input name, with N and D.
    """
    size, tokens = (np.asarray(inputs[name], float) for name in SIZE_AND_TOKENS)
    labels = budgets_of(size, tokens)
    return None if labels is None else RowGroups(labels, BUDGETS, _logarithm(size * tokens))


def intervals_by_budget(
    fit: FitResult,
    inputs: Mapping[str, Any],
    y: Any,
    budgets: Sequence | np.ndarray,
    *,
    weights: Any = None,
    law: Law | None = None,
) -> FitResult:
    """Return a fit with intervals for rows that may share an error within a budget: `budgets_of(N, D)` names budgets.

    The intervals are profile likelihood intervals. The rise of the objective that they allow has the variance of errors
    that are shared within budgets and whose size changes with the budget, as the residuals show them.

    Args:
        fit: a fit with intervals.
        inputs: (n,) arrays by input name, as they were fitted.
        y: (n,) outputs in the order of the inputs.
        budgets: (n,) the budget of each row, as numbers or names. Numbers order the budgets.
        weights: (n,) the weight of each row in the fit. None: all weights are 1.
        law: the law of the fit, needed if it is not in `laws.LAWS`. None: the declared law of that name.

    Raises:
        ArgumentError: the number of labels is not the number of rows, or there are fewer than five budgets.
        LosslineError: the fit has no intervals.
    """
    if not fit.intervals:
        raise LosslineError(f"{fit.law}: the fit has no intervals ({fit.status}); fit with a level first")
    labels = run_labels(budgets, np.size(y))
    if labels is None or np.unique(labels).size < MIN_GROUPS:
        raise ArgumentError(
            "{budgets}: an error that the rows of a budget share needs {least} budgets; give the budget of each row",
            least=MIN_GROUPS,
        )
    groups = RowGroups(labels, BUDGETS, _logarithm(budgets), named=True)
    require_level(fit.interval_level)
    return with_group_intervals(fit, inputs, y, groups, weights=weights, law=law)


def with_group_intervals(
    fit: FitResult,
    inputs: Mapping[str, Any],
    y: Any,
    groups: RowGroups | None,
    *,
    weights: Any = None,
    law: Law | None = None,
) -> FitResult:
    """Return a fit whose intervals hold if rows of a group share an error, and whose conventions name their kind.

    Args:
        fit: a fit with profile intervals. A fit without intervals is returned as it is.
        inputs: (n,) arrays by input name, as they were fitted.
        y: (n,) outputs in the order of the inputs.
        groups: the groups of the rows. None: the design shows none.
        weights: (n,) the weight of each row in the fit. None: all weights are 1.
        law: see `intervals_by_budget`.

    """
    level = fit.interval_level
    if not fit.intervals or level is None or fit.minimised is None:
        return fit
    independent = f"{level:.0%}, profile likelihood of independent rows"
    if groups is None:
        return _with_kind(fit, independent)
    law = find_law(fit.law, law)
    data, keep = clean_arrays(law, inputs, y, fit.fixed)
    group_n = np.unique(groups.labels[keep].astype(str), return_inverse=True)[1]
    num_groups = int(group_n.max()) + 1
    if num_groups < MIN_GROUPS:
        purpose = "tell what their rows share" if groups.named else "test them"
        return _with_kind(fit, f"{independent} ({num_groups} {groups.kind} are too few to {purpose})")
    output = data.pop(law.output)
    kept_weights = None if weights is None else np.asarray(weights, float)[keep]
    problem = build_problem(law, data, output, fit.minimised, fixed=fit.fixed, weights=kept_weights)
    u_P = problem.search(fit.parameters)
    log_budget = None if groups.log_budget is None else groups.log_budget[keep]
    residual_n, jacobian_nP = problem.residuals(u_P[None])[0], _free_jacobian(problem, u_P)
    noise = estimate_noise(residual_n, jacobian_nP, group_n, log_budget, always=groups.named)
    if noise is None:
        return _with_kind(fit, f"{independent} (too few rows to test them within {groups.kind})")
    if noise.is_independent:
        named = f"the rows of the {num_groups} named {groups.kind} share no error"
        return _with_kind(
            fit, f"{independent} ({named if groups.named else f'tested within {num_groups} {groups.kind}'})"
        )
    return _profiled_again(fit, problem, noise, groups.kind)


def _profiled_again(fit: FitResult, problem: Problem, noise: GroupedNoise, kind_of_groups: str) -> FitResult:
    """Return the fit with intervals for the grouped noise, their kind, and a note on what the residuals show."""
    level, objective = fit.interval_level, fit.objective
    assert level is not None
    assert objective is not None  # a fit with intervals has both
    u_P = problem.search(fit.parameters)

    def limits(problem: Problem, u_P: np.ndarray, level: float) -> np.ndarray:
        limit_P = np.full(u_P.size, np.inf)  # a parameter that is held has no interval
        limit_P[problem.free_P], _ = allowed_rises(
            noise, _free_jacobian(problem, u_P), problem.weights_n, delta=problem.objective.delta, level=level
        )
        return limit_P

    profile = profile_intervals([problem], [(u_P, objective)], level, limits=limits)[0]
    kind = f"{level:.0%}, profile likelihood by {int(noise.group_n.max()) + 1} {kind_of_groups}"
    fit = _with_kind(fit, kind).with_note(note_on_noise(noise, kind_of_groups, relative=problem.objective.logarithmic))
    open_ended = tuple(name for name in profile.reached if name not in fit.bounds_hit)
    if open_ended and fit.status in ("converged", "bound hit"):
        note = f"the interval of {', '.join(open_ended)} reaches a bound: compare curves, not parameters"
        fit = dataclasses.replace(fit, status="not identified", not_identified=open_ended).with_note(note)
    return dataclasses.replace(fit, intervals=profile.intervals)


def _free_jacobian(problem: Problem, u_P: np.ndarray) -> np.ndarray:
    """Return the derivatives of the residuals by the free parameters, (n, free parameters)."""
    return curves_and_jacobians([problem], [u_P])[0][1][:, problem.free_P]


def note_on_noise(noise: GroupedNoise, kind: str, *, relative: bool) -> str:
    """Return what the residuals show, in words.

    Args:
        noise: the noise of the rows.
        kind: the kind of the groups.
        relative: the noise is a share of the output.
    """
    parts = []
    if noise.shared > 0:
        follow = "rows that follow each other with one N and growing D"
        rows = {
            BUDGETS: "rows of one budget",
            RUNS: "rows of one run",
            APPARENT_RUNS: follow,
        }[kind]
        parts.append(f"{rows} share {noise.shared:.0%} of their error variance (p {noise.p_shared:.2g})")
    if noise.differs:
        first, last = noise.ends
        ends = f", {first:.2%} to {last:.2%}" if relative else f", {first:.2g} to {last:.2g}"
        word = "changes" if noise.num_blocks > 1 else "falls" if last < first else "rises"
        text = f"the noise {word} with the budget{'' if noise.num_blocks > 1 else ends}"
        parts.append(f"{text} (p {noise.p_differs:.2g})")
    note = f"{' and '.join(parts)}; the intervals allow for it"
    return note if kind != APPARENT_RUNS else f"{note}; if a run has several rows, name the column of the runs"


def _with_kind(fit: FitResult, kind: str) -> FitResult:
    return dataclasses.replace(fit, conventions=fit.conventions | {INTERVALS: kind})


def _logarithm(budgets: Any) -> np.ndarray | None:
    """Return the logarithms of positive numbers, or None for values of another kind."""
    try:
        numbers = np.asarray(budgets, float)
    except (TypeError, ValueError):
        return None
    return np.log(numbers) if np.all(np.isfinite(numbers) & (numbers > 0)) else None
