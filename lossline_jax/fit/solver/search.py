"""Find the lowest minimum of a problem from many starts: all starts coarsely, then the best ones to the last digit.

The starts are a space-filling sequence. Their linear parameters are solved for, with the nonlinear ones given.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, float64
from lossline_jax.fit.solver.batching import FitTask, TaskPool, pools
from lossline_jax.fit.solver.condensed import can_be_condensed, condensed, is_faithful, part
from lossline_jax.fit.solver.levenberg_marquardt import Minima, minimise_all
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.quadratic_model import Kind, project_linear

# All numbers below are choices.
SAME_OBJECTIVE = 1e-3  # relative: starts this close to the best objective have reached the same minimum
WIDER = 30.0  # factor of Huber's delta in the coarse search: a smoother objective with nearly the same minima
COARSE = 1e-8  # relative gain in the objective at which a start ends in the coarse search
CLOSE = 1e-4  # relative: the coarse search ends a start this close to the end of another (`minimise_all`)
NUM_FINE = 3  # ends of the coarse search that the fine search continues


def start_tasks(problems: Sequence[Problem], num_starts: int) -> list[FitTask]:
    """Return a task for each problem, with projected starts (variable projection).

    Args:
        problems: problems of one law and one objective.
        num_starts: the number of starts of each problem.
    """
    tasks = [FitTask(problem, spread(problem, num_starts)) for problem in problems]
    if not any(p.linear for p in problems[0].law.parameters):
        return tasks
    projected: dict[int, np.ndarray] = {}
    for pool in pools(tasks):
        projected |= _project_pool(pool)
    return [FitTask(task.problem, projected[number]) for number, task in enumerate(tasks)]


def spread(problem: Problem, num_starts: int) -> np.ndarray:
    """Return (num_starts, P) starts: the Kronecker sequence of the generalised golden ratio, the same in every call.

    Args:
        problem: the problem, whose start ranges the sequence fills.
        num_starts: the number of starts.
    """
    num_parameters = problem.lower_P.size
    ratio = 2.0
    for _ in range(60):  # fixed-point iteration for the positive root of g^(P+1) = g + 1; 60 steps reach float64
        ratio = (1 + ratio) ** (1 / (num_parameters + 1))
    strides = ratio ** -np.arange(1, num_parameters + 1)
    share = (0.5 + np.outer(np.arange(num_starts), strides)) % 1.0
    return problem.start_lower_P + share * (problem.start_upper_P - problem.start_lower_P)


def _project_pool(pool: TaskPool) -> dict[int, np.ndarray]:
    law = pool.tasks[0].problem.law
    # A logarithmic residual is not affine in the linear parameters, so relative residuals take its place here.
    kind = Kind("relative" if pool.tasks[0].problem.objective.logarithmic else "plain")
    u = pool.starts()
    queue = np.arange(u.shape[1])
    while queue.size:
        lanes, padded, data = pool.block(queue)
        queue = queue[lanes.size :]
        with float64():
            u[:, lanes] = np.asarray(_project(law, kind, data, u[:, padded]))[:, : lanes.size]
    return {number: u[:, lanes].T for number, lanes in pool.lanes_of_task()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _project(law: Law, kind: Kind, data: dict[str, Any], u_PB: jax.Array) -> jax.Array:
    return jnp.stack(project_linear(law, kind, data, list(u_PB), bounds=("start_lower", "start_upper")))


@dataclass(frozen=True)
class Found:
    """The lowest minimum that the search found for one problem."""

    u_P: np.ndarray
    objective: float  # inf: no start ever had a finite value
    converged: bool
    share_of_starts: float  # share of the starts that came within 0.1% of the best objective of the coarse search


def search(
    problems: Sequence[Problem], num_starts: int, max_iterations: int, *, all_to_the_end: bool = False
) -> list[Found]:
    """Return the lowest minimum of each problem.

    Args:
        problems: problems of one law and one objective.
        num_starts: the number of starts of each problem.
        max_iterations: the largest number of steps of one descent.
        all_to_the_end: True: every start descends to its own end, so that the problems do not influence each other.
            False: a start may end early (`minimise_all`).
    """
    options = _Options(num_starts, max_iterations, None if all_to_the_end else CLOSE)
    parts = [part(problem) for problem in problems]
    small = {k: condensed(problem) for k, problem in enumerate(problems) if can_be_condensed(problem)}
    coarse = [small.get(k, of_part) for k, of_part in enumerate(parts)]
    fine = [small.get(k, problem) for k, problem in enumerate(problems)]
    found = _on_all_points(problems, small, _two_searches(coarse, fine, options), options)
    if sharp := [k for k, problem in small.items() if not is_faithful(problems[k], problem, found[k].u_P)]:
        again = _two_searches([parts[k] for k in sharp], [problems[k] for k in sharp], options)
        for k, minimum in zip(sharp, again, strict=True):
            found[k] = min(found[k], minimum, key=lambda either: either.objective)
    return found


class _Options(NamedTuple):
    num_starts: int
    max_iterations: int
    close: float | None  # as for `minimise_all`


def _two_searches(coarse: Sequence[Problem], fine: Sequence[Problem], options: _Options) -> list[Found]:
    """Search all starts on the coarse problems, and go on with the best ends on the fine ones.

    Args:
        coarse: the problems with all of their points, with a part of them, or condensed.
        fine: the same problems with all of their points, or condensed.
        options: the options of the search.
    """
    tasks = start_tasks(coarse, options.num_starts)
    minima_of_coarse = minimise_all(
        [replace(task, problem=_smoother(task.problem)) for task in tasks],
        max_iterations=options.max_iterations,
        tolerance=COARSE,
        close=options.close,
    )
    fine_tasks = [
        FitTask(problem, _best_ends(minima, distinct=problem is not of_coarse))
        for problem, of_coarse, minima in zip(fine, coarse, minima_of_coarse, strict=True)
    ]
    minima_of_fine = minimise_all(fine_tasks, max_iterations=options.max_iterations)
    return [
        replace(_lowest(of_fine), share_of_starts=_share_of_starts(problem, of_coarse.objective_B))
        for problem, of_coarse, of_fine in zip(coarse, minima_of_coarse, minima_of_fine, strict=True)
    ]


def _best_ends(minima: Minima, distinct: bool) -> np.ndarray:
    """Return (NUM_FINE, P) ends of the coarse search, the lowest first.

    Args:
        minima: the ends of all starts.
        distinct: True: ends of other minima come before ends of the same minimum. A part of the points may take the
            second lowest minimum for the lowest.
    """
    order = np.argsort(minima.objective_B, kind="stable")
    if distinct:
        objective = minima.objective_B[order]
        with np.errstate(invalid="ignore"):  # inf - inf
            repeats = np.append(False, np.diff(objective) <= CLOSE * objective[:-1])
        order = np.concatenate([order[~repeats], order[repeats]])
    return minima.u_BP[order[:NUM_FINE]]


def _lowest(minima: Minima) -> Found:
    k = int(np.argmin(minima.objective_B))
    return Found(minima.u_BP[k], float(minima.objective_B[k]), bool(minima.converged_B[k]), 0.0)


def _share_of_starts(problem: Problem, objective_B: np.ndarray) -> float:
    within_B = objective_B <= objective_B.min() * (1 + SAME_OBJECTIVE) + rounding(problem)
    return float(np.mean(within_B & np.isfinite(objective_B)))


def _on_all_points(
    problems: Sequence[Problem], small: Mapping[int, Problem], found: Sequence[Found], options: _Options
) -> list[Found]:
    """Descend once more, on all points, where the search was on condensed ones. `small` has these by their position."""
    results = list(found)
    tasks = [FitTask(problems[k], found[k].u_P[None]) for k in small]
    for k, minima in zip(small, minimise_all(tasks, max_iterations=options.max_iterations), strict=True):
        results[k] = replace(_lowest(minima), share_of_starts=found[k].share_of_starts)
    return results


def rounding(problem: Problem) -> float:
    """Return the objective up to which a fit counts as exact: 1e-20 of the objective of the data about 0.

    The objective of an exact fit is rounding error, so all objectives below this value are equal.
    """
    return 1e-20 * float(np.sum(0.5 * problem.y_n**2))


def _smoother(problem: Problem) -> Problem:
    """Return the problem with a wider delta, or as it is for least squares."""
    delta = problem.objective.delta
    if delta is None:
        return problem
    return replace(problem, objective=replace(problem.objective, delta=WIDER * delta))
