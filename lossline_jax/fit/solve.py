"""The one solver: many deterministic starts, a projected linear solve, bounded descent, an honest status."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lossline_jax.errors import LosslineError
from lossline_jax.fit.curves import Law
from lossline_jax.fit.intervals import profile_intervals
from lossline_jax.fit.levenberg import minimise, polish
from lossline_jax.fit.problem import LEAST_SQUARES, Loss, Problem, build_problem
from lossline_jax.fit.result import FitResult, Status

SAME_OBJECTIVE = 1e-3  # relative: starts this close to the best have reached it
NUM_POLISHED = 3
SINGULAR = 1e10  # condition number above which the Jacobian counts as singular


def solve(
    law: Law,
    inputs: Mapping[str, Any],
    y: Any,
    *,
    loss: Loss = LEAST_SQUARES,
    fixed: Mapping[str, float] | None = None,
    clusters: Sequence | None = None,
    num_starts: int = 64,
    max_iterations: int = 200,
    level: float | None = 0.9,
    conventions: Mapping[str, str] | None = None,
) -> FitResult:
    """Fit `law` to (n,) arrays.

    Starts are a Kronecker sequence over the nonlinear parameters with the linear ones solved for (variable
    projection); every start goes down by Levenberg-Marquardt, Huber losses end with L-BFGS-B. Rows with a
    missing value are dropped and counted.

    Args:
        fixed: parameters held at given values.
        clusters: (n,) labels of the run that each point comes from; only counted here.
        level: of the profile intervals; None: none, and only the Jacobian tells what is identified.

    Raises:
        LosslineError: an input is missing, lengths differ, or a parameter cannot be held fixed.
    """
    data, keep = clean_arrays(law, inputs, y, fixed)
    labels = None if clusters is None else np.asarray(clusters)[keep]
    common = {
        "law": law.name,
        "loss": loss.name,
        "delta": loss.delta,
        "num_points": int(keep.sum()),
        "num_dropped": int((~keep).sum()),
        "num_runs": None if labels is None else len(set(labels.tolist())),
        "fixed": dict(fixed or {}),
        "interval_level": level,
        "conventions": dict(conventions or {}),
    }
    num_free = len(law.parameters) - len(fixed or {})
    if common["num_points"] < num_free:
        note = f"{common['num_points']} points for {num_free} free parameters"
        return FitResult(status="too few points", note=note, num_starts=0, **common)
    if loss.logarithmic and not np.all(data[law.output] > (fixed or {}).get(loss.offset, 0.0)):
        note = f"{law.output} must be above {loss.offset or 0} for {loss.name}"
        return FitResult(status="failed", note=note, num_starts=0, **common)
    problem = build_problem(law, {name: data[name] for name in law.inputs}, data[law.output], loss, fixed)
    if np.any(problem.lower_P > problem.upper_P):
        short = [n for n, bad in zip(law.names, problem.lower_P > problem.upper_P, strict=True) if bad]
        note = f"no room for {', '.join(short)}: the data come down to its lower bound"
        return FitResult(status="failed", note=note, num_starts=0, **common)
    return _search(problem, num_starts, max_iterations, common)


def clean_arrays(
    law: Law, inputs: Mapping[str, Any], y: Any, fixed: Mapping[str, float] | None = None
) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Float64 inputs and output by name without the rows that cannot be used, and the mask of those kept."""
    if missing := [name for name in law.inputs if name not in inputs]:
        raise LosslineError(f"{law.name}: the fit needs {missing}")
    for name, value in (fixed or {}).items():
        if not np.isfinite(value):
            raise LosslineError(f"{law.name}: {name} is held at {value}; give a finite number")
    try:
        data = {name: np.asarray(inputs[name], float) for name in law.inputs} | {law.output: np.asarray(y, float)}
    except (TypeError, ValueError) as error:
        raise LosslineError(f"{law.name}: the data are not all numbers ({error})") from error
    lengths = {name: value.shape for name, value in data.items()}
    if len(set(lengths.values())) != 1 or len(lengths[law.output]) != 1:
        raise LosslineError(f"{law.name}: arrays of different or wrong shapes: {lengths}")
    keep = np.all([np.isfinite(value) for value in data.values()], axis=0)
    if law.rescale is not None:
        keep &= np.all([data[name] > 0 for name in law.inputs], axis=0)
    if law.defined is not None and fixed:
        held = {name: fixed.get(name, -np.inf) for name in law.names}
        keep &= law.defined(held, data)
    return {name: value[keep] for name, value in data.items()}, keep


def _search(problem: Problem, num_starts: int, max_iterations: int, common: dict) -> FitResult:
    minima = minimise(problem, _starts(problem, num_starts), max_iterations=max_iterations)
    if not np.isfinite(minima.objective_B).any():
        return FitResult(status="failed", note="no start gave a finite objective", num_starts=num_starts, **common)
    u, objective, converged = _best(problem, minima)
    # the objective of an exact fit is rounding error: below this share of the data's own, all are the same
    floor = 1e-20 * float(np.sum(problem.loss.values(problem.y_n)))
    intervals, reached = {}, ()
    if problem.num_points > problem.num_free and common["interval_level"] is not None:
        for _ in range(3):  # again where the profile met a lower minimum than every start
            profile = profile_intervals(problem, u, objective, common["interval_level"])
            intervals, reached = profile.intervals, profile.reached
            if objective - profile.met_objective <= SAME_OBJECTIVE * objective + floor:
                break
            u, objective, converged = polish(problem, profile.met_P)
        else:
            converged = False
    reached_best = minima.objective_B <= objective * (1 + SAME_OBJECTIVE) + floor
    condition = _condition_number(problem, u)
    status, note, bounds_hit, unsure = _judge(problem, u, converged, reached, intervals, condition)
    residuals = problem.y_n - problem.law.function(problem.values(u[None]), problem.inputs)[0]
    spread = float(np.sum((problem.y_n - problem.y_n.mean()) ** 2))
    return FitResult(
        status=status,
        note=note,
        num_starts=num_starts,
        parameters=problem.natural(u),
        intervals=intervals,
        not_identified=unsure,
        bounds_hit=bounds_hit,
        objective=objective,
        rmse=float(np.sqrt(np.mean(residuals**2))),
        r_squared=1 - float(np.sum(residuals**2)) / spread if spread > 0 else None,
        share_of_starts=float(np.mean(reached_best)),
        condition_number=condition,
        domain={
            name: (float(v.min() * problem.scales[name]), float(v.max() * problem.scales[name]))
            for name, v in problem.inputs.items()
        },
        **common,
    )


def _starts(problem: Problem, num_starts: int) -> np.ndarray:
    """(num_starts, P): the Kronecker sequence of the generalised golden ratio, the same every time."""
    num_parameters = problem.lower_P.size
    ratio = 2.0
    for _ in range(60):  # the positive root of g^(P+1) = g + 1
        ratio = (1 + ratio) ** (1 / (num_parameters + 1))
    strides = ratio ** -np.arange(1, num_parameters + 1)
    share = (0.5 + np.outer(np.arange(num_starts), strides)) % 1.0
    start = problem.start_lower_P + share * (problem.start_upper_P - problem.start_lower_P)
    return _project_linear(problem, start)


def _project_linear(problem: Problem, u_BP: np.ndarray) -> np.ndarray:
    """Replace the free linear parameters by their least-squares values given the others."""
    linear = [k for k, p in enumerate(problem.law.parameters) if p.linear and problem.free_P[k]]
    if not linear:
        return u_BP
    values = problem.values(u_BP)
    for k in linear:
        values[problem.law.parameters[k].name] = np.zeros((u_BP.shape[0], 1))
    with np.errstate(all="ignore"):
        rest_Bn = problem.law.function(values, problem.inputs)
        columns = []
        for k in linear:
            name = problem.law.parameters[k].name
            columns.append(problem.law.function({**values, name: values[name] + 1.0}, problem.inputs) - rest_Bn)
        weight = 1.0 / problem.y_n if problem.loss.logarithmic else np.ones(problem.num_points)
        design = np.stack(columns, axis=-1) * weight[:, None]
        usable = np.isfinite(design).all(axis=(1, 2)) & np.isfinite(rest_Bn).all(axis=1)
        target = ((problem.y_n - rest_Bn) * weight)[usable, :, None]
        solution = np.matmul(np.linalg.pinv(design[usable]), target)[:, :, 0]
        u = u_BP.copy()
        for column, k in enumerate(linear):
            found = solution[:, column]
            found = np.log(np.maximum(found, 1e-300)) if problem.law.parameters[k].log else found
            u[usable, k] = np.clip(found, problem.start_lower_P[k], problem.start_upper_P[k])
    return u


def _best(problem: Problem, minima) -> tuple[np.ndarray, float, bool]:
    order = np.argsort(minima.objective_B)
    if problem.loss.delta is None:
        best = order[0]
        return minima.u_BP[best], float(minima.objective_B[best]), bool(minima.converged_B[best])
    ends = [polish(problem, minima.u_BP[k]) for k in order[:NUM_POLISHED] if np.isfinite(minima.objective_B[k])]
    return min(ends, key=lambda end: end[1])


def _condition_number(problem: Problem, u_P: np.ndarray) -> float | None:
    residuals = problem.residuals(u_P[None], problem.y_n)
    jacobian = problem.jacobian(u_P[None], residuals, problem.y_n)[0][:, problem.free_P]
    lengths = np.linalg.norm(jacobian, axis=0)
    if not np.all(np.isfinite(jacobian)) or np.any(lengths == 0):
        return None
    condition = float(np.linalg.cond(jacobian / lengths))
    return condition if np.isfinite(condition) else None


def _judge(problem: Problem, u_P: np.ndarray, converged: bool, reached: tuple, intervals: dict, condition):
    """(status, note, parameters on a bound, parameters not identified)."""
    width = problem.upper_P - problem.lower_P
    near = problem.free_P & (np.minimum(u_P - problem.lower_P, problem.upper_P - u_P) <= 1e-6 * width)
    hit = tuple(name for name, on in zip(problem.law.names, near, strict=True) if on)
    exact = problem.num_points == problem.num_free
    singular = condition is None or condition > SINGULAR
    loose = [name for name in reached if name not in hit or _half_the_range(problem, name, intervals[name])]
    status: Status = "converged"
    if hit:
        status = "bound hit"
    if exact or singular or loose:
        status = "not identified"
    if not converged:
        status = "iteration cap"
    said = {
        "the best start was still going down at the iteration cap": not converged,
        f"{', '.join(hit)} ended on a bound": hit,
        "as many points as free parameters: nothing is left to judge the fit by": exact,
        f"the interval of {', '.join(reached)} reaches a bound: compare curves, not parameters": reached,
        "the Jacobian is numerically singular: compare curves, not parameters": singular and not reached,
    }
    unsure = tuple(n for n, free in zip(problem.law.names, problem.free_P, strict=True) if free) if exact else reached
    return status, "; ".join(text for text, true in said.items() if true), hit, unsure


def _half_the_range(problem: Problem, name: str, interval: tuple[float, float]) -> bool:
    k = problem.law.names.index(name)
    low, high = np.log(interval) if problem.law.parameters[k].log else interval
    return bool(high - low > 0.5 * (problem.upper_P[k] - problem.lower_P[k]))
