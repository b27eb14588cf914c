"""Fit any declared law: many deterministic starts, a projected linear solve, bounded descent, and a checked status.

Only the skills of model families have another descent (`skills.descent`). Read `fit_law_many` first: it calls the
private functions in their order in the file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import (
    law_of,
    objective_of,
    require_count,
    require_inputs,
    require_level,
)
from lossline_jax.fit.data_set import DataSet, Prepared, prepare_data_set
from lossline_jax.fit.direction import wrong_way
from lossline_jax.fit.law import Law, Objective
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult, Status
from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.levenberg_marquardt import minimise
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.profile_likelihood import profile_intervals
from lossline_jax.fit.solver.search import SAME_OBJECTIVE, Found, rounding, search

INTERVALS = "intervals"  # key in `FitResult.conventions`: the method of the intervals of points that belong to runs
OPTIONS = ("objective", "fixed", "clusters", "num_starts", "level")  # keywords of `fit_law` that are not law inputs
SINGULAR = 1e10  # a condition number above it counts as singular. A choice: float64 has 16 digits
BOUND_MARGIN = 1e-6  # share of a parameter's range: a parameter this near to a bound counts as on the bound. A choice.


def fit_law(
    law: Law | str,
    y: Any,
    /,
    *,
    objective: Objective | str | None = None,
    fixed: Mapping[str, float] | None = None,
    clusters: Sequence | np.ndarray | None = None,
    num_starts: int = 32,
    level: float | None = INTERVAL_LEVEL,
    **inputs: Any,
) -> FitResult:
    """Fit a law to (n,) arrays: `fit_law("chinchilla", loss, N=params, D=tokens)`.

    Rows with a missing value are dropped and counted. The starts are a Kronecker sequence over the nonlinear
    parameters; the linear parameters are solved for (variable projection). Every start then descends by
    Levenberg-Marquardt in float64.

    Args:
        law: a law, or the name of one in `laws.LAWS`.
        y: (n,) the law's output, such as a loss.
        objective: an objective or the name of one (`OBJECTIVES`). None: the law's own.
        fixed: parameters held at given values. None: all parameters are fitted.
        clusters: (n,) label of the run of each point. The fit only counts them: its profile intervals treat points as
            independent and say so in `conventions`. `bootstrap(clusters=...)` draws whole runs. None: not known.
        num_starts: the number of starts of the search.
        level: the level of the profile intervals. None: no intervals, and only the Jacobian tells what is identified.
        inputs: (n,) one array for each input of the law, by its name.

    Raises:
        LosslineError: an input is missing or unknown, lengths differ, or a parameter cannot be held fixed.
    """
    law = law_of(law)
    require_inputs(law, inputs, OPTIONS)
    points = DataSet(inputs, y, {} if fixed is None else fixed, clusters)
    return fit_law_many(law, [points], objective=objective, num_starts=num_starts, level=level)[0]


def fit_law_many(
    law: Law | str,
    data: Sequence[DataSet],
    *,
    objective: Objective | str | None = None,
    num_starts: int = 32,
    max_iterations: int = 200,
    level: float | None = None,
    apart: bool = False,
) -> list[FitResult]:
    """Fit `law` to each of many data sets. The data sets share compiled programs; see `fit_law`.

    Args:
        law: a law, or the name of one in `laws.LAWS`.
        data: the data sets.
        objective: an objective or the name of one (`OBJECTIVES`). None: the law's own.
        num_starts: the number of starts of the search, for each data set.
        max_iterations: the largest number of steps of one descent.
        level: the level of the profile intervals. None: no intervals.
        apart: True: each result is exactly that of its data set alone. False: the search ends a start early where
            another start of the same data set has ended, which is faster.

    Returns:
        One result for each data set, in their order.
    """
    law = law_of(law)
    objective = objective_of(objective, law)
    if level is not None:
        require_level(level)
    require_count("num_starts", num_starts)
    prepared = [prepare_data_set(law, points, objective, level=level) for points in data]
    results = {k: item for k, item in enumerate(prepared) if isinstance(item, FitResult)}
    problems: dict[int, Problem] = {}
    facts: dict[int, dict[str, Any]] = {}
    for k, item in enumerate(prepared):
        if isinstance(item, Prepared):
            problems[k] = item.problem
            facts[k] = item.facts | {"num_starts": num_starts, "conventions": _conventions(item.facts, level)}
    if problems:
        found = search(list(problems.values()), num_starts, max_iterations, all_to_the_end=apart)
        minima = dict(zip(problems, found, strict=True))
        for k, minimum in minima.items():
            if not np.isfinite(minimum.objective):
                results[k] = FitResult(status="failed", note="no start gave a finite objective", **facts[k])
        finite = {k: minimum for k, minimum in minima.items() if k not in results}
        profiled = _profiled({k: problems[k] for k in finite}, finite, max_iterations, level)
        derivatives = curves_and_jacobians([problems[k] for k in profiled], [best.u_P for best in profiled.values()])
        if profiled and (law.normalise or law.scaled):  # one data set shows whether the scales of the law are right
            k, best = next(iter(profiled.items()))
            _require_inverse_scales(problems[k], best.u_P, derivatives[0][0])
        for (k, best), (curve_n, jacobian_nP) in zip(profiled.items(), derivatives, strict=True):
            facts_of_fit = facts[k] | {"share_of_starts": minima[k].share_of_starts}
            results[k] = _result(problems[k], best, (curve_n, jacobian_nP), facts_of_fit)
    return [results[k] for k in range(len(data))]


def _require_inverse_scales(problem: Problem, u_P: np.ndarray, curve_n: np.ndarray) -> None:
    """Refuse a law whose parameters, after the inputs are no longer normalised, do not give the fitted curve."""
    law = problem.law
    raw_curve_n = law(problem.natural(u_P), problem.raw_inputs())
    if not np.allclose(raw_curve_n, curve_n, rtol=1e-6, atol=1e-9 * np.ptp(curve_n), equal_nan=True):
        raise LosslineError(
            f"{law.name}: the parameters on {', '.join(law.normalise)} do not give the curve that was fitted on "
            "divided values; give each parameter that depends on their unit its `scale`, or leave `normalise` out"
        )


def _conventions(facts: Mapping[str, Any], level: float | None) -> dict[str, str]:
    """Return the conventions of a fit, with the warning on profile intervals of points that belong to runs."""
    if level is None or facts["num_runs"] is None or facts["num_runs"] == facts["num_points"]:
        return facts["conventions"]
    kind = f"{level:.0%} profile likelihood, which takes the points of one run for independent: too narrow"
    return facts["conventions"] | {INTERVALS: kind}


def fitted_facts(problem: Problem, curve_n: np.ndarray) -> dict[str, Any]:
    """Return the fields of a result that tell how well a curve fits, and its domain.

    Args:
        problem: the problem.
        curve_n: the fitted curve at its points.
    """
    weights_n = problem.weights_n / problem.weights_n.sum()
    variance = float(weights_n @ (problem.y_n - weights_n @ problem.y_n) ** 2)
    squared_error = float(weights_n @ (problem.y_n - curve_n) ** 2)
    return {
        "rmse": float(np.sqrt(squared_error)),
        "r_squared": 1 - squared_error / variance if variance > 0 else None,
        "domain": {
            name: (float(v.min() * problem.scales[name]), float(v.max() * problem.scales[name]))
            for name, v in problem.inputs.items()
        },
    }


@dataclass(frozen=True)
class _ProfiledMinimum:
    """The best minimum of a problem, with its profile intervals."""

    u_P: np.ndarray
    objective: float
    converged: bool
    intervals: dict[str, tuple[float, float]]
    reached: tuple[str, ...]  # names of the parameters whose interval reaches a bound


def _profiled(
    problems: Mapping[int, Problem], minima: Mapping[int, Found], max_iterations: int, level: float | None
) -> dict[int, _ProfiledMinimum]:
    """Profile the minima of all problems that have more points than free parameters."""
    profiled = {k: _ProfiledMinimum(found.u_P, found.objective, found.converged, {}, ()) for k, found in minima.items()}
    waiting = [k for k, problem in problems.items() if level is not None and problem.num_points > problem.num_free]
    for _ in range(3):  # a profile may meet a lower minimum than every start; then the profile is made again
        if level is None or not waiting:
            return profiled
        starts = [(profiled[k].u_P, profiled[k].objective) for k in waiting]
        profiles = profile_intervals([problems[k] for k in waiting], starts, level)
        again = []
        for k, profile in zip(waiting, profiles, strict=True):
            best = replace(profiled[k], intervals=profile.intervals, reached=profile.reached)
            if best.objective - profile.met_objective > SAME_OBJECTIVE * best.objective + rounding(problems[k]):
                lower = minimise(problems[k], profile.met_P[None], max_iterations=max_iterations)
                u_P, objective, converged = lower.u_BP[0], float(lower.objective_B[0]), bool(lower.converged_B[0])
                best = replace(best, u_P=u_P, objective=objective, converged=converged)
                again.append(k)
            profiled[k] = best
        waiting = again
    return profiled | {k: replace(profiled[k], converged=False) for k in waiting}


def _result(
    problem: Problem, best: _ProfiledMinimum, derivatives: tuple[np.ndarray, np.ndarray], facts: dict[str, Any]
) -> FitResult:
    """Build the result of a fit from its minimum, the curve and Jacobian at the minimum, and the other fields."""
    curve_n, jacobian_nP = derivatives
    condition = _condition_number(jacobian_nP[:, problem.free_P])
    status, note, bounds_hit, not_identified = _judge(problem, best, condition)
    return FitResult(
        status=status,
        note=note,
        parameters=problem.natural(best.u_P),
        intervals=best.intervals,
        not_identified=not_identified,
        bounds_hit=bounds_hit,
        objective=best.objective,
        condition_number=condition,
        **fitted_facts(problem, curve_n),
        **facts,
    )


def _condition_number(jacobian_nP: np.ndarray) -> float | None:
    """Return the condition number of the Jacobian with columns of length 1. None: it is not finite."""
    lengths = np.linalg.norm(jacobian_nP, axis=0)
    if not np.all(np.isfinite(jacobian_nP)) or np.any(lengths == 0):
        return None
    condition = float(np.linalg.cond(jacobian_nP / lengths))
    return condition if np.isfinite(condition) else None


def _judge(
    problem: Problem, best: _ProfiledMinimum, condition: float | None
) -> tuple[Status, str, tuple[str, ...], tuple[str, ...]]:
    """Return the status, the note, the parameters on a bound and the parameters that are not identified."""
    range_P = problem.upper_P - problem.lower_P
    distance_P = np.minimum(best.u_P - problem.lower_P, problem.upper_P - best.u_P)
    on_bound_P = problem.free_P & (distance_P <= BOUND_MARGIN * range_P)
    on_bound = tuple(name for name, is_on in zip(problem.law.names, on_bound_P, strict=True) if is_on)
    reached = best.reached
    wide = [n for n in reached if n not in on_bound or _is_over_half_the_range(problem, n, best.intervals[n])]
    is_exact = problem.num_points == problem.num_free
    is_singular = condition is None or condition > SINGULAR
    status: Status = "converged"
    if on_bound:
        status = "bound hit"
    if is_exact or is_singular or wide:
        status = "not identified"
    if not best.converged:
        status = "iteration cap"
    smallest = float(problem.y_n.min())
    too_high = [
        p.name
        for p, u in zip(problem.law.parameters, best.u_P, strict=True)
        if p.below == problem.law.output and u > smallest and p.name not in problem.fixed
    ]
    notes = {
        f"{', '.join(too_high)} lies above the smallest {problem.law.output} of the data": too_high,
        "the best start was still going down at the iteration cap": not best.converged,
        f"{', '.join(on_bound)} ended on a bound": on_bound,
        "as many points as free parameters: nothing is left to judge the fit by": is_exact,
        f"the interval of {', '.join(reached)} reaches a bound: compare curves, not parameters": reached,
        "the Jacobian is numerically singular: compare curves, not parameters": is_singular and not reached,
        wrong_way(problem.law, problem.inputs, problem.y_n): True,
    }
    note = "; ".join(text for text, applies in notes.items() if text and applies)
    free = tuple(name for name, is_free in zip(problem.law.names, problem.free_P, strict=True) if is_free)
    return status, note, on_bound, free if is_exact else reached


def _is_over_half_the_range(problem: Problem, name: str, interval: tuple[float, float]) -> bool:
    """Tell whether an interval is longer than half the range of its parameter, in search coordinates."""
    k = problem.law.names.index(name)
    low, high = np.log(interval) if problem.law.parameters[k].log else interval
    return bool(high - low > 0.5 * (problem.upper_P[k] - problem.lower_P[k]))
