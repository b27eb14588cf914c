"""Evaluate curves and Jacobians at the fitted parameters of many problems at once."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, float64, padded_curve
from lossline_jax.fit.solver.batching import FitTask, pools
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.quadratic_model import Kind, kind_of, residuals, search_values, with_slopes


def curves_and_jacobians(problems: Sequence[Problem], u: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the (n,) curve and the (n, P) Jacobian of each problem. All problems have one law and one objective.

    The Jacobian holds the derivatives of the residuals by the search coordinates.

    Args:
        problems: the problems.
        u: (P,) search coordinates for each problem.
    """
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    tasks = [FitTask(problem, u_P[None]) for problem, u_P in zip(problems, u, strict=True)]
    for pool in pools(tasks, padded_curve):  # nothing is summed over points, so few lengths serve as well
        law, objective = pool.tasks[0].problem.law, pool.tasks[0].problem.objective
        u_PB, queue = pool.starts(), np.arange(len(pool.tasks))
        while queue.size:
            lanes, padded, data = pool.block(queue)
            queue = queue[lanes.size :]
            with float64():
                curve_nB, slopes_PnB = map(np.asarray, _evaluate(law, kind_of(objective), data, u_PB[:, padded]))
            for column, lane in enumerate(lanes):
                n = pool.tasks[lane].problem.num_points
                results[pool.numbers[lane]] = (curve_nB[:n, column], slopes_PnB[:, :n, column].T)
    return [results[number] for number in range(len(problems))]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(law: Law, kind: Kind, data: dict[str, Any], u_PB: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the (n, B) curve and the (P, n, B) derivatives of the residuals."""
    values = search_values(law, u_PB)
    curve = jnp.broadcast_to(law.function(values, data["inputs"]), data["y"].shape)
    _, slopes = with_slopes(lambda *u: residuals(law, kind, data, search_values(law, u)), list(u_PB))
    return curve, jnp.stack(slopes)
