"""Solve many small bounded least-squares and Huber problems at once, by Levenberg-Marquardt in float64.

Starts, bootstrap resamples, profile points and whole data sets are lanes of one compiled program.
Letters of shapes: B lanes (the last axis), n points, P parameters.

For Huber's function, the curvature of a point is 1 within delta. Beyond delta, it is the weight of the point in
iterated reweighting times a share, and the share follows the damping. With little damping the model can be trusted, and
the step is a Newton step. With much damping the step is a reweighted (majorising) one. Reweighting alone would need
hundreds of iterations if most residuals lie beyond delta.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, float64
from lossline_jax.fit.solver.batching import FitTask, TaskPool, pools
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

# All numbers below are choices.
TOLERANCE = 1e-10  # relative gain in the objective; `SMALL_STEPS` steps with no larger gain: converged
EXACT = 1e-22  # share of the sum of squares of the data; an objective below it is rounding error: converged
MAX_DAMPING = 1e12  # with more damping, float64 has no downhill step left: converged
MIN_SHARE = 0.01  # smallest share of the reweighted curvature beyond delta
LIVE_SHARE = 0.75  # share of a block; if fewer lanes still descend, waiting lanes take the place of finished ones
SMALL_STEPS = 2  # steps in a row
INITIAL_DAMPING, MIN_DAMPING = 1e-2, 1e-12  # relative to the diagonal of the curvature
DAMPING_AFTER_GAIN, DAMPING_AFTER_LOSS = 0.2, 5.0  # factors


@dataclass(frozen=True)
class Minima:
    """The points at which the lanes of one task ended."""

    u_BP: np.ndarray
    objective_B: np.ndarray  # inf: the objective of the lane was never finite
    converged_B: np.ndarray


def minimise(
    problem: Problem,
    start_BP: np.ndarray,
    *,
    max_iterations: int = 200,
    free_BP: np.ndarray | None = None,
    weights_Bn: np.ndarray | None = None,
    cluster_n: np.ndarray | None = None,
    y_Bn: np.ndarray | None = None,
) -> Minima:
    """Minimise one problem from every start.

    Args:
        problem: the problem.
        start_BP: the start of each lane, in search coordinates.
        max_iterations: the largest number of steps of a lane.
        free_BP: see `FitTask`. None: `Problem.free_P` holds for all lanes.
        weights_Bn: see `FitTask`. None: 1.
        cluster_n: see `FitTask`. None: each point has its own column of `weights_Bn`.
        y_Bn: see `FitTask`. None: the y of the problem.
    """
    task = FitTask(problem, start_BP, free_BP, weights_Bn, cluster_n, y_Bn)
    return minimise_all([task], max_iterations=max_iterations)[0]


def minimise_all(
    tasks: Sequence[FitTask], *, max_iterations: int = 200, tolerance: float = TOLERANCE, close: float | None = None
) -> list[Minima]:
    """Minimise each task from every start, within the bounds. All tasks have one law and one objective.

    Args:
        tasks: the tasks.
        max_iterations: the largest number of steps of a lane.
        tolerance: the relative gain in the objective at which a lane counts as converged.
        close: a relative distance in the objective. A lane ends if it comes this close to the end of another lane of
            its task, because it would only find the same minimum again. None: every lane descends to its own end.
    """
    minima: dict[int, Minima] = {}
    for pool in pools(tasks):
        minima |= _minimise_pool(pool, max_iterations, tolerance, close)
    return [minima[number] for number in range(len(tasks))]


def _minimise_pool(pool: TaskPool, max_iterations: int, tolerance: float, close: float | None) -> dict[int, Minima]:
    """Minimise all lanes of a pool, block after block. Return the minima by the number of the task."""
    law, criterion = pool.tasks[0].problem.law, pool.tasks[0].problem.objective
    state = _first_state(pool.starts())
    queue = np.arange(pool.task_B.size)
    while queue.size:
        lanes, padded, data = pool.block(queue)
        queue = queue[lanes.size :]
        of_block = _State(*(part[..., padded] for part in state))
        of_block.num_small[lanes.size :] = SMALL_STEPS  # padding counts as finished
        with float64():
            stepped = _descend(
                law,
                kind_of(criterion),
                data,
                of_block,
                delta=np.inf if criterion.delta is None else criterion.delta,
                max_iterations=max_iterations,
                tolerance=tolerance,
                num_live=int(LIVE_SHARE * pool.block_lanes) if queue.size else 1,
            )
        for part, new in zip(state, stepped, strict=True):
            part[..., lanes] = np.asarray(new)[..., : lanes.size]
        queue = np.concatenate([queue, lanes[state.num_small[lanes] < SMALL_STEPS]])
        queue = queue[state.num_steps[queue] < max_iterations]
        if close is not None:
            best_of_task = np.full(len(pool.tasks), np.inf)
            ended = np.flatnonzero((state.num_small >= SMALL_STEPS) & np.isfinite(state.objective))
            np.minimum.at(best_of_task, pool.task_B[ended], state.objective[ended])
            best = best_of_task[pool.task_B[queue]]
            queue = queue[~np.isfinite(best) | (state.objective[queue] > best * (1 + close))]
    converged = (state.num_small >= SMALL_STEPS) & np.isfinite(state.objective)
    return {
        number: Minima(state.u[:, lanes].T, state.objective[lanes], converged[lanes])
        for number, lanes in pool.lanes_of_task()
    }


class _State(NamedTuple):
    """All that a lane knows after a step. A lane that waits goes on from it as if it had never waited."""

    u: Any  # (P, B) search coordinates
    objective: Any  # (B,); inf before the first evaluation
    gradient: Any  # (P, B)
    hessian: Any  # (P, P, B)
    damping: Any  # (B,)
    num_small: Any  # (B,) small steps in a row
    num_steps: Any  # (B,)


def _first_state(u_PB: np.ndarray) -> _State:
    num_parameters, num_lanes = u_PB.shape
    return _State(
        u_PB,
        np.full(num_lanes, np.inf),
        np.zeros_like(u_PB),
        np.zeros((num_parameters, *u_PB.shape)),
        np.full(num_lanes, INITIAL_DAMPING),
        np.zeros(num_lanes, int),
        np.zeros(num_lanes, int),
    )


@functools.partial(jax.jit, static_argnums=(0, 1))
def _descend(
    law: Law,
    kind: Kind,
    data: dict[str, Any],
    state: _State,
    *,
    delta: Any,
    max_iterations: Any,
    tolerance: Any,
    num_live: Any,
) -> _State:
    """Step all lanes that are neither converged nor at the cap, until fewer than `num_live` such lanes are left.

    The first step of a lane only evaluates: its gradient and curvature are 0, so that the model is compiled once.
    """
    lower, upper, free = data["lower"], data["upper"], data["free"]
    model = functools.partial(_model, law, kind, data, delta=None if kind.squares else delta)
    squares = 1.0 if kind.form == "log" else data["y"] ** 2
    exact = EXACT * jnp.sum(data["weights"] * squares, axis=0)

    def is_live(num_small: jax.Array, num_steps: jax.Array) -> jax.Array:
        return (num_small < SMALL_STEPS) & (num_steps < max_iterations)

    def enough_are_live(carry: _State) -> jax.Array:
        return jnp.sum(is_live(carry.num_small, carry.num_steps)) >= jnp.maximum(num_live, 1)

    def step(carry: _State) -> _State:
        u, objective, gradient, hessian, damping, num_small, num_steps = carry
        change = bounded_step(u, gradient, hessian, lower=lower, upper=upper, free=free, damping=damping)
        tried = list(jnp.clip(u + change, lower, upper))
        lighter = jnp.maximum(damping * DAMPING_AFTER_GAIN, MIN_DAMPING)
        first = ~jnp.isfinite(objective)
        share = jnp.where(first, 1.0, jnp.clip(lighter * 100, MIN_SHARE, 1.0))
        if kind.squares:
            tried = project_linear(law, kind, data, tried, bounds=("lower", "upper"))
        tried_objective, tried_gradient, tried_hessian = model(tried, share=share)
        live = is_live(num_small, num_steps)
        better = live & (tried_objective < objective)
        gain = objective - tried_objective
        slight = better & ~first & ((gain <= tolerance * objective) | (tried_objective <= exact))
        num_small = jnp.where(slight, num_small + 1, jnp.where(better, 0, num_small))
        num_small = jnp.where(live & ~better & (first | (damping > MAX_DAMPING)), SMALL_STEPS, num_small)
        heavier = jnp.where(live, damping * DAMPING_AFTER_LOSS, damping)
        return _State(
            jnp.where(better, jnp.stack(tried), u),
            jnp.where(better, tried_objective, objective),
            jnp.where(better, tried_gradient, gradient),
            jnp.where(better, tried_hessian, hessian),
            jnp.where(first, damping, jnp.where(better, lighter, heavier)),
            num_small,
            num_steps + (live & ~first),
        )

    return jax.lax.while_loop(enough_are_live, step, state)


def _model(
    law: Law, kind: Kind, data: dict[str, Any], u: list[jax.Array], *, delta: Any, share: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Return the objective (B,), gradient (P, B) and curvature (P, P, B) of each lane."""
    residual, slopes = with_slopes(lambda *u: residuals(law, kind, data, search_values(law, u)), u)
    objective, gradient, hessian = quadratic(residual, slopes, delta=delta, share=share, weights=data["weights"])
    usable = jnp.isfinite(objective) & jnp.all(jnp.isfinite(gradient), 0) & jnp.all(jnp.isfinite(hessian), (0, 1))
    return jnp.where(usable, objective, jnp.inf), gradient, hessian
