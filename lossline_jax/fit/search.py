"""From many starts to one minimum: all of them coarsely, then the best ends to the last digit."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.levenberg import minimise_all
from lossline_jax.fit.problem import Problem
from lossline_jax.fit.starts import start_tasks

SAME_OBJECTIVE = 1e-3  # relative: starts this close to the best have reached it
WIDER = 30.0  # times delta of Huber while searching: smoother ground, nearly the same minima
COARSE = 1e-8  # relative gain at which a start ends
CLOSE = 1e-4
NUM_FINE = 3  # ends that go on


@dataclass(frozen=True)
class Found:
    """The minimum of one problem."""

    u_P: np.ndarray
    objective: float  # inf: no start ever had a finite value
    converged: bool
    share_of_starts: float  # that came within 0.1% of the best objective of the coarse search


def search(problems: Sequence[Problem], num_starts: int, max_iterations: int) -> list[Found]:
    """The lowest minimum of each problem; all have one law and one loss."""
    tasks = start_tasks(problems, num_starts)
    coarse = minimise_all(
        [dataclasses.replace(task, problem=_smoother(task.problem)) for task in tasks],
        max_iterations=max_iterations,
        tolerance=COARSE,
        close=CLOSE,
    )
    best = [minima.u_BP[np.argsort(minima.objective_B, kind="stable")[:NUM_FINE]] for minima in coarse]
    fine_tasks = [dataclasses.replace(task, start_BP=u_BP) for task, u_BP in zip(tasks, best, strict=True)]
    fine = minimise_all(fine_tasks, max_iterations=max_iterations)
    found = []
    for problem, rough, minima in zip(problems, coarse, fine, strict=True):
        k = int(np.argmin(minima.objective_B))
        within = rough.objective_B <= rough.objective_B.min() * (1 + SAME_OBJECTIVE) + rounding(problem)
        share = float(np.mean(within & np.isfinite(rough.objective_B)))
        found.append(Found(minima.u_BP[k], float(minima.objective_B[k]), bool(minima.converged_B[k]), share))
    return found


def rounding(problem: Problem) -> float:
    """The objective of an exact fit is rounding error: below this share of the data's own, all are the same."""
    return 1e-20 * float(np.sum(0.5 * problem.y_n**2))


def _smoother(problem: Problem) -> Problem:
    delta = problem.loss.delta
    if delta is None:
        return problem
    return dataclasses.replace(problem, loss=dataclasses.replace(problem.loss, delta=WIDER * delta))
