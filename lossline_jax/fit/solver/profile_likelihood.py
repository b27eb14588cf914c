"""Profile-likelihood intervals: the values that a parameter can take while the other parameters compensate.

A parameter is held at a value and all others are fitted again. The interval ends where the objective has risen too far.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import scipy.special

from lossline_jax.fit.solver.batching import FitTask
from lossline_jax.fit.solver.condensed import can_be_condensed, condensed, is_faithful
from lossline_jax.fit.solver.levenberg_marquardt import Minima, minimise_all
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
    problems: Sequence[Problem],
    minima: Sequence[tuple[np.ndarray, float]],
    level: float,
    *,
    limits: Limits = allowed_increase,
) -> list[Profile]:
    """Profile every free parameter of each problem in both directions from its minimum.

    Normalisation mixes some parameters with others, such as Chinchilla's A with alpha. Such a parameter is profiled on
    the raw inputs, because only there its value is the value of the law.

    Args:
        problems: problems of one law and one objective.
        minima: the minimum of each problem: its search coordinates, and the objective there.
        level: the level of the intervals, between 0 and 1.
        limits: gives the rise of the objective that the intervals allow.
    """
    law = problems[0].law
    scaled = law.scaled
    indices = [k for k, name in enumerate(law.names) if name not in scaled]
    profiles = _profile_all(problems, minima, indices, level=level, limits=limits)
    if not scaled:
        return profiles
    raw = [problem.unscaled(u_P) for problem, (u_P, _) in zip(problems, minima, strict=True)]
    raw_minima = [
        (of_raw.search(problem.natural(u_P)), objective)
        for of_raw, problem, (u_P, objective) in zip(raw, problems, minima, strict=True)
    ]
    indices = [law.names.index(name) for name in scaled]
    profiles_of_scaled = _profile_all(raw, raw_minima, indices, level=level, limits=limits)
    return [
        dataclasses.replace(profile, intervals=_in_order(law.names, profile.intervals | of_scaled.intervals))
        for profile, of_scaled in zip(profiles, profiles_of_scaled, strict=True)
    ]


def _in_order(names: Sequence[str], intervals: Mapping[str, tuple[float, float]]) -> dict[str, tuple[float, float]]:
    return {name: intervals[name] for name in names if name in intervals}


@dataclasses.dataclass(frozen=True, eq=False)
class _Sides:
    """The S sides on which a problem is profiled: a free parameter, and the way to one of its bounds."""

    problem: Problem
    u_P: np.ndarray  # the minimum
    objective: float  # of the minimum
    constant: float  # objective on all points minus that of `problem`, which may be condensed
    limit_P: np.ndarray  # the rise of the objective that the interval of each parameter allows
    held_S: np.ndarray  # index of the parameter
    distance_S: np.ndarray  # from the minimum to the bound

    @classmethod
    def of(
        cls, problem: Problem, minimum: tuple[np.ndarray, float], indices: list[int], *, level: float, limits: Limits
    ) -> "_Sides":
        u_P, objective = minimum
        limit_P = np.broadcast_to(limits(problem, u_P, level), u_P.shape)
        constant = 0.0
        if can_be_condensed(problem) and is_faithful(problem, small := condensed(problem), u_P):
            problem = small
            constant = objective - float(np.sum(problem.weights_n * problem.residuals(u_P[None])[0] ** 2)) / 2
        sides = [(k, end) for k in indices if problem.free_P[k] for end in (problem.lower_P[k], problem.upper_P[k])]
        held_S = np.array([k for k, _ in sides], int)
        distance_S = np.array([end - u_P[k] for k, end in sides])
        return cls(problem, u_P, objective - constant, constant, limit_P, held_S, distance_S)

    def others(self, shares_SF: np.ndarray, start_SP: np.ndarray) -> FitTask:
        """Return the task that minimises with one coordinate held, for S sides of F values each, side after side.

        Args:
            shares_SF: the values at which it is held, as shares of the way to the bound; they are clipped to the
                bounds.
            start_SP: the start of all other coordinates.
        """
        values_SF = self.u_P[self.held_S, None] + self.distance_S[:, None] * shares_SF
        start = np.repeat(start_SP, values_SF.shape[1], axis=0)
        free = np.ones_like(start, bool)
        held = np.repeat(self.held_S, values_SF.shape[1])
        lanes = np.arange(start.shape[0])
        start[lanes, held] = np.clip(values_SF.ravel(), self.problem.lower_P[held], self.problem.upper_P[held])
        free[lanes, held] = False
        return FitTask(self.problem, start, free_BP=free)

    def first(self) -> FitTask:
        """Return the first pass: fractions of the way to each bound, from the minimum."""
        return self.others(np.tile(FRACTIONS, (self.held_S.size, 1)), np.repeat(self.u_P[None], self.held_S.size, 0))

    def second(self, first: Minima) -> tuple[np.ndarray, FitTask]:
        """Return the (S, F) shares of the second pass, and the pass: finer, from the farthest point that was met."""
        at_minimum_SP = np.repeat(self.u_P[None], self.held_S.size, axis=0)
        met = np.concatenate([self.u_P[None], first.u_BP])
        rise = np.concatenate([[0.0], first.objective_B - self.objective])
        farthest_S, farthest_SP = np.zeros(self.held_S.size), at_minimum_SP
        for side, k in enumerate(self.held_S):
            if self.distance_S[side]:
                within = met[rise <= self.limit_P[k]]
                shares = (within[:, k] - self.u_P[k]) / self.distance_S[side]
                farthest_S[side], farthest_SP[side] = shares.max(), within[shares.argmax()]
        beyond_S = FRACTIONS[np.minimum(np.searchsorted(FRACTIONS, farthest_S * (1 + 1e-9)) + 1, FRACTIONS.size - 1)]
        fine_SF = farthest_S[:, None] + (beyond_S - farthest_S)[:, None] * REFINEMENT
        to_the_bound_SF = beyond_S[:, None] ** np.array([2 / 3, 1 / 3, 0.0])
        grid_SF = np.concatenate([fine_SF, to_the_bound_SF], axis=1)
        return grid_SF, self.others(grid_SF, farthest_SP)

    def profile(self, first: Minima, grid_SF: np.ndarray, second: Minima) -> Profile:
        """Return the intervals of both passes."""
        rises_SF = np.maximum(second.objective_B.reshape(grid_SF.shape) - self.objective, 0.0)
        ends: dict[str, list[float]] = {}
        reached = []
        for side, k in enumerate(self.held_S):
            share, crossed = _crossing(grid_SF[side], np.sqrt(rises_SF[side]), float(np.sqrt(self.limit_P[k])))
            parameter = self.problem.law.parameters[k]
            if not crossed:
                reached.append(parameter.name)
            value = float(self.u_P[k] + share * self.distance_S[side])
            ends.setdefault(parameter.name, []).append(float(np.exp(value)) if parameter.log else value)
        intervals = {name: (min(pair), max(pair)) for name, pair in ends.items()}
        lowest = min((first, second), key=lambda minima: minima.objective_B.min())
        best = int(lowest.objective_B.argmin())
        met_objective = float(lowest.objective_B[best]) + self.constant
        return Profile(intervals, tuple(dict.fromkeys(reached)), met_objective, lowest.u_BP[best])


def _profile_all(
    problems: Sequence[Problem],
    minima: Sequence[tuple[np.ndarray, float]],
    indices: list[int],
    *,
    level: float,
    limits: Limits,
) -> list[Profile]:
    """Profile the parameters of some indices, in all problems at once.

    A first pass holds each parameter at fractions of its way to each bound. Valleys bend, so a descent from the minimum
    may stop short. Therefore every point met within the allowed rise counts for all parameters, not only for the
    parameter that was held. A second pass looks for the crossing, starting from the farthest such point.
    """
    sides = [
        _Sides.of(problem, minimum, indices, level=level, limits=limits)
        for problem, minimum in zip(problems, minima, strict=True)
    ]
    held = [k for k, of_problem in enumerate(sides) if of_problem.held_S.size]
    profiles = [Profile({}, (), of_problem.objective + of_problem.constant, of_problem.u_P) for of_problem in sides]
    first = minimise_all([sides[k].first() for k in held], max_iterations=PROFILE_ITERATIONS)
    passes = [sides[k].second(minima_of_first) for k, minima_of_first in zip(held, first, strict=True)]
    second = minimise_all([task for _, task in passes], max_iterations=PROFILE_ITERATIONS)
    for k, of_first, (grid_SF, _), of_second in zip(held, first, passes, second, strict=True):
        profiles[k] = sides[k].profile(of_first, grid_SF, of_second)
    return profiles


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
