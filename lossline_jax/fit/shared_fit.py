"""Fit one law to several data sets that share the values of some parameters. Read `fit_law_sharing` first."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.errors import ArgumentError, suggestion
from lossline_jax.fit.arguments import clean_arrays, law_of, objective_of, require_count, require_level, run_labels
from lossline_jax.fit.budgets import MIN_GROUPS
from lossline_jax.fit.group_intervals import RowGroups, note_on_noise
from lossline_jax.fit.law import Law, Objective, in_range
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult, Status
from lossline_jax.fit.solve import BOUND_MARGIN, INTERVALS, DataSet
from lossline_jax.fit.solver.grouped_noise import GroupedNoise, allowed_rises, estimate_noise, independent_noise
from lossline_jax.fit.solver.joint import JointProblem, evaluate, minimise_jointly
from lossline_jax.fit.solver.joint_profile import JointProfile, Stacked, joint_profile, stack
from lossline_jax.fit.solver.problem import Problem, build_problem
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
    prepared = [_prepare(law, points, objective, tuple(shared), level=level) for points in data]
    results = {k: item for k, item in enumerate(prepared) if isinstance(item, FitResult)}
    usable = {k: item for k, item in enumerate(prepared) if isinstance(item, _Member)}
    if usable:
        row_groups = [_kept(groups[k], member) for k, member in usable.items()]
        fits = _fit_members(law, list(usable.values()), tuple(shared), num_starts, level=level, groups=row_groups)
        results |= dict(zip(usable, fits, strict=True))
    return [results[k] for k in range(len(data))]


def require_fixed(law: Law, fixed: Mapping[str, float]) -> None:
    """Raise ArgumentError unless all parameters can be held at the given values.

    Args:
        law: the law that is fitted.
        fixed: parameters held at given values.
    """
    for name, value in fixed.items():
        if name not in law.names:
            hint, known = suggestion(name, law.names), ", ".join(law.names)
            raise ArgumentError(
                "{fixed}: {law} has no parameter {name!r}{hint}; its parameters are {known}",
                law=law.name, name=name, hint=hint, known=known,
            )  # fmt: skip
        if name in law.scaled:
            free = ", ".join(free for free in law.names if free not in law.scaled)
            raise ArgumentError(
                "{fixed}: {name} of {law} depends on the unit of its inputs and cannot be held; choose among {free}",
                name=name, law=law.name, free=free,
            )  # fmt: skip
        p = law.parameters[law.names.index(name)]
        if not (np.isfinite(value) and p.lower <= value <= p.upper):
            raise ArgumentError(
                "{fixed}: {name} is held at {value:g}, outside its range from {lower:g} to {upper:g}",
                name=name, value=value, lower=p.lower, upper=p.upper,
            )  # fmt: skip


def require_shared(law: Law, shared: Sequence[str], fixed: Mapping[str, float]) -> None:
    """Raise ArgumentError unless all shared parameters are different free parameters of the law.

    Args:
        law: the law that is fitted.
        shared: names of the shared parameters.
        fixed: the parameters that are held.
    """
    for number, name in enumerate(shared):
        if name not in law.names:
            known = ", ".join(law.names)
            hint = suggestion(name, law.names)
            raise ArgumentError(
                "{shared}: {law} has no parameter {name!r}{hint}; its parameters are {known}",
                law=law.name, name=name, hint=hint, known=known,
            )  # fmt: skip
        if name in fixed:
            raise ArgumentError(
                "{shared}: {name} is held at {value:g} by {fixed}; give only one of the two",
                name=name, value=fixed[name],
            )  # fmt: skip
        if name in shared[:number]:
            raise ArgumentError("{shared}: {name} is given twice; keep one", name=name)


@dataclass(frozen=True, eq=False)
class _Member:
    """One data set of the joint fit."""

    problem: Problem
    keep: np.ndarray  # (rows,) True for the rows that are fitted
    facts: dict[str, Any]  # fields of its result


def _prepare(
    law: Law, points: DataSet, objective: Objective, shared: tuple[str, ...], *, level: float | None
) -> _Member | FitResult:
    """Return the problem of one data set, or the result of one that cannot be fitted."""
    data, keep = clean_arrays(law, points.inputs, points.y, points.fixed)
    runs = run_labels(points.clusters, keep.size)
    facts = {
        "law": law.name,
        "objective_name": objective.name,
        "delta": objective.delta,
        "minimised": objective,
        "num_points": int(keep.sum()),
        "num_dropped": int((~keep).sum()),
        "num_runs": None if runs is None else len(set(runs[keep].tolist())),
        "fixed": dict(points.fixed),
        "shared": shared,
        "interval_level": level,
        "conventions": dict(points.conventions),
    }
    num_own = len(law.parameters) - len(points.fixed) - len(shared)
    output = data.pop(law.output)
    offset = points.fixed.get(objective.offset, 0.0) if objective.offset else 0.0
    if facts["num_points"] < max(num_own, 1):
        note = f"{facts['num_points']} points for {num_own} free parameters of its own"
        return FitResult(status="too few points", note=note, num_starts=0, **facts)
    if objective.logarithmic and not np.all(output > offset):
        note = f"{law.output} must be above {objective.offset or 0} for {objective.name}"
        return FitResult(status="failed", note=note, num_starts=0, **facts)
    for name, span in law.ranges.items():
        if np.any(~in_range(span, data[name])):
            note = f"{name} lies outside {span} ({law.inputs[name]}); leave these rows out, or convert the column"
            return FitResult(status="failed", note=note, num_starts=0, **facts)
    weights = None if points.weights is None else np.asarray(points.weights, float)[keep]
    problem = build_problem(law, data, output, objective, fixed=points.fixed, weights=weights)
    if np.any(problem.lower_P > problem.upper_P):
        note = "no room for a parameter: the data come down to its lower bound"
        return FitResult(status="failed", note=note, num_starts=0, **facts)
    return _Member(problem, keep, facts)


def _kept(groups: RowGroups | None, member: _Member) -> RowGroups | None:
    if groups is None:
        return None
    log_budget = None if groups.log_budget is None else groups.log_budget[member.keep]
    return dataclasses.replace(groups, labels=np.asarray(groups.labels)[member.keep], log_budget=log_budget)


def _fit_members(
    law: Law,
    members: list[_Member],
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
        u_GP = _on_raw_inputs(problems, raw, u_GP)
        problems = raw
    joint = JointProblem(tuple(problems), tuple(law.names.index(name) for name in shared))
    starts = _starts(joint, u_GP)
    if not set(shared) & set(law.scaled):
        starts = _searched_again(joint, starts, min(num_starts, STARTS_AGAIN))
    points, converged_L = minimise_jointly(joint, starts)
    lane = int(points.objective_L.argmin())
    near = points.objective_L <= points.objective_L[lane] * (1 + SAME_OBJECTIVE)
    minimum = _Minimum(points.u_GLP[:, lane], float(points.objective_L[lane]), bool(converged_L[lane]))
    if not np.isfinite(minimum.objective):
        note = "no start gave a finite objective"
        return [FitResult(status="failed", note=note, num_starts=num_starts, **member.facts) for member in members]
    intervals = _Intervals({}, (), "", "")
    if level is not None and sum(problem.num_points for problem in problems) > joint.num_free:
        for _ in range(NUM_PROFILES):
            intervals, lower_GP = _profiled(joint, minimum, level, groups)
            if lower_GP is None:
                break
            lower, is_converged = minimise_jointly(joint, lower_GP[:, None])
            minimum = _Minimum(lower.u_GLP[:, 0], float(lower.objective_L[0]), bool(is_converged[0]))
    facts = {"num_starts": num_starts, "share_of_starts": float(near.mean())}
    return [
        _result(joint, number, minimum, intervals, facts=member.facts | facts) for number, member in enumerate(members)
    ]


@dataclass(frozen=True, eq=False)
class _Minimum:
    u_GP: np.ndarray
    objective: float
    converged: bool


@dataclass(frozen=True, eq=False)
class _Intervals:
    """The intervals of all data sets, by (data set or -1, index of the parameter), in natural units."""

    ends: dict[tuple[int, int], tuple[float, float]]
    reached: tuple[tuple[int, int], ...]
    kind: str
    note: str


def _on_raw_inputs(problems: Sequence[Problem], raw: Sequence[Problem], u_GP: np.ndarray) -> np.ndarray:
    return np.stack([r.search(p.natural(u_P)) for p, r, u_P in zip(problems, raw, u_GP, strict=True)])


def _starts(joint: JointProblem, u_GP: np.ndarray) -> np.ndarray:
    """Return the (G, L, P) starts: the shared values of each data set alone, and their median."""
    shared, (lower, upper) = list(joint.shared), joint.bounds()
    values_Lq = np.concatenate([u_GP[:, shared], np.median(u_GP[:, shared], axis=0)[None]])
    values_Lq = np.clip(values_Lq, lower, upper)
    alone = evaluate(joint, u_GP[:, None], np.ones((*u_GP[:, None].shape,), bool))
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


def _profiled(
    joint: JointProblem, minimum: _Minimum, level: float, groups: list[RowGroups | None]
) -> tuple[_Intervals, np.ndarray | None]:
    """Return the intervals, and a point below the minimum if the profile met one."""
    law, problems = joint.problems[0].law, joint.problems
    stacked = stack(joint, minimum.u_GP)
    noise, kind, note = _noise(stacked, groups, relative=problems[0].objective.logarithmic)
    is_raw = any(law.names[k] in law.scaled for k in joint.shared)
    direct = [k for k, name in enumerate(law.names) if is_raw or name not in law.scaled]
    profiles = [_profile(joint, minimum, level=level, noise=noise, wanted=direct)]
    if scaled := [k for k in range(len(law.names)) if k not in direct]:
        raw = tuple(problem.unscaled(u_P) for problem, u_P in zip(problems, minimum.u_GP, strict=True))
        at_minimum = dataclasses.replace(minimum, u_GP=_on_raw_inputs(problems, raw, minimum.u_GP))
        raw_joint = dataclasses.replace(joint, problems=raw)
        profiles.append(_profile(raw_joint, at_minimum, level=level, noise=noise, wanted=scaled))
    ends: dict[tuple[int, int], tuple[float, float]] = {}
    for profile in profiles:
        for name, pair in profile.ends.items():
            low, high = np.exp(pair) if law.parameters[name[1]].log else pair
            ends[name] = float(low), float(high)
    first = profiles[0]
    is_lower = minimum.objective - first.met_objective > SAME_OBJECTIVE * minimum.objective
    kind = f"{level:.0%}, profile likelihood of {len(problems)} data sets together, {kind}"
    return _Intervals(ends, first.reached, kind, note), first.met_GP if is_lower else None


def _profile(
    joint: JointProblem, minimum: _Minimum, *, level: float, noise: GroupedNoise, wanted: list[int]
) -> JointProfile:
    stacked = stack(joint, minimum.u_GP)
    delta = joint.problems[0].objective.delta
    limits = allowed_rises(noise, stacked.jacobian_nK, stacked.weights_n, delta=delta, level=level)
    return joint_profile(joint, minimum.u_GP, minimum.objective, stacked=stacked, limits=limits, wanted=wanted)


def _noise(stacked: Stacked, groups: Sequence[RowGroups | None], *, relative: bool) -> tuple[GroupedNoise, str, str]:
    """Return the noise of all rows, the kind of the intervals and a note."""
    residual_n, jacobian_nK, block_n = stacked.residual_n, stacked.jacobian_nK, stacked.data_set_n
    independent = independent_noise(residual_n, jacobian_nK, block_n), "of independent rows", ""
    known = [group for group in groups if group is not None]
    if len(known) < len(groups) or len({group.kind for group in known}) != 1:
        return independent
    names = [f"{number} {label}" for number, group in enumerate(known) for label in group.labels]
    group_n = np.unique(names, return_inverse=True)[1]
    num_groups = int(group_n.max()) + 1
    if num_groups < MIN_GROUPS:
        return independent
    logs = [group.log_budget for group in known if group.log_budget is not None]
    log_budget_n = np.concatenate(logs) if len(logs) == len(known) else None
    noise = estimate_noise(
        residual_n, jacobian_nK, group_n, log_budget_n, block_n=block_n, always=all(group.named for group in known)
    )
    if noise is None or noise.is_independent:
        return independent
    kind = known[0].kind
    return noise, f"by {num_groups} {kind}", note_on_noise(noise, kind, relative=relative)


def _result(
    joint: JointProblem, number: int, minimum: _Minimum, intervals: _Intervals, *, facts: dict[str, Any]
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
    if wide:
        status = "not identified"
    if not minimum.converged:
        status = "iteration cap"
    notes = {
        "the best start was still going down at the iteration cap": not minimum.converged,
        f"{', '.join(on_bound)} ended on a bound": on_bound,
        f"the interval of {', '.join(reached)} reaches a bound: compare curves, not parameters": reached,
        intervals.note: True,
    }
    curve_n = problem.curve(u_P[None])[0]
    weights_n = problem.weights_n / problem.weights_n.sum()
    variance = float(weights_n @ (problem.y_n - weights_n @ problem.y_n) ** 2)
    squared_error = float(weights_n @ (problem.y_n - curve_n) ** 2)
    conventions = facts["conventions"] | ({INTERVALS: intervals.kind} if mine else {})
    return FitResult(
        status=status,
        note="; ".join(text for text, applies in notes.items() if text and applies),
        parameters=problem.natural(u_P),
        intervals={name: mine[name] for name in law.names if name in mine},
        not_identified=tuple(reached),
        bounds_hit=tuple(on_bound),
        objective=_own_objective(problem, u_P),
        rmse=float(np.sqrt(squared_error)),
        r_squared=1 - squared_error / variance if variance > 0 else None,
        domain={
            name: (float(v.min() * problem.scales[name]), float(v.max() * problem.scales[name]))
            for name, v in problem.inputs.items()
        },
        **facts | {"conventions": conventions},
    )


def _own_objective(problem: Problem, u_P: np.ndarray) -> float:
    """Return the part of the sum that one data set contributes."""
    size_n, delta = np.abs(problem.residuals(u_P[None])[0]), problem.objective.delta
    values_n = 0.5 * size_n**2
    if delta is not None:
        values_n = np.where(size_n <= delta, values_n, delta * (size_n - 0.5 * delta))
    return float(problem.weights_n @ values_n)
