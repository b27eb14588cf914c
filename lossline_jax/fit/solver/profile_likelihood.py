"""Profile-likelihood intervals: how far a parameter can go while the others make up for it."""

import dataclasses

import numpy as np
import scipy.special

from lossline_jax.fit.solver.levenberg_marquardt import Minima, minimise
from lossline_jax.fit.solver.problem import Problem

FRACTIONS = np.array([1e-5, 1e-4, 1e-3, 0.005, 0.02, 0.05, 0.1, 0.18, 0.3, 0.45, 0.65, 0.85, 1.0])
REFINEMENT = np.linspace(0.0, 1.0, 9)


def allowed_increase(problem: Problem, u_P: np.ndarray, level: float) -> float:
    """How much the objective may rise above its minimum inside the interval.

    Half the F(1, n - P) quantile times the dispersion sum psi^2 / (n - P) / mean psi' (the drop-in-dispersion
    test, Schrader & Hettmansperger 1980). For least squares this is the usual s^2; for Huber, mean psi' is
    the density of residuals about zero, counted within half a robust standard deviation. Points count as
    independent: with few runs, trust the clustered bootstrap more.
    """
    residuals = problem.residuals(u_P[None])[0]
    freedom = problem.num_points - problem.num_free
    psi, slope, delta = residuals, 1.0, problem.objective.delta
    if delta is not None:
        psi = np.clip(residuals, -delta, delta)
        window = max(delta, 0.5 * 1.4826 * float(np.median(np.abs(residuals))))
        slope = delta * float(np.mean(np.abs(residuals) <= window)) / window
    return 0.5 * float(scipy.special.fdtri(1, freedom, level) * np.sum(problem.weights_n * psi**2) / freedom / slope)


@dataclasses.dataclass(frozen=True)
class Profile:
    """Intervals in natural units by name; the names whose interval reaches a bound of the search; and the
    lowest objective met with its coordinates (P,), for the caller to notice a better minimum."""

    intervals: dict[str, tuple[float, float]]
    reached: tuple[str, ...]
    met_objective: float
    met_P: np.ndarray


def profile_intervals(problem: Problem, u_P: np.ndarray, objective: float, level: float) -> Profile:
    """Profile every free parameter both ways from the minimum.

    A parameter that normalisation mixes with others (Chinchilla's A with alpha) is profiled on the inputs as
    they are, where it means what its name says.
    """
    scaled = problem.law.scaled
    ends, reached, met = _profile_all(
        problem,
        u_P,
        objective,
        level,
        [k for k, p in enumerate(problem.law.parameters) if p.name not in scaled],
    )
    if scaled:
        raw = problem.unscaled(u_P)
        indices = [problem.law.names.index(name) for name in scaled]
        more, _, _ = _profile_all(raw, raw.search(problem.natural(u_P)), objective, level, indices)
        ends |= more
    return Profile({name: ends[name] for name in problem.law.names if name in ends}, reached, *met)


def _profile_all(problem: Problem, u_P: np.ndarray, objective: float, level: float, indices: list[int]):
    """Natural intervals by name, names that reach a bound, the lowest objective met and where.

    A first pass holds each parameter at fractions of its way to each bound. Valleys bend, so a descent from
    the minimum may stop short: every place met within the allowed rise, on whichever parameter's account,
    counts for all parameters, and a second pass looks for the crossing from the farthest such place.
    """
    limit = allowed_increase(problem, u_P, level)
    sides = [(k, end) for k in indices if problem.free_P[k] for end in (problem.lower_P[k], problem.upper_P[k])]
    if not sides:
        return {}, (), (objective, u_P)
    distance = np.array([end - u_P[k] for k, end in sides])
    first = _descend(problem, sides, np.repeat(u_P[None], len(sides), axis=0), u_P, distance, FRACTIONS)
    met = np.concatenate([u_P[None], first.u_BP])
    rise = np.concatenate([[0.0], first.objective_B - objective])
    within = met[rise <= limit]
    near, place = np.zeros(len(sides)), np.repeat(u_P[None], len(sides), axis=0)
    for row, (k, _) in enumerate(sides):
        if distance[row]:
            shares = (within[:, k] - u_P[k]) / distance[row]
            near[row], place[row] = shares.max(), within[shares.argmax()]
    beyond = FRACTIONS[np.minimum(np.searchsorted(FRACTIONS, near * (1 + 1e-9)) + 1, FRACTIONS.size - 1)]
    fine = near[:, None] + (beyond - near)[:, None] * REFINEMENT
    grid = np.concatenate([fine, beyond[:, None] ** np.array([2 / 3, 1 / 3, 0.0])], axis=1)  # on to the bound
    second = _descend(problem, sides, place, u_P, distance, grid)
    rises = np.maximum(second.objective_B.reshape(grid.shape) - objective, 0.0)
    ends: dict[str, list[float]] = {}
    reached = []
    for row, (k, _) in enumerate(sides):
        share, crossed = _crossing(grid[row], np.sqrt(rises[row]), np.sqrt(limit))
        parameter = problem.law.parameters[k]
        if not crossed:
            reached.append(parameter.name)
        value = float(u_P[k] + share * distance[row])
        ends.setdefault(parameter.name, []).append(float(np.exp(value)) if parameter.log else value)
    intervals = {name: (min(pair), max(pair)) for name, pair in ends.items()}
    lowest = min((first, second), key=lambda minima: minima.objective_B.min())
    best = int(lowest.objective_B.argmin())
    return intervals, tuple(dict.fromkeys(reached)), (float(lowest.objective_B[best]), lowest.u_BP[best])


def _descend(problem: Problem, sides, start_SP, u_P, distance_S, fractions) -> Minima:
    """Minimise with one coordinate held at each of (S, F) fractions of its way; sides in blocks of F."""
    offsets = distance_S[:, None] * fractions
    start = np.repeat(start_SP, offsets.shape[1], axis=0)
    free = np.ones_like(start, bool)
    held = np.repeat([k for k, _ in sides], offsets.shape[1])
    rows = np.arange(start.shape[0])
    start[rows, held] = np.clip(u_P[held] + offsets.ravel(), problem.lower_P[held], problem.upper_P[held])
    free[rows, held] = False
    return minimise(problem, start, free_BP=free, max_iterations=80)


def _crossing(fractions: np.ndarray, roots: np.ndarray, limit: float) -> tuple[float, bool]:
    """Where the root of the rise, nearly linear in the parameter, first passes `limit`; whether it does."""
    above = roots > limit
    if not above.any():
        return float(fractions[-1]), False
    k = int(np.argmax(above))
    if k == 0 or not np.isfinite(roots[k]):
        return float(fractions[max(k - 1, 0)]), True
    share = (limit - roots[k - 1]) / (roots[k] - roots[k - 1])
    return float(fractions[k - 1] + share * (fractions[k] - fractions[k - 1])), True
