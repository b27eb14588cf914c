"""Fit any declared law: many deterministic starts, a projected linear solve, bounded descent, an honest status.

Only the skills of model families have a descent of their own (`skills.descent`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossline_jax.fit.arguments import (
    clean_arrays,
    law_of,
    objective_of,
    require_count,
    require_inputs,
    require_level,
    run_labels,
)
from lossline_jax.fit.direction import wrong_way
from lossline_jax.fit.law import Law, Objective, in_range
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult, Status
from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.levenberg_marquardt import minimise
from lossline_jax.fit.solver.problem import Problem, build_problem
from lossline_jax.fit.solver.profile_likelihood import profile_intervals
from lossline_jax.fit.solver.search import SAME_OBJECTIVE, Found, rounding, search

INTERVALS = "intervals"  # convention: how they were come by, where points belong to runs
OPTIONS = ("objective", "fixed", "clusters", "num_starts", "level")  # of `fit_law`, beside the inputs of the law
SINGULAR = 1e10  # condition number above which the Jacobian counts as singular


@dataclass(frozen=True, eq=False)
class DataSet:
    """One data set to fit: (n,) arrays, parameters held at given values, the run of each point."""

    inputs: Mapping[str, Any]
    y: Any
    fixed: Mapping[str, float] = field(default_factory=dict)
    clusters: Sequence | None = None  # counted here; intervals that draw whole runs are those of `bootstrap`
    weights: Any = None  # of each point in the sum of the loss, in rmse and in r_squared; None: 1
    conventions: Mapping[str, str] = field(default_factory=dict)


def fit_law(
    law: Law | str,
    y: Any,
    /,
    *,
    objective: Objective | str | None = None,
    fixed: Mapping[str, float] | None = None,
    clusters: Sequence | None = None,
    num_starts: int = 32,
    level: float | None = INTERVAL_LEVEL,
    **inputs: Any,
) -> FitResult:
    """Fit a law to (n,) arrays: `fit_law("chinchilla", loss, N=params, D=tokens)`.

    Rows with a missing value are dropped and counted. Starts are a Kronecker sequence over the nonlinear parameters
    with the linear ones solved for (variable projection). Every start goes down by Levenberg-Marquardt in float64.

    Args:
        law: a law, or the name of one in `laws.LAWS`.
        y: (n,) the law's output, such as a loss.
        objective: an objective or the name of one (`OBJECTIVES`); None: the law's own.
        fixed: parameters held at given values.
        clusters: (n,) labels of the run that each point comes from. They are counted; the profile intervals take points
            for independent and say so in `conventions`. Those of `bootstrap(clusters=...)` draw whole runs.
        num_starts: starts of the search.
        level: of the profile intervals; None: none, and only the Jacobian tells what is identified.
        inputs: (n,) one array for each input of the law, by its name.

    Raises:
        LosslineError: an input is missing or unknown, lengths differ, or a parameter cannot be held fixed.
    """
    law = law_of(law)
    require_inputs(law, inputs, OPTIONS)
    points = DataSet(inputs, y, {} if fixed is None else fixed, clusters)
    return fit_law_many(law, [points], objective=objective, num_starts=num_starts, level=level)[0]


def fit_law_many(
    law: Law,
    data: Sequence[DataSet],
    *,
    objective: Objective | None = None,
    num_starts: int = 32,
    max_iterations: int = 200,
    level: float | None = None,
) -> list[FitResult]:
    """Fit `law` to each of many data sets, all in one compiled call after the other; see `fit_law`."""
    law = law_of(law)
    objective = objective_of(objective, law)
    if level is not None:
        require_level(level)
    require_count("num_starts", num_starts)
    prepared = [_prepare(law, points, objective, num_starts, level) for points in data]
    problems = {k: problem for k, (problem, _) in enumerate(prepared) if isinstance(problem, Problem)}
    results = {k: problem for k, (problem, _) in enumerate(prepared) if not isinstance(problem, Problem)}
    if problems:
        minima = dict(zip(problems, search(list(problems.values()), num_starts, max_iterations), strict=True))
        ends = {}
        for k, minimum in minima.items():
            if np.isfinite(minimum.objective):
                ends[k] = _profiled(problems[k], minimum, max_iterations, prepared[k][1]["interval_level"])
            else:
                results[k] = FitResult(status="failed", note="no start gave a finite objective", **prepared[k][1])
        shapes = curves_and_jacobians([problems[k] for k in ends], [end.u_P for end in ends.values()])
        for (k, end), (curve, jacobian) in zip(ends.items(), shapes, strict=True):
            results[k] = _result(problems[k], end, minima[k].share_of_starts, curve, jacobian, prepared[k][1])
    return [results[k] for k in range(len(data))]


def _prepare(
    law: Law, points: DataSet, objective: Objective, num_starts: int, level
) -> tuple[Problem | FitResult, dict]:
    """The problem, or the result of one that cannot be posed; and what the result has in any case."""
    data, keep = clean_arrays(law, points.inputs, points.y, points.fixed)
    fixed = dict(points.fixed)
    runs = run_labels(points.clusters, keep.size)
    labels = None if runs is None else runs[keep]
    common = {
        "law": law.name,
        "objective_name": objective.name,
        "delta": objective.delta,
        "minimised": objective,
        "num_points": int(keep.sum()),
        "num_dropped": int((~keep).sum()),
        "num_runs": None if labels is None else len(set(labels.tolist())),
        "fixed": fixed,
        "interval_level": level,
        "conventions": dict(points.conventions),
    }
    if level is not None and labels is not None and common["num_runs"] < common["num_points"]:
        convention = f"{level:.0%} profile likelihood, which takes the points of one run for independent: too narrow"
        common["conventions"][INTERVALS] = convention
    num_free = len(law.parameters) - len(fixed)
    if common["num_points"] < num_free:
        note = f"{common['num_points']} points for {num_free} free parameters"
        return FitResult(status="too few points", note=note, num_starts=0, **common), common
    if objective.logarithmic and not np.all(data[law.output] > fixed.get(objective.offset, 0.0)):
        note = f"{law.output} must be above {objective.offset or 0} for {objective.name}"
        return FitResult(status="failed", note=note, num_starts=0, **common), common
    for name, span in law.ranges.items():
        outside = data[name][~in_range(span, data[name])]
        if outside.size:
            note = f"{name} is {outside[0]:g} at {outside.size} of {keep.size} points, outside {span}"
            note = f"{note} ({law.inputs[name]}); leave these rows out, or convert the column"
            return FitResult(status="failed", note=note, num_starts=0, **common), common
    weights = None if points.weights is None else np.asarray(points.weights, float)[keep]
    problem = build_problem(law, {name: data[name] for name in law.inputs}, data[law.output], objective, fixed, weights)
    if np.any(problem.lower_P > problem.upper_P):
        short = [n for n, bad in zip(law.names, problem.lower_P > problem.upper_P, strict=True) if bad]
        note = f"no room for {', '.join(short)}: the data come down to its lower bound"
        return FitResult(status="failed", note=note, num_starts=0, **common), common
    common["num_starts"] = num_starts
    return problem, common


@dataclass(frozen=True)
class _End:
    """The best place found, with its profile."""

    u_P: np.ndarray
    objective: float
    converged: bool
    intervals: dict[str, tuple[float, float]]
    reached: tuple[str, ...]


def _profiled(problem: Problem, minimum: Found, max_iterations: int, level: float | None) -> _End:
    u, objective, converged = minimum.u_P, minimum.objective, minimum.converged
    if level is None or problem.num_points <= problem.num_free:
        return _End(u, objective, converged, {}, ())
    for _ in range(3):  # again where the profile met a lower minimum than every start
        profile = profile_intervals(problem, u, objective, level)
        if objective - profile.met_objective <= SAME_OBJECTIVE * objective + rounding(problem):
            return _End(u, objective, converged, profile.intervals, profile.reached)
        again = minimise(problem, profile.met_P[None], max_iterations=max_iterations)
        u, objective, converged = again.u_BP[0], float(again.objective_B[0]), bool(again.converged_B[0])
    return _End(u, objective, False, profile.intervals, profile.reached)


def _result(problem: Problem, end: _End, share_of_starts: float, curve_n, jacobian_nP, common: dict) -> FitResult:
    condition = _condition_number(jacobian_nP[:, problem.free_P])
    status, note, bounds_hit, unsure = _judge(problem, end, condition)
    residuals = problem.y_n - curve_n
    weights = problem.weights_n / problem.weights_n.sum()
    spread = float(weights @ (problem.y_n - weights @ problem.y_n) ** 2)
    error = float(weights @ residuals**2)
    return FitResult(
        status=status,
        note=note,
        parameters=problem.natural(end.u_P),
        intervals=end.intervals,
        not_identified=unsure,
        bounds_hit=bounds_hit,
        objective=end.objective,
        rmse=float(np.sqrt(error)),
        r_squared=1 - error / spread if spread > 0 else None,
        share_of_starts=share_of_starts,
        condition_number=condition,
        domain={
            name: (float(v.min() * problem.scales[name]), float(v.max() * problem.scales[name]))
            for name, v in problem.inputs.items()
        },
        **common,
    )


def _condition_number(jacobian_nP: np.ndarray) -> float | None:
    lengths = np.linalg.norm(jacobian_nP, axis=0)
    if not np.all(np.isfinite(jacobian_nP)) or np.any(lengths == 0):
        return None
    condition = float(np.linalg.cond(jacobian_nP / lengths))
    return condition if np.isfinite(condition) else None


def _judge(problem: Problem, end: _End, condition: float | None):
    """(status, note, parameters on a bound, parameters not identified)."""
    width, intervals, reached = problem.upper_P - problem.lower_P, end.intervals, end.reached
    near = problem.free_P & (np.minimum(end.u_P - problem.lower_P, problem.upper_P - end.u_P) <= 1e-6 * width)
    hit = tuple(name for name, on in zip(problem.law.names, near, strict=True) if on)
    exact = problem.num_points == problem.num_free
    singular = condition is None or condition > SINGULAR
    loose = [name for name in reached if name not in hit or _half_the_range(problem, name, intervals[name])]
    status: Status = "converged"
    if hit:
        status = "bound hit"
    if exact or singular or loose:
        status = "not identified"
    if not end.converged:
        status = "iteration cap"
    smallest = float(problem.y_n.min())
    high = [
        p.name
        for p, u in zip(problem.law.parameters, end.u_P, strict=True)
        if p.below == problem.law.output and u > smallest and p.name not in problem.fixed
    ]
    notes = {
        f"{', '.join(high)} lies above the smallest {problem.law.output} of the data": high,
        "the best start was still going down at the iteration cap": not end.converged,
        f"{', '.join(hit)} ended on a bound": hit,
        "as many points as free parameters: nothing is left to judge the fit by": exact,
        f"the interval of {', '.join(reached)} reaches a bound: compare curves, not parameters": reached,
        "the Jacobian is numerically singular: compare curves, not parameters": singular and not reached,
    }
    if against := wrong_way(problem.law, problem.inputs, problem.y_n):
        notes[against] = True
    unsure = tuple(n for n, free in zip(problem.law.names, problem.free_P, strict=True) if free) if exact else reached
    return status, "; ".join(text for text, true in notes.items() if true), hit, unsure


def _half_the_range(problem: Problem, name: str, interval: tuple[float, float]) -> bool:
    k = problem.law.names.index(name)
    low, high = np.log(interval) if problem.law.parameters[k].log else interval
    return bool(high - low > 0.5 * (problem.upper_P[k] - problem.lower_P[k]))
