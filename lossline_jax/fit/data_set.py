"""A data set that a law is fitted to, and the problem that it gives, or the reason why it gives none."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lossline_jax.fit.arguments import clean_arrays, run_labels
from lossline_jax.fit.law import Law, Objective, in_range
from lossline_jax.fit.result import FitResult, Status
from lossline_jax.fit.solver.problem import Problem, build_problem


@dataclass(frozen=True, eq=False)
class DataSet:
    """A data set that can be fitted: (n,) arrays, parameters held at given values, and the run of each point."""

    inputs: Mapping[str, Any]  # (n,) arrays by input name
    y: Any  # (n,)
    fixed: Mapping[str, float] = field(default_factory=dict)
    # (n,) run labels. The fit only counts them; `bootstrap` draws whole runs for its intervals. None: not known.
    clusters: Sequence | np.ndarray | None = None
    weights: Any = None  # (n,) weight of each point in the objective, rmse and r_squared. None: all weights are 1
    conventions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A data set that can be fitted."""

    problem: Problem
    keep: np.ndarray  # (rows,) True for the rows that are fitted
    facts: dict[str, Any]  # fields of its result that are known before the fit


def facts_of_points(law: Law, objective: Objective, keep: np.ndarray, runs: np.ndarray | None) -> dict[str, Any]:
    """Return the fields of a `FitResult` that say which points were fitted, and by which objective.

    Args:
        law: the law.
        objective: the objective.
        keep: (n,) mask of the points that were fitted.
        runs: (n,) the run of each point. None: not known.
    """
    return {
        "law": law.name,
        "objective_name": objective.name,
        "delta": objective.delta,
        "minimised": objective,
        "num_points": int(keep.sum()),
        "num_dropped": int((~keep).sum()),
        "num_runs": None if runs is None else len(set(runs[keep].tolist())),
    }


def prepare_data_set(
    law: Law, points: DataSet, objective: Objective, *, level: float | None, shared: tuple[str, ...] = ()
) -> Prepared | FitResult:
    """Build the problem of one data set, or the result of a data set that cannot be fitted.

    Args:
        law: the law.
        points: the data set.
        objective: the objective.
        level: the level of the intervals. None: no intervals.
        shared: parameters that several data sets fit together. They are not counted as free parameters of this one.
    """
    data, keep = clean_arrays(law, points.inputs, points.y, points.fixed)
    fixed = dict(points.fixed)
    facts = facts_of_points(law, objective, keep, run_labels(points.clusters, keep.size)) | {
        "fixed": fixed,
        "shared": shared,
        "interval_level": level,
        "conventions": dict(points.conventions),
    }

    def refused(status: Status, note: str) -> FitResult:
        return FitResult(status=status, note=note, num_starts=0, **facts)

    num_free = len(law.parameters) - len(fixed) - len(shared)
    if facts["num_points"] < max(num_free, 1):
        own = " of its own" if shared else ""
        return refused("too few points", f"{facts['num_points']} points for {num_free} free parameters{own}")
    output = data[law.output]
    if law.predicts_losses and np.any(output <= 0):
        what = f"{np.sum(output <= 0)} of {output.size} values of {law.output} are not above 0"
        return refused("failed", f"{what} (the smallest is {output.min():g}); losses are positive numbers")
    offset = fixed.get(objective.offset, 0.0) if objective.offset else 0.0
    if objective.logarithmic and not np.all(data[law.output] > offset):
        return refused("failed", f"{law.output} must be above {objective.offset or 0} for {objective.name}")
    for name, span in law.ranges.items():
        outside = data[name][~in_range(span, data[name])]
        if outside.size:
            note = f"{name} is {outside[0]:g} at {outside.size} of {keep.size} points, outside {span}"
            return refused("failed", f"{note} ({law.inputs[name]}); leave these rows out, or convert the column")
    weights = None if points.weights is None else np.asarray(points.weights, float)[keep]
    inputs = {name: data[name] for name in law.inputs}
    problem = build_problem(law, inputs, data[law.output], objective, fixed=fixed, weights=weights)
    if np.any(problem.lower_P > problem.upper_P):
        impossible = [name for name, bad in zip(law.names, problem.lower_P > problem.upper_P, strict=True) if bad]
        return refused("failed", f"no room for {', '.join(impossible)}: the data come down to its lower bound")
    return Prepared(problem, keep, facts)
