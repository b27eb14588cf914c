"""Minimise the sum of the objectives of several data sets that share the values of some parameters.

The shared values are the outer coordinates. For each of their values, every data set is minimised over its own
parameters (variable projection, Golub & Pereyra 1973), all in the batched solver. The outer steps are quasi-Newton
steps: the gradient of the sum is that of the objectives at fixed own parameters, because these are at their minimum.
Letters of shapes: G data sets, L lanes, P parameters of the law, q shared parameters, n points.
"""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lossline_jax.fit.solver.batching import FitTask
from lossline_jax.fit.solver.derivatives import curves_and_jacobians
from lossline_jax.fit.solver.levenberg_marquardt import minimise_all
from lossline_jax.fit.solver.problem import Problem

# All numbers below are choices.
MAX_STEPS = 60  # outer steps of a lane
SMALL_GAIN = 1e-10  # relative gain in the objective; two outer steps with no larger gain: converged
SMALLEST_TRUST = 1e-6  # share of a quasi-Newton step; with less, no downhill step is left: converged
INNER_STEPS = 100  # steps of the fits of one data set
SMALLEST_CURVATURE = 1e-12  # of an outer step, relative to the diagonal; a flatter direction counts as this curved
RIDGE = 1e-9  # relative to the diagonal: it only keeps columns that are nearly alike solvable


@dataclass(frozen=True, eq=False)
class JointProblem:
    """Data sets of one law and one objective, and the parameters that they share."""

    problems: tuple[Problem, ...]
    shared: tuple[int, ...]  # indices of the shared parameters

    @property
    def own(self) -> tuple[tuple[int, ...], ...]:
        """The indices of the free parameters of each data set that are not shared."""
        return tuple(
            tuple(k for k in range(problem.free_P.size) if problem.free_P[k] and k not in self.shared)
            for problem in self.problems
        )

    @property
    def num_free(self) -> int:
        """The number of free parameters of all data sets together."""
        return len(self.shared) + sum(map(len, self.own))

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (q,) lower and upper bounds of the shared parameters: the range that all data sets allow."""
        shared = list(self.shared)
        lower = np.max([problem.lower_P[shared] for problem in self.problems], axis=0)
        upper = np.min([problem.upper_P[shared] for problem in self.problems], axis=0)
        return lower, upper


@dataclass(frozen=True)
class JointPoints:
    """Lanes of a joint problem, at the minimum over the own parameters of each data set."""

    u_GLP: np.ndarray
    objective_L: np.ndarray
    gradient_Lq: np.ndarray  # of the objective, by the shared parameters
    tangent_GLPq: np.ndarray  # change of the own parameters for a change of the shared ones, by the linearised law

    def take(self, lanes: np.ndarray) -> "JointPoints":
        """Return some of the lanes."""
        return JointPoints(
            self.u_GLP[:, lanes], self.objective_L[lanes], self.gradient_Lq[lanes], self.tangent_GLPq[:, lanes]
        )

    def replaced(self, lanes: np.ndarray, points: "JointPoints", better: np.ndarray) -> "JointPoints":
        """Return the lanes with those of `points` in the place of the lanes that are better."""
        at = lanes[better]
        u, objective, gradient, tangent = (np.array(part) for part in dataclasses.astuple(self))
        u[:, at], objective[at] = points.u_GLP[:, better], points.objective_L[better]
        gradient[at], tangent[:, at] = points.gradient_Lq[better], points.tangent_GLPq[:, better]
        return JointPoints(u, objective, gradient, tangent)


def minimise_own(joint: JointProblem, start_GLP: np.ndarray, held_GLP: np.ndarray) -> JointPoints:
    """Minimise each data set over its own parameters. The shared parameters stay at their values in `start_GLP`.

    Args:
        joint: the joint problem.
        start_GLP: the start of each data set and lane, in search coordinates.
        held_GLP: True for own parameters that stay at their start.
    """
    shared = list(joint.shared)
    free_GLP = ~held_GLP
    free_GLP[:, :, shared] = False
    tasks = [
        FitTask(problem, start_LP, free_BP=free_LP)
        for problem, start_LP, free_LP in zip(joint.problems, start_GLP, free_GLP, strict=True)
    ]
    minima = minimise_all(tasks, max_iterations=INNER_STEPS)
    gradient_Lq = np.zeros((start_GLP.shape[1], len(shared)))
    tangents = []
    for problem, minimum, free_LP in zip(joint.problems, minima, free_GLP, strict=True):
        residual_Ln = problem.residuals(minimum.u_BP)
        derivatives = curves_and_jacobians([problem] * len(minimum.u_BP), list(minimum.u_BP))
        jacobian_LnP = np.stack([jacobian for _, jacobian in derivatives])
        delta = np.inf if problem.objective.delta is None else problem.objective.delta
        score_Ln = problem.weights_n * np.clip(residual_Ln, -delta, delta)
        gradient_Lq += np.einsum("ln,lnq->lq", score_Ln, jacobian_LnP[:, :, shared])
        tangents.append(_tangent(jacobian_LnP, free_LP & problem.free_P, shared))
    objective_L = np.sum([minimum.objective_B for minimum in minima], axis=0)
    return JointPoints(np.stack([minimum.u_BP for minimum in minima]), objective_L, gradient_Lq, np.stack(tangents))


def _tangent(jacobian_LnP: np.ndarray, free_LP: np.ndarray, shared: Sequence[int]) -> np.ndarray:
    """Return (L, P, q) the change of the free parameters that keeps the residuals least when shared ones change."""
    curvature = np.einsum("lni,lnj->lij", jacobian_LnP, jacobian_LnP)
    diagonal = np.einsum("lii->li", curvature)
    scale = np.where(free_LP & (diagonal > 0), 1 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    scaled = curvature * scale[:, :, None] * scale[:, None, :]
    size = scaled.shape[1]
    scaled[:, np.arange(size), np.arange(size)] = 1 + RIDGE
    return -scale[:, :, None] * np.linalg.solve(scaled, scale[:, :, None] * curvature[:, :, shared])


def minimise_jointly(
    joint: JointProblem, start_GLP: np.ndarray, *, held_GLP: np.ndarray | None = None, held_Lq: np.ndarray | None = None
) -> tuple[JointPoints, np.ndarray]:
    """Minimise the sum of all objectives from every start. Return the minima, and (L,) whether a lane converged.

    Args:
        joint: the joint problem.
        start_GLP: the start of each data set and lane. Its shared parameters are equal in all data sets.
        held_GLP: True for own parameters that stay at their start. None: all are free.
        held_Lq: True for shared parameters that stay at their start. None: all are free.
    """
    shared, (lower, upper) = list(joint.shared), joint.bounds()
    num_lanes = start_GLP.shape[1]
    held_GLP = np.zeros(start_GLP.shape, bool) if held_GLP is None else held_GLP
    free_Lq = np.ones((num_lanes, len(shared)), bool) if held_Lq is None else ~held_Lq
    best = minimise_own(joint, start_GLP, held_GLP)
    hessian = _first_hessian(joint, best)
    trust, num_small = np.ones(num_lanes), np.zeros(num_lanes, int)
    for _ in range(MAX_STEPS):
        lanes = np.flatnonzero((num_small < 2) & (trust > SMALLEST_TRUST) & free_Lq.any(axis=1))
        if not lanes.size:
            break
        now = best.take(lanes)
        values_Lq = now.u_GLP[0][:, shared]
        room = lower - values_Lq, upper - values_Lq
        step_Lq = _bounded_step(now.gradient_Lq, hessian[lanes], free_Lq[lanes], room)
        step_Lq *= trust[lanes, None]
        tried_GLP = now.u_GLP + np.einsum("glpq,lq->glp", now.tangent_GLPq, step_Lq)
        tried_GLP[:, :, shared] = (values_Lq + step_Lq)[None]
        tried = minimise_own(joint, np.where(held_GLP[:, lanes], now.u_GLP, tried_GLP), held_GLP[:, lanes])
        gain = now.objective_L - tried.objective_L
        better = gain > 0
        small = np.abs(gain) <= SMALL_GAIN * now.objective_L
        for row, lane in enumerate(lanes):
            hessian[lane] = _updated(hessian[lane], step_Lq[row], tried.gradient_Lq[row] - now.gradient_Lq[row])
        trust[lanes] = np.where(better, np.minimum(1.0, 2 * trust[lanes]), 0.25 * trust[lanes])
        num_small[lanes] = np.where(small, num_small[lanes] + 1, 0)
        best = best.replaced(lanes, tried, better)
    converged = (num_small >= 2) | (trust <= SMALLEST_TRUST) | ~free_Lq.any(axis=1)
    return best, converged & np.isfinite(best.objective_L)


def _first_hessian(joint: JointProblem, points: JointPoints) -> np.ndarray:
    """Return (L, q, q) the curvature of the sum by the shared parameters, each own parameter following its tangent."""
    shared = list(joint.shared)
    total = np.zeros((points.objective_L.size, len(shared), len(shared)))
    for problem, u_LP, tangent_LPq in zip(joint.problems, points.u_GLP, points.tangent_GLPq, strict=True):
        derivatives = curves_and_jacobians([problem] * len(u_LP), list(u_LP))
        jacobian_LnP = np.stack([jacobian for _, jacobian in derivatives])
        along_Lnq = jacobian_LnP[:, :, shared] + np.einsum("lnp,lpq->lnq", jacobian_LnP, tangent_LPq)
        weights = problem.weights_n
        if problem.objective.delta is not None:  # the mean curvature of iterated reweighting
            residual_Ln = np.maximum(np.abs(problem.residuals(u_LP)), problem.objective.delta)
            weights = problem.weights_n * problem.objective.delta / residual_Ln
        total += np.einsum("lnq,ln,lnr->lqr", along_Lnq, np.broadcast_to(weights, along_Lnq.shape[:2]), along_Lnq)
    size = len(shared)
    total[:, np.arange(size), np.arange(size)] *= 1 + RIDGE
    return total


def _bounded_step(
    gradient_Lq: np.ndarray, hessian_Lqq: np.ndarray, free_Lq: np.ndarray, room: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Return (L, q) quasi-Newton steps. A coordinate that presses against its bound, or is held, does not move."""
    low_Lq, high_Lq = room
    moving = free_Lq & ~(((low_Lq >= 0) & (gradient_Lq > 0)) | ((high_Lq <= 0) & (gradient_Lq < 0)))
    diagonal_Lq = np.einsum("lqq->lq", hessian_Lqq)
    scale_Lq = np.where(moving & (diagonal_Lq > 0), 1 / np.sqrt(np.where(diagonal_Lq > 0, diagonal_Lq, 1.0)), 0.0)
    scaled = hessian_Lqq * scale_Lq[:, :, None] * scale_Lq[:, None, :]
    size = gradient_Lq.shape[1]
    scaled[:, np.arange(size), np.arange(size)] = 1.0
    # Shared parameters that nearly compensate each other, such as A and alpha, leave the table singular to rounding.
    curvature_Lq, directions = np.linalg.eigh(scaled)
    curvature_Lq = np.maximum(curvature_Lq, SMALLEST_CURVATURE)
    along_Lq = np.einsum("lqk,lq->lk", directions, scale_Lq * gradient_Lq) / curvature_Lq
    step = -scale_Lq * np.einsum("lqk,lk->lq", directions, along_Lq)
    return np.clip(step, low_Lq, high_Lq)


def _updated(hessian: np.ndarray, step: np.ndarray, change: np.ndarray) -> np.ndarray:
    """Return the Hessian after the BFGS formula, or as it is where the formula would not keep it positive."""
    along, curved = float(step @ change), hessian @ step
    if not np.isfinite(along) or along <= 1e-12 * np.linalg.norm(step) * np.linalg.norm(change):
        return hessian
    return hessian + np.outer(change, change) / along - np.outer(curved, curved) / float(step @ curved)
