"""The curve and its slopes where searches ended, for many problems at once."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.law import Law, float64
from lossline_jax.fit.solver.batching import FitTask, pools
from lossline_jax.fit.solver.problem import Problem
from lossline_jax.fit.solver.quadratic_model import Kind, kind_of, residuals, search_values, with_slopes


def curves_and_jacobians(problems: Sequence[Problem], u: Sequence[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """(n,) curve and (n, P) derivative of the residuals by search coordinates, for each problem at its `u` (P,)."""
    results: dict[int, tuple[np.ndarray, np.ndarray]] = {}
    for pool in pools([FitTask(problem, at[None]) for problem, at in zip(problems, u, strict=True)]):
        law, objective = pool.tasks[0].problem.law, pool.tasks[0].problem.objective
        at, queue = pool.starts(), np.arange(len(pool.tasks))
        while queue.size:
            lanes, padded, data = pool.block(queue)
            queue = queue[lanes.size :]
            with float64():
                curve, slopes = map(np.asarray, _evaluate(law, kind_of(objective), data, at[:, padded]))
            for column, lane in enumerate(lanes):
                n = pool.tasks[lane].problem.num_points
                results[pool.numbers[lane]] = (curve[:n, column], slopes[:, :n, column].T)
    return [results[number] for number in range(len(problems))]


@functools.partial(jax.jit, static_argnums=(0, 1))
def _evaluate(law: Law, kind: Kind, data: dict, u_PB):
    values = search_values(law, u_PB)
    curve = jnp.broadcast_to(law.function(values, data["inputs"]), data["y"].shape)
    _, slopes = with_slopes(lambda *u: residuals(law, kind, data, search_values(law, u)), list(u_PB))
    return curve, jnp.stack(slopes)
