"""Many small bounded nonlinear least-squares and Huber problems at once: Levenberg-Marquardt in float64.

Starts, bootstrap resamples, profile points and whole data sets are lanes of one compiled program.
Letters: B lanes (the last axis), n points, P parameters.

Huber: the curvature of a point is 1 within delta and, beyond it, its weight in iterated reweighting times a share
that follows the damping: a Newton step where the model can be trusted, a reweighted (majorising) one where not.
Reweighting alone needs hundreds of iterations where most residuals lie beyond delta.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, float64
from lossline_jax.fit.solver.batching import BLOCK, FitTask, TaskPool, pools
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.quadratic_model import (
    Kind,
    bounded_step,
    kind_of,
    project_linear,
    quadratic,
    residuals,
    search_values,
    with_slopes,
)

TOLERANCE = 1e-10  # relative gain in the objective: converged where twice in a row no larger
EXACT = 1e-22  # of the squares of the data: an objective below is rounding error, and converged
MAX_DAMPING = 1e12  # no downhill step is left within float64: converged
MIN_SHARE = 0.01  # of the reweighted curvature beyond delta
LIVE_SHARE = 0.75  # of a block: where fewer are still going down, others take the place of those that are done
SMALL_STEPS = 2


@dataclass(frozen=True)
class Minima:
    """Where each lane ended."""

    u_BP: np.ndarray
    objective_B: np.ndarray  # inf: never had a finite value
    converged_B: np.ndarray


def minimise(problem: Problem, start_BP: np.ndarray, *, max_iterations: int = 200, **of_lanes) -> Minima:
    """Minimise one problem from every start; `of_lanes` are the other fields of `FitTask`."""
    return minimise_all([FitTask(problem, start_BP, **of_lanes)], max_iterations=max_iterations)[0]


def minimise_all(
    tasks: Sequence[FitTask], *, max_iterations: int = 200, tolerance: float = TOLERANCE, close: float | None = None
) -> list[Minima]:
    """Minimise from every start, in the bounds, in `max_iterations` steps at most.

    All tasks have one law and one objective.

    Args:
        close: a lane whose objective comes this close (relative) to where another of its task has ended ends too:
            it would only find the same again. None: every lane goes on to its own end.
    """
    minima: dict[int, Minima] = {}
    for pool in pools(tasks):
        minima |= _minimise_pool(pool, max_iterations, tolerance, close)
    return [minima[number] for number in range(len(tasks))]


def _minimise_pool(pool: TaskPool, max_iterations: int, tolerance: float, close) -> dict[int, Minima]:
    law, criterion = pool.tasks[0].problem.law, pool.tasks[0].problem.objective
    u = pool.starts()
    size = u.shape[1]
    damping, small, used = np.full(size, 1e-2), np.zeros(size, int), np.zeros(size, int)
    objective = np.full(size, np.inf)
    queue = np.arange(size)
    while queue.size:
        lanes, padded, data = pool.block(queue)
        queue = queue[lanes.size :]
        done = small[padded]
        done[lanes.size :] = SMALL_STEPS
        with float64():
            state = _descend(
                law,
                kind_of(criterion),
                np.inf if criterion.delta is None else criterion.delta,
                data,
                (u[:, padded], damping[padded], done, used[padded]),
                max_iterations,
                tolerance,
                int(LIVE_SHARE * BLOCK) if queue.size else 1,
            )
        u[:, lanes], objective[lanes], damping[lanes], small[lanes], used[lanes] = (
            np.asarray(part)[..., : lanes.size] for part in state
        )
        queue = np.concatenate([queue, lanes[small[lanes] < SMALL_STEPS]])
        queue = queue[used[queue] < max_iterations]
        if close is not None:
            best = np.full(len(pool.tasks), np.inf)
            ended = np.flatnonzero((small >= SMALL_STEPS) & np.isfinite(objective))
            np.minimum.at(best, pool.task_B[ended], objective[ended])
            best = best[pool.task_B[queue]]
            queue = queue[~np.isfinite(best) | (objective[queue] > best * (1 + close))]
    converged = (small >= SMALL_STEPS) & np.isfinite(objective)
    return {number: Minima(u[:, lanes].T, objective[lanes], converged[lanes]) for number, lanes in pool.lanes_of_task()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _descend(law: Law, kind: Kind, delta, data: dict, state: tuple, max_iterations, tolerance, num_live):
    """Steps of lanes that are neither done nor at the cap, until fewer than `num_live` are left."""
    lower, upper, free = data["lower"], data["upper"], data["free"]
    u, damping, small, used = state
    model = functools.partial(_model, law, kind, delta, data)
    # The first pass of the loop only evaluates (no curvature, no step), so that the model is compiled once.
    objective = jnp.full_like(damping, jnp.inf)
    gradient, hessian = jnp.zeros_like(u), jnp.zeros((u.shape[0], *u.shape))
    squares = 1.0 if kind.form == "log" else data["y"] ** 2
    exact = EXACT * jnp.sum(data["weights"] * squares, axis=0)

    def going(small, used):
        return (small < SMALL_STEPS) & (used < max_iterations)

    def condition(carry):
        return jnp.sum(going(carry[5], carry[6])) >= jnp.maximum(num_live, 1)

    def body(carry):
        u, objective, gradient, hessian, damping, small, used = carry
        tried = jnp.clip(u + bounded_step(u, gradient, hessian, lower, upper, free, damping), lower, upper)
        lighter = jnp.maximum(damping * 0.2, 1e-12)
        first = ~jnp.isfinite(objective)
        share = jnp.where(first, 1.0, jnp.clip(lighter * 100, MIN_SHARE, 1.0))
        tried = list(tried)
        if kind.squares:
            tried = project_linear(law, kind, data, tried, ("lower", "upper"))
        tried_objective, tried_gradient, tried_hessian = model(tried, share)
        tried = jnp.stack(tried)
        live = going(small, used)
        better = live & (tried_objective < objective)
        gain = objective - tried_objective
        slight = better & ~first & ((gain <= tolerance * objective) | (tried_objective <= exact))
        small = jnp.where(slight, small + 1, jnp.where(better, 0, small))
        small = jnp.where(live & ~better & (first | (damping > MAX_DAMPING)), SMALL_STEPS, small)
        return (
            jnp.where(better, tried, u),
            jnp.where(better, tried_objective, objective),
            jnp.where(better, tried_gradient, gradient),
            jnp.where(better, tried_hessian, hessian),
            jnp.where(first, damping, jnp.where(better, lighter, jnp.where(live, damping * 5.0, damping))),
            small,
            used + (live & ~first),
        )

    carry = (u, objective, gradient, hessian, damping, small, used)
    u, objective, _, _, damping, small, used = jax.lax.while_loop(condition, body, carry)
    return u, objective, damping, small, used


def _model(law: Law, kind: Kind, delta, data: dict, u: list, share_B):
    """Objective (B,), gradient (P, B) and curvature (P, P, B) of each lane."""
    residual, slopes = with_slopes(lambda *u: residuals(law, kind, data, search_values(law, u)), u)
    objective, gradient, hessian = quadratic(residual, slopes, delta, share_B, data["weights"])
    usable = jnp.isfinite(objective) & jnp.all(jnp.isfinite(gradient), 0) & jnp.all(jnp.isfinite(hessian), (0, 1))
    return jnp.where(usable, objective, jnp.inf), gradient, hessian
