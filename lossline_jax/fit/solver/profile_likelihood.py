"""Profile-likelihood intervals: the values that a parameter can take while the other parameters compensate.

A parameter is held at a value and all others are fitted again. The interval ends where the objective has risen too far.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
import scipy.special

from lossline_jax.fit.solver.levenberg_marquardt import Minima, minimise
from lossline_jax.fit.solver.problem import Problem

# Shares of the way from the minimum to a bound: the values of the first pass. A choice.
FRACTIONS = np.array([1e-5, 1e-4, 1e-3, 0.005, 0.02, 0.05, 0.1, 0.18, 0.3, 0.45, 0.65, 0.85, 1.0])
REFINEMENT = np.linspace(0.0, 1.0, 9)  # shares of the step in which the second pass expects the crossing. A choice.
PROFILE_ITERATIONS = 80  # largest number of steps of one descent. A choice: it starts near its minimum.


def allowed_increase(problem: Problem, u_P: np.ndarray, level: float) -> float:
    """Return the rise of the objective above its minimum that the interval allows.

    The rise is half the F(1, n - P) quantile times the dispersion sum psi^2 / (n - P) / mean psi'. This is the
    drop-in-dispersion test of Schrader & Hettmansperger 1980. For least squares the dispersion is the usual s^2. For
    Huber's function, mean psi' is the density of residuals about zero, counted within half a robust standard deviation.
    Points count as independent: with few runs, trust the clustered bootstrap more.

    Args:
        problem: the problem.
        u_P: the minimum, in search coordinates.
        level: the level of the interval, between 0 and 1.
    """
    residuals = problem.residuals(u_P[None])[0]
    degrees_of_freedom = problem.num_points - problem.num_free
    psi, slope, delta = residuals, 1.0, problem.objective.delta
    if delta is not None:
        psi = np.clip(residuals, -delta, delta)
        robust_deviation = 1.4826 * float(np.median(np.abs(residuals)))  # 1.4826: exact for normal residuals
        window = max(delta, 0.5 * robust_deviation)
        slope = delta * float(np.mean(np.abs(residuals) <= window)) / window
    quantile = scipy.special.fdtri(1, degrees_of_freedom, level)
    return 0.5 * float(quantile * np.sum(problem.weights_n * psi**2) / degrees_of_freedom / slope)


@dataclasses.dataclass(frozen=True)
class Profile:
    """The intervals of a profile, and the best point that the profile met."""

    intervals: dict[str, tuple[float, float]]  # by parameter name, in natural units
    reached: tuple[str, ...]  # names of the parameters whose interval reaches a bound of the search
    met_objective: float  # the lowest objective met; the caller compares it with the minimum that it gave
    met_P: np.ndarray  # its search coordinates


# (problem, minimum, level) -> the allowed rise of the objective, one for all parameters or one for each
Limits = Callable[[Problem, np.ndarray, float], float | np.ndarray]


def profile_intervals(
    problem: Problem, u_P: np.ndarray, objective: float, level: float, *, limits: Limits = allowed_increase
) -> Profile:
    """Profile every free parameter in both directions from the minimum.

    Normalisation mixes some parameters with others, such as Chinchilla's A with alpha. Such a parameter is profiled on
    the raw inputs, because only there its value is the value of the law.

    Args:
        problem: the problem.
        u_P: the minimum, in search coordinates.
        objective: the objective at the minimum.
        level: the level of the intervals, between 0 and 1.
        limits: gives the rise of the objective that the intervals allow.
    """
    scaled = problem.law.scaled
    indices = [k for k, name in enumerate(problem.law.names) if name not in scaled]
    profile = _profile_all(problem, u_P, objective, limits=limits(problem, u_P, level), indices=indices)
    if not scaled:
        return profile
    raw = problem.unscaled(u_P)
    indices = [problem.law.names.index(name) for name in scaled]
    raw_P = raw.search(problem.natural(u_P))
    profile_of_scaled = _profile_all(raw, raw_P, objective, limits=limits(raw, raw_P, level), indices=indices)
    intervals = profile.intervals | profile_of_scaled.intervals
    in_order = {name: intervals[name] for name in problem.law.names if name in intervals}
    return dataclasses.replace(profile, intervals=in_order)


def _profile_all(
    problem: Problem, u_P: np.ndarray, objective: float, *, limits: float | np.ndarray, indices: list[int]
) -> Profile:
    """Profile the parameters of some indices.

    A first pass holds each parameter at fractions of its way to each bound. Valleys bend, so a descent from the minimum
    may stop short. Therefore every point met within the allowed rise counts for all parameters, not only for the
    parameter that was held. A second pass looks for the crossing, starting from the farthest such point.
    """
    limit_P = np.broadcast_to(limits, u_P.shape)
    sides = [(k, end) for k in indices if problem.free_P[k] for end in (problem.lower_P[k], problem.upper_P[k])]
    if not sides:
        return Profile({}, (), objective, u_P)
    held_S = np.array([k for k, _ in sides])
    distance_S = np.array([end - u_P[k] for k, end in sides])
    at_minimum_SP = np.repeat(u_P[None], len(sides), axis=0)
    offsets_SF = distance_S[:, None] * FRACTIONS
    first = _minimise_others(problem, held_S, u_P[held_S, None] + offsets_SF, at_minimum_SP)
    met = np.concatenate([u_P[None], first.u_BP])
    rise = np.concatenate([[0.0], first.objective_B - objective])
    farthest_S, farthest_SP = np.zeros(len(sides)), at_minimum_SP.copy()
    for side, k in enumerate(held_S):
        if distance_S[side]:
            within = met[rise <= limit_P[k]]
            shares = (within[:, k] - u_P[k]) / distance_S[side]
            farthest_S[side], farthest_SP[side] = shares.max(), within[shares.argmax()]
    beyond_S = FRACTIONS[np.minimum(np.searchsorted(FRACTIONS, farthest_S * (1 + 1e-9)) + 1, FRACTIONS.size - 1)]
    fine_SF = farthest_S[:, None] + (beyond_S - farthest_S)[:, None] * REFINEMENT
    to_the_bound_SF = beyond_S[:, None] ** np.array([2 / 3, 1 / 3, 0.0])
    grid_SF = np.concatenate([fine_SF, to_the_bound_SF], axis=1)
    offsets_SF = distance_S[:, None] * grid_SF
    second = _minimise_others(problem, held_S, u_P[held_S, None] + offsets_SF, farthest_SP)
    rises_SF = np.maximum(second.objective_B.reshape(grid_SF.shape) - objective, 0.0)
    ends: dict[str, list[float]] = {}
    reached = []
    for side, k in enumerate(held_S):
        share, crossed = _crossing(grid_SF[side], np.sqrt(rises_SF[side]), float(np.sqrt(limit_P[k])))
        parameter = problem.law.parameters[k]
        if not crossed:
            reached.append(parameter.name)
        value = float(u_P[k] + share * distance_S[side])
        ends.setdefault(parameter.name, []).append(float(np.exp(value)) if parameter.log else value)
    intervals = {name: (min(pair), max(pair)) for name, pair in ends.items()}
    lowest = min((first, second), key=lambda minima: minima.objective_B.min())
    best = int(lowest.objective_B.argmin())
    return Profile(intervals, tuple(dict.fromkeys(reached)), float(lowest.objective_B[best]), lowest.u_BP[best])


def _minimise_others(problem: Problem, held_S: np.ndarray, values_SF: np.ndarray, start_SP: np.ndarray) -> Minima:
    """Minimise with one coordinate held, for S sides of F values each.

    Args:
        problem: the problem.
        held_S: the index of the coordinate that is held.
        values_SF: the values at which it is held; they are clipped to the bounds.
        start_SP: the start of all other coordinates.

    Returns:
        The minima of S x F lanes, side after side.
    """
    num_values = values_SF.shape[1]
    start = np.repeat(start_SP, num_values, axis=0)
    free = np.ones_like(start, bool)
    held = np.repeat(held_S, num_values)
    lanes = np.arange(start.shape[0])
    start[lanes, held] = np.clip(values_SF.ravel(), problem.lower_P[held], problem.upper_P[held])
    free[lanes, held] = False
    return minimise(problem, start, free_BP=free, max_iterations=PROFILE_ITERATIONS)


def _crossing(fractions: np.ndarray, roots: np.ndarray, limit: float) -> tuple[float, bool]:
    """Return the fraction at which the root of the rise first passes `limit`, and whether it does.

    The root of the rise is nearly linear in the parameter, so the crossing is interpolated linearly.
    """
    above = roots > limit
    if not above.any():
        return float(fractions[-1]), False
    k = int(np.argmax(above))
    if k == 0 or not np.isfinite(roots[k]):
        return float(fractions[max(k - 1, 0)]), True
    share = (limit - roots[k - 1]) / (roots[k] - roots[k - 1])
    return float(fractions[k - 1] + share * (fractions[k] - fractions[k - 1])), True
