"""Many small bounded nonlinear least-squares problems at once: Levenberg-Marquardt over a batch axis.

Starts, bootstrap resamples and profile points are all rows of one batch. Huber losses are handled by
reweighting in every iteration. Letters: B problems, n points, P parameters.
"""

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from lossline_jax.fit.problem import Problem

RELATIVE_TOLERANCE = 1e-10  # of the objective, twice in a row: converged
MAX_DAMPING = 1e12  # no downhill step is left within float64: converged


@dataclass(frozen=True)
class Minima:
    """Where each problem of the batch ended."""

    u_BP: np.ndarray
    objective_B: np.ndarray  # inf: never had a finite value
    converged_B: np.ndarray


def minimise(
    problem: Problem,
    start_BP: np.ndarray,
    *,
    free_BP: np.ndarray | None = None,
    weights_Bn: np.ndarray | None = None,
    y_Bn: np.ndarray | None = None,
    max_iterations: int = 200,
) -> Minima:
    """Minimise from every start (search coordinates), in the bounds, in `max_iterations` steps at most.

    Args:
        free_BP: False holds a coordinate at its start (profiles); None: as the problem says.
        weights_Bn: multiplicity of each point (bootstrap); None: 1.
        y_Bn: another y for each problem (residual bootstrap); None: the problem's.
    """
    num_problems, n = start_BP.shape[0], problem.num_points
    free_BP = np.broadcast_to(problem.free_P, start_BP.shape) if free_BP is None else free_BP & problem.free_P
    weights_Bn = np.broadcast_to(1.0, (num_problems, n)) if weights_Bn is None else weights_Bn
    y_Bn = np.broadcast_to(problem.y_n, (num_problems, n)) if y_Bn is None else y_Bn
    u = np.clip(start_BP, problem.lower_P, problem.upper_P)
    residuals = problem.residuals(u, y_Bn)
    objective = _objective(problem, residuals, weights_Bn)
    damping = np.full(num_problems, 1e-2)
    small_steps = np.zeros(num_problems, int)
    live = np.flatnonzero(np.isfinite(objective))
    for _ in range(max_iterations):
        if live.size == 0:
            break
        step = _step(problem, u[live], residuals[live], y_Bn[live], weights_Bn[live], free_BP[live], damping[live])
        tried = np.clip(u[live] + step, problem.lower_P, problem.upper_P)
        tried_residuals = problem.residuals(tried, y_Bn[live])
        tried_objective = _objective(problem, tried_residuals, weights_Bn[live])
        better = tried_objective < objective[live]
        gain = np.where(better, objective[live] - tried_objective, 0.0)
        small = better & (gain <= RELATIVE_TOLERANCE * objective[live])
        small_steps[live] = np.where(small, small_steps[live] + 1, np.where(better, 0, small_steps[live]))
        damping[live] = np.where(better, np.maximum(damping[live] * 0.2, 1e-12), damping[live] * 5.0)
        rows = live[better]
        u[rows], residuals[rows], objective[rows] = (
            tried[better],
            tried_residuals[better],
            tried_objective[better],
        )
        live = live[(small_steps[live] < 2) & (damping[live] < MAX_DAMPING) & (objective[live] > 0)]
    converged = np.isfinite(objective)
    converged[live] = False
    return Minima(u, objective, converged)


def _objective(problem: Problem, residuals_Bn: np.ndarray, weights_Bn: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        total = np.sum(weights_Bn * problem.loss.values(residuals_Bn), axis=1)
    return np.where(np.isfinite(total), total, np.inf)


def _step(problem, u, residuals, y, weights, free, damping) -> np.ndarray:
    """(B, P) damped Gauss-Newton steps within the bounds.

    Coordinates pressed against a bound stay; where the step would cross a bound it ends there, and the other
    coordinates are solved for again given that.
    """
    jacobian = problem.jacobian(u, residuals, y)
    jacobian = np.where(np.isfinite(jacobian), jacobian, 0.0)
    weighted = jacobian * (weights * problem.loss.weights(residuals))[:, :, None]
    gradient = np.matmul(weighted.transpose(0, 2, 1), residuals[:, :, None])[:, :, 0]
    hessian = np.matmul(weighted.transpose(0, 2, 1), jacobian)
    pressed = ((u <= problem.lower_P) & (gradient > 0)) | ((u >= problem.upper_P) & (gradient < 0))
    moving = free & ~pressed
    step = _solve_damped(hessian, gradient, moving, damping)
    to_bound = np.clip(u + step, problem.lower_P, problem.upper_P) - u
    crossing = to_bound != step
    if crossing.any():
        held = np.where(crossing, to_bound, 0.0)
        shifted = gradient + np.matmul(hessian, held[:, :, None])[:, :, 0]
        step = held + _solve_damped(hessian, shifted, moving & ~crossing, damping)
    return step


def _solve_damped(hessian, gradient, moving, damping) -> np.ndarray:
    """(B, P) solutions of (H + damping diag H) step = -gradient; 0 in coordinates that do not move."""
    gradient = np.where(moving, gradient, 0.0)
    hessian = np.where(moving[:, :, None] & moving[:, None, :], hessian, 0.0)
    scale = np.sqrt(np.einsum("bpp->bp", hessian))
    scale = np.where(scale > 0, scale, 1.0)
    scaled = hessian / (scale[:, :, None] * scale[:, None, :])
    diagonal = np.arange(gradient.shape[1])
    scaled[:, diagonal, diagonal] = np.where(moving, scaled[:, diagonal, diagonal], 1.0) + damping[:, None]
    return -np.linalg.solve(scaled, (gradient / scale)[:, :, None])[:, :, 0] / scale


def polish(problem: Problem, u_P: np.ndarray, max_iterations: int = 500) -> tuple[np.ndarray, float, bool]:
    """L-BFGS-B from one point: (coordinates, objective, converged). Where Huber is nearly an absolute value,
    reweighting converges slowly and this finishes the work."""
    free = np.flatnonzero(problem.free_P)

    def objective(v: np.ndarray) -> tuple[float, np.ndarray]:
        u = u_P.copy()
        u[free] = v
        residuals = problem.residuals(u[None], problem.y_n)
        value = _objective(problem, residuals, np.ones_like(residuals))[0]
        psi_n = residuals[0] * problem.loss.weights(residuals)[0]
        return scale * value, scale * (psi_n @ problem.jacobian(u[None], residuals, problem.y_n)[0])[free]

    scale = 1.0
    first = objective(u_P[free])[0]
    scale = 1.0 / first if first > 0 else 1.0
    found = scipy.optimize.minimize(
        objective,
        u_P[free],
        jac=True,
        method="L-BFGS-B",
        bounds=list(zip(problem.lower_P[free], problem.upper_P[free], strict=True)),
        options={"maxiter": max_iterations, "ftol": 1e-14, "gtol": 1e-9, "maxcor": 20},
    )
    if not found.fun < scale * first:
        return u_P, first, True
    u = u_P.copy()
    u[free] = found.x
    return u, float(found.fun / scale), found.nit < max_iterations
