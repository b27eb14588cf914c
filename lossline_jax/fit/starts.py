"""Where a search begins: a space-filling sequence, with the linear parameters solved for given the others."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from lossline_jax.fit.compiled import float64
from lossline_jax.fit.curves import Law
from lossline_jax.fit.lanes import Pool, Task, pools
from lossline_jax.fit.problem import Problem
from lossline_jax.fit.residuals import Kind, project_linear


def start_tasks(problems: Sequence[Problem], num_starts: int) -> list[Task]:
    """A task for each problem, its starts projected (variable projection). All have one law and one loss."""
    tasks = [Task(problem, spread(problem, num_starts)) for problem in problems]
    if not any(p.linear for p in problems[0].law.parameters):
        return tasks
    projected: dict[int, np.ndarray] = {}
    for pool in pools(tasks):
        projected |= _project_pool(pool)
    return [Task(task.problem, projected[number]) for number, task in enumerate(tasks)]


def spread(problem: Problem, num_starts: int) -> np.ndarray:
    """(num_starts, P): the Kronecker sequence of the generalised golden ratio, the same every time."""
    num_parameters = problem.lower_P.size
    ratio = 2.0
    for _ in range(60):  # the positive root of g^(P+1) = g + 1
        ratio = (1 + ratio) ** (1 / (num_parameters + 1))
    strides = ratio ** -np.arange(1, num_parameters + 1)
    share = (0.5 + np.outer(np.arange(num_starts), strides)) % 1.0
    return problem.start_lower_P + share * (problem.start_upper_P - problem.start_lower_P)


def _project_pool(pool: Pool) -> dict[int, np.ndarray]:
    law = pool.tasks[0].problem.law
    kind = Kind("relative" if pool.tasks[0].problem.loss.logarithmic else "plain")  # affine in what is projected
    u = pool.starts()
    queue = np.arange(u.shape[1])
    while queue.size:
        lanes, padded, data = pool.block(queue)
        queue = queue[lanes.size :]
        with float64():
            u[:, lanes] = np.asarray(_project(law, kind, data, u[:, padded]))[:, : lanes.size]
    return {number: u[:, lanes].T for number, lanes in pool.lanes_of_task()}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _project(law: Law, kind: Kind, data: dict, u_PB):
    return jnp.stack(project_linear(law, kind, data, list(u_PB), ("start_lower", "start_upper")))
