"""Fit one law to several data sets that share the values of some parameters. Read `fit_law_sharing` first."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from lossline_jax.fit.arguments import law_of, objective_of, require_count, require_level
from lossline_jax.fit.data_set import DataSet, Prepared, prepare_data_set
from lossline_jax.fit.given_parameters import require_shared
from lossline_jax.fit.group_intervals import RowGroups
from lossline_jax.fit.law import Law, Objective
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult, Status
from lossline_jax.fit.shared_intervals import JointIntervals, JointMinimum, joint_intervals, on_raw_inputs
from lossline_jax.fit.solve import BOUND_MARGIN, INTERVALS, fitted_facts
from lossline_jax.fit.solver.joint import JointProblem, minimise_jointly, minimise_own
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.search import SAME_OBJECTIVE, search

MAX_ITERATIONS = 200  # steps of one descent
STARTS_AGAIN = 12  # starts of the search of each data set for given shared values. A choice.
NUM_PROFILES = 3  # a profile may meet a lower minimum than every start; then it is made again


def fit_law_sharing(
    law: Law | str,
    data: Sequence[DataSet],
    shared: Sequence[str],
    *,
    objective: Objective | str | None = None,
    num_starts: int = 32,
    level: float | None = INTERVAL_LEVEL,
    groups: Sequence[RowGroups | None] | None = None,
) -> list[FitResult]:
    """Fit `law` to all data sets together, with one value of each shared parameter. The sum of objectives is minimised.

    Intervals are profile likelihood intervals of the sum: one parameter is held, and all data sets are fitted again.
    Each data set has noise of its own size. Rows of a group may share an error, as in `group_intervals`.

    Args:
        law: a law, or the name of one in `laws.LAWS`.
        data: the data sets.
        shared: names of the parameters with one value in all data sets.
        objective: an objective or the name of one (`OBJECTIVES`). None: the law's own.
        num_starts: the number of starts of the search in each data set.
        level: the level of the intervals. None: no intervals.
        groups: the groups of the rows of each data set. None: all rows are independent.

    Returns:
        One result for each data set, in their order. A data set that cannot be fitted is left out of the sum.

    Raises:
        ArgumentError: a shared parameter is unknown, is named twice, or is also held fixed.
    """
    law = law_of(law)
    objective = objective_of(objective, law)
    require_count("num_starts", num_starts)
    if level is not None:
        require_level(level)
    require_shared(law, shared, data[0].fixed if data else {})
    groups = [None] * len(data) if groups is None else groups
    prepared = [prepare_data_set(law, points, objective, level=level, shared=tuple(shared)) for points in data]
    results = {k: item for k, item in enumerate(prepared) if isinstance(item, FitResult)}
    usable = {k: item for k, item in enumerate(prepared) if isinstance(item, Prepared)}
    if usable:
        row_groups = [_kept(groups[k], member) for k, member in usable.items()]
        fits = _fit_members(law, list(usable.values()), tuple(shared), num_starts, level=level, groups=row_groups)
        results |= dict(zip(usable, fits, strict=True))
    return [results[k] for k in range(len(data))]


def _kept(groups: RowGroups | None, member: Prepared) -> RowGroups | None:
    if groups is None:
        return None
    log_budget = None if groups.log_budget is None else groups.log_budget[member.keep]
    return dataclasses.replace(groups, labels=np.asarray(groups.labels)[member.keep], log_budget=log_budget)


def _fit_members(
    law: Law,
    members: list[Prepared],
    shared: tuple[str, ...],
    num_starts: int,
    *,
    level: float | None,
    groups: list[RowGroups | None],
) -> list[FitResult]:
    problems = [member.problem for member in members]
    found = search(problems, num_starts, MAX_ITERATIONS)
    u_GP = np.stack([minimum.u_P for minimum in found])
    if set(shared) & set(law.scaled):  # normalisation mixes such a parameter with others, and differs between data sets
        raw = [problem.unscaled(u_P) for problem, u_P in zip(problems, u_GP, strict=True)]
        u_GP = on_raw_inputs(problems, raw, u_GP)
        problems = raw
    joint = JointProblem(tuple(problems), tuple(law.names.index(name) for name in shared))
    num_points = sum(problem.num_points for problem in problems)
    if num_points < joint.num_free:
        note = f"all data sets together have {num_points} points for {joint.num_free} free parameters"
        return [FitResult(status="too few points", note=note, num_starts=0, **member.facts) for member in members]
    starts = _starts(joint, u_GP)
    if not set(shared) & set(law.scaled):
        starts = _searched_again(joint, starts, min(num_starts, STARTS_AGAIN))
    points, converged_L = minimise_jointly(joint, starts)
    lane = int(points.objective_L.argmin())
    near = points.objective_L <= points.objective_L[lane] * (1 + SAME_OBJECTIVE)
    minimum = JointMinimum(points.u_GLP[:, lane], float(points.objective_L[lane]), bool(converged_L[lane]))
    if not np.isfinite(minimum.objective):
        note = "no start gave a finite objective"
        return [FitResult(status="failed", note=note, num_starts=num_starts, **member.facts) for member in members]
    intervals = JointIntervals({}, (), "", "")
    if level is not None and num_points > joint.num_free:
        for _ in range(NUM_PROFILES):
            intervals, lower_GP = joint_intervals(joint, minimum, level, groups)
            if lower_GP is None:
                break
            lower, is_converged = minimise_jointly(joint, lower_GP[:, None])
            minimum = JointMinimum(lower.u_GLP[:, 0], float(lower.objective_L[0]), bool(is_converged[0]))
    facts = {"num_starts": num_starts, "share_of_starts": float(near.mean())}
    return [
        _result(joint, number, minimum, intervals, facts=member.facts | facts) for number, member in enumerate(members)
    ]


def _starts(joint: JointProblem, u_GP: np.ndarray) -> np.ndarray:
    """Return the (G, L, P) starts: the shared values of each data set alone, and their median."""
    shared, (lower, upper) = list(joint.shared), joint.bounds()
    values_Lq = np.concatenate([u_GP[:, shared], np.median(u_GP[:, shared], axis=0)[None]])
    values_Lq = np.clip(values_Lq, lower, upper)
    alone = minimise_own(joint, u_GP[:, None], np.ones((*u_GP[:, None].shape,), bool))
    moved_GLq = values_Lq[None] - u_GP[:, None, shared]
    start_GLP = u_GP[:, None] + np.einsum("gpq,glq->glp", alone.tangent_GLPq[:, 0], moved_GLq)
    start_GLP[:, :, shared] = values_Lq[None]
    return start_GLP


def _searched_again(joint: JointProblem, start_GLP: np.ndarray, num_starts: int) -> np.ndarray:
    """Return the starts with the own parameters that a search finds for their shared values.

    With a shared value far from its own, a data set may have several minima.
    """
    held = [
        _held(problem, u_P, joint.shared)
        for problem, u_LP in zip(joint.problems, start_GLP, strict=True)
        for u_P in u_LP
    ]
    found = search(held, num_starts, MAX_ITERATIONS)
    return np.stack([minimum.u_P for minimum in found]).reshape(start_GLP.shape)


def _held(problem: Problem, u_P: np.ndarray, shared: tuple[int, ...]) -> Problem:
    """Return the problem with some parameters held at their value."""
    fields = {name: getattr(problem, name).copy() for name in ("lower_P", "upper_P", "start_lower_P", "start_upper_P")}
    for bound_P in fields.values():
        bound_P[list(shared)] = u_P[list(shared)]
    free_P = problem.free_P.copy()
    free_P[list(shared)] = False
    return dataclasses.replace(problem, free_P=free_P, **fields)


def _result(
    joint: JointProblem, number: int, minimum: JointMinimum, intervals: JointIntervals, *, facts: dict[str, Any]
) -> FitResult:
    """Return the result of one data set of the joint fit."""
    problem, u_P = joint.problems[number], minimum.u_GP[number]
    law, shared = problem.law, list(joint.shared)
    lower_P, upper_P = problem.lower_P.copy(), problem.upper_P.copy()
    lower_P[shared], upper_P[shared] = joint.bounds()
    distance_P = np.minimum(u_P - lower_P, upper_P - u_P)
    on_bound = [
        law.names[k] for k in np.flatnonzero(problem.free_P & (distance_P <= BOUND_MARGIN * (upper_P - lower_P)))
    ]
    mine = {law.names[k]: pair for (g, k), pair in intervals.ends.items() if g in (-1, number)}
    reached = [law.names[k] for g, k in intervals.reached if g in (-1, number)]
    wide = [name for name in reached if name not in on_bound]
    status: Status = "bound hit" if on_bound else "converged"
    is_exact = sum(each.num_points for each in joint.problems) == joint.num_free
    if wide or is_exact:
        status = "not identified"
    if not minimum.converged:
        status = "iteration cap"
    notes = {
        "the best start was still going down at the iteration cap": not minimum.converged,
        f"{', '.join(on_bound)} ended on a bound": on_bound,
        "as many points as free parameters: nothing is left to judge the fit by": is_exact,
        f"the interval of {', '.join(reached)} reaches a bound: compare curves, not parameters": reached,
        intervals.note: True,
    }
    conventions = facts["conventions"] | ({INTERVALS: intervals.kind} if mine else {})
    return FitResult(
        status=status,
        note="; ".join(text for text, applies in notes.items() if text and applies),
        parameters=problem.natural(u_P),
        intervals={name: mine[name] for name in law.names if name in mine},
        not_identified=tuple(reached),
        bounds_hit=tuple(on_bound),
        objective=_own_objective(problem, u_P),
        **fitted_facts(problem, problem.curve(u_P[None])[0]),
        **facts | {"conventions": conventions},
    )


def _own_objective(problem: Problem, u_P: np.ndarray) -> float:
    """Return the part of the sum that one data set contributes."""
    size_n, delta = np.abs(problem.residuals(u_P[None])[0]), problem.objective.delta
    values_n = 0.5 * size_n**2
    if delta is not None:
        values_n = np.where(size_n <= delta, values_n, delta * (size_n - 0.5 * delta))
    return float(problem.weights_n @ values_n)
