"""Estimate the noise of rows in groups: its size, which may change from group to group, and the part that is shared.

The error of a row is s (sqrt(rho) u + sqrt(1 - rho) v). The rows of a group share u, and each row has its own v; both
are standard normal. s may be a power of the budget of the group, and differ between blocks of rows. The fit absorbs a
part of the errors, so the model is estimated by restricted maximum likelihood (Patterson & Thompson 1971), with the law
linearised at its minimum.

Profile intervals keep their form. Only the rise of the objective that they allow changes, for each parameter by the
ratio of its two variances: that of the grouped noise, and that which the curvature of the objective implies (Kent 1982,
Biometrika 69; Chandler & Bate 2007, Biometrika 94). The quantile is Student's, with Satterthwaite's degrees of freedom.
Letters of shapes: n points, G groups, P free parameters.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
import scipy.special

# All numbers below are choices.
DIFFERS_BELOW = 0.05  # p of the test that s changes with the budget; below it, the model has this change
SHARED_BELOW = 0.25  # p of the test that rho is 0. A high level, because an error that is missed costs more
FARTHEST = 5.0  # robust standard deviations: a residual beyond counts as one at this distance
LOG_RATIOS = np.linspace(-8.0, 7.0, 61)  # first grid of ln(rho / (1 - rho))
SHARED_ERRORS = np.linspace(-6.0, 6.0, 401)  # standard deviations: the grid of an integral over u
TINY = 1e-8  # relative: a shorter column is rounding error
# Share of the largest weight. The fit absorbs directions of smaller weight nearly whole. What is left of them tells
# more about a misfit of the law than about an error of the groups.
SMALLEST_WEIGHT = 0.1


@dataclass(frozen=True)
class GroupedNoise:
    """The estimated noise of a fit whose rows stand in groups."""

    group_n: np.ndarray  # number of the group of each row, from 0
    deviation_n: np.ndarray  # standard deviation s of the whole error of each row
    ends: tuple[float, float]  # s at the smallest and at the largest budget
    num_blocks: int
    shared: float  # rho: share of the variance that the rows of a group share
    differs: bool  # s changes with the budget
    p_differs: float
    p_shared: float
    # (2, 2) covariance of the estimates of the own and the shared variance, each divided by s^2. None: rho is 0
    covariance: np.ndarray | None

    @property
    def is_independent(self) -> bool:
        """True if all rows have independent errors of one size, as plain profile intervals assume."""
        return not self.differs and self.shared == 0


def estimate_noise(
    residual_n: np.ndarray,
    jacobian_nP: np.ndarray,
    group_n: np.ndarray,
    log_budget_n: np.ndarray | None = None,
    *,
    block_n: np.ndarray | None = None,
    always: bool = False,
) -> GroupedNoise | None:
    """Estimate the noise of the rows around a minimum. None: too few rows, or an exact fit.

    Args:
        residual_n: the residuals of the objective at the minimum.
        jacobian_nP: their derivatives by the free parameters.
        group_n: the number of the group of each row, from 0.
        log_budget_n: the logarithm of the budget of each row. None: s does not change with a budget.
        block_n: the number of the block of each row, from 0, which holds whole groups. None: one block.
        always: True: the groups may share an error whatever the test says.
    """
    num_points, num_free = jacobian_nP.shape
    belongs_nG = np.eye(int(group_n.max()) + 1)[group_n]
    if num_points <= num_free + belongs_nG.shape[1]:
        return None
    block_n = np.zeros(num_points, int) if block_n is None else block_n
    clipped_n = _without_outliers(residual_n, group_n)
    within = _Projection(np.concatenate([_unit_columns(jacobian_nP), belongs_nG], axis=1))
    own_n = within.remove(clipped_n)
    groups = _Groups(
        squares=np.bincount(group_n, own_n**2),
        freedom=np.maximum(np.bincount(group_n, 1 - within.leverage_n), 0.0),
        log_budget=np.zeros(belongs_nG.shape[1]),
        block=np.bincount(group_n, block_n).astype(int) // np.bincount(group_n),
    )
    if not np.isfinite(own_n).all() or np.any(groups.of_blocks(groups.squares) <= 1e-24 * num_points):
        return None
    exponent, p_differs = 0.0, 1.0
    if log_budget_n is not None:
        groups = dataclasses.replace(groups, log_budget=np.bincount(group_n, log_budget_n) / belongs_nG.sum(0))
        exponent, p_differs = groups.trend()
    relative_G = groups.relative_deviation(exponent if p_differs < DIFFERS_BELOW else 0.0)
    base = GroupedNoise(
        group_n=group_n,
        deviation_n=relative_G[group_n],
        ends=(float(relative_G[groups.log_budget.argmin()]), float(relative_G[groups.log_budget.argmax()])),
        num_blocks=int(block_n.max()) + 1,
        shared=0.0,
        differs=p_differs < DIFFERS_BELOW,
        p_differs=p_differs,
        p_shared=1.0,
        covariance=None,
    )
    return with_groups(base, residual_n, jacobian_nP, group_n, always=always)


def with_groups(
    noise: GroupedNoise, residual_n: np.ndarray, jacobian_nP: np.ndarray, group_n: np.ndarray, *, always: bool = False
) -> GroupedNoise:
    """Return the noise with the share of the variance that the rows of some groups have in common.

    Args:
        noise: the noise whose deviations are kept, up to one factor.
        residual_n: the residuals of the objective at the minimum.
        jacobian_nP: their derivatives by the free parameters.
        group_n: the number of the group of each row, from 0.
        always: True: the groups may share an error whatever the test says.
    """
    belongs_nG = np.eye(int(group_n.max()) + 1)[group_n]
    residual_n, relative_n = _without_outliers(residual_n, group_n), noise.deviation_n
    scores = _scores(residual_n / relative_n, jacobian_nP / relative_n[:, None], belongs_nG)
    p_shared = scores.p_value()
    ratio = scores.shared_over_own() if always or p_shared < SHARED_BELOW else 0.0
    own_variance = scores.own_variance(ratio)
    factor = np.sqrt(own_variance * (1 + ratio))
    return dataclasses.replace(
        noise,
        group_n=group_n,
        deviation_n=relative_n * factor,
        ends=(noise.ends[0] * factor, noise.ends[1] * factor),
        shared=ratio / (1 + ratio),
        p_shared=p_shared,
        covariance=scores.covariance(ratio) / factor**4 if ratio > 0 else None,
    )


def independent_noise(residual_n: np.ndarray, jacobian_nP: np.ndarray, block_n: np.ndarray) -> GroupedNoise:
    """Return the noise of independent rows whose size differs between blocks.

    Args:
        residual_n: the residuals of the objective at the minimum.
        jacobian_nP: their derivatives by the free parameters.
        block_n: the number of the block of each row, from 0.
    """
    law = _Projection(_unit_columns(jacobian_nP))
    left_n = law.remove(_without_outliers(residual_n, block_n))
    freedom = np.maximum(np.bincount(block_n, 1 - law.leverage_n), 1e-6)
    deviation_n = np.sqrt(np.bincount(block_n, left_n**2) / freedom)[block_n]
    ends = float(deviation_n.min()), float(deviation_n.max())
    return GroupedNoise(
        group_n=np.arange(residual_n.size),
        deviation_n=deviation_n,
        ends=ends,
        num_blocks=int(block_n.max()) + 1,
        shared=0.0,
        differs=False,
        p_differs=1.0,
        p_shared=1.0,
        covariance=None,
    )


def allowed_rises(
    noise: GroupedNoise, jacobian_nP: np.ndarray, weights_n: np.ndarray, *, delta: float | None, level: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rise of the objective that the interval of each parameter allows, and the curvature's inverse (P, P).

    Args:
        noise: the noise of the rows.
        jacobian_nP: the derivatives of the residuals by the free parameters.
        weights_n: the weights of the rows in the objective.
        delta: of Huber's function. None: least squares.
        level: the level of the intervals, between 0 and 1.
    """
    slope_n, own_n, together_n = _moments(noise, delta)
    inverse = np.linalg.pinv((jacobian_nP * (weights_n * slope_n)[:, None]).T @ jacobian_nP, hermitian=True)
    weighted_nP = jacobian_nP * weights_n[:, None]
    by_own = np.sum((weighted_nP @ inverse) ** 2 * (own_n - together_n)[:, None], axis=0)
    sums_GP = np.zeros((int(noise.group_n.max()) + 1, jacobian_nP.shape[1]))
    np.add.at(sums_GP, noise.group_n, weighted_nP * np.sqrt(together_n)[:, None])
    by_group = np.sum((sums_GP @ inverse) ** 2, axis=0)
    freedom = _degrees_of_freedom(noise, by_own, by_group, jacobian_nP.shape[0] - jacobian_nP.shape[1])
    quantile = scipy.special.stdtrit(freedom, (1 + level) / 2)
    return 0.5 * quantile**2 * (by_own + by_group) / np.diag(inverse), inverse


def _degrees_of_freedom(noise: GroupedNoise, by_own: np.ndarray, by_group: np.ndarray, most: int) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of the variance of each parameter, between 1 and those of the rows."""
    if noise.covariance is None:
        return np.full(by_own.size, float(most))
    slopes = np.stack([by_own / (1 - noise.shared), by_group / noise.shared])  # by the own and the shared variance
    spread = np.einsum("ip,ij,jp->p", slopes, noise.covariance, slopes)
    return np.clip(2 * (by_own + by_group) ** 2 / spread, 1.0, most)


def _moments(noise: GroupedNoise, delta: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n,) means of psi', psi^2 and psi psi' of two rows of a group, for normal errors; psi clips at delta."""
    s = noise.deviation_n
    if delta is None:
        return np.ones_like(s), s**2, noise.shared * s**2
    end = delta / s
    slope = 2 * scipy.special.ndtr(end) - 1
    square = s**2 * (slope - 2 * end * _normal_density(end)) + delta**2 * (1 - slope)
    if noise.shared == 0:
        return slope, square, np.zeros_like(s)
    values, position = np.unique(s, return_inverse=True)
    centre = values[:, None] * np.sqrt(noise.shared) * SHARED_ERRORS
    own = values[:, None] * np.sqrt(1 - noise.shared)
    low, high = (-delta - centre) / own, (delta - centre) / own
    inside = scipy.special.ndtr(high) - scipy.special.ndtr(low)
    mean = delta * (scipy.special.ndtr(-high) - scipy.special.ndtr(low)) + centre * inside
    mean += own * (_normal_density(low) - _normal_density(high))
    density = _normal_density(SHARED_ERRORS) * (SHARED_ERRORS[1] - SHARED_ERRORS[0])
    return slope, square, (mean**2 @ density)[position]


def _normal_density(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * x**2) / np.sqrt(2 * np.pi)


@dataclass(frozen=True)
class _Groups:
    """Sums of each group, which show the size of the noise. The sum of squares is s^2 times a chi-square."""

    squares: np.ndarray  # (G,) sum of squares of the residuals within the group
    freedom: np.ndarray  # (G,) degrees of freedom of this sum
    log_budget: np.ndarray  # (G,)
    block: np.ndarray  # (G,) number of the block

    def of_blocks(self, values: np.ndarray) -> np.ndarray:
        """Return the sums of values of the groups by block."""
        return np.bincount(self.block, values)

    def relative_deviation(self, exponent: float) -> np.ndarray:
        """Return (G,) deviations, given the exponent of the variance over the budget. Their mean of squares is 1."""
        trend = np.exp(exponent * (self.log_budget - self.log_budget.mean()))
        scale = self.of_blocks(self.squares / trend) / np.maximum(self.of_blocks(self.freedom), 1e-6)
        variance = trend * (scale[self.block] if scale.size > 1 else 1.0)
        return np.sqrt(variance / variance.mean())

    def trend(self) -> tuple[float, float]:
        """Return the exponent of the variance over the budget, and p of the likelihood ratio test that it is 0."""
        if np.ptp(self.log_budget) == 0:
            return 0.0, 1.0
        widest = 20.0 / np.ptp(self.log_budget)
        found: Any = scipy.optimize.minimize_scalar(self._deviance, bounds=(-widest, widest), method="bounded")
        best = float(found.x)
        gain = self._deviance(0.0) - self._deviance(best)
        return best, float(scipy.special.chdtrc(1, max(gain, 0.0)))

    def _deviance(self, exponent: float) -> float:
        log_trend = exponent * (self.log_budget - self.log_budget.mean())
        squares = self.of_blocks(self.squares * np.exp(-log_trend))
        return float(self.of_blocks(self.freedom) @ np.log(squares) + self.freedom @ log_trend)


@dataclass(frozen=True)
class _Scores:
    """Independent normal scores of the residuals that a fit leaves: variance own + shared x weight for each score."""

    between: np.ndarray  # scores of the groups
    weights: np.ndarray  # their weights
    squares: float  # sum of the squares of all other scores, which have the weight 0
    freedom: int  # number of these scores

    def p_value(self) -> float:
        """Return p of the score test that nothing is shared, with Satterthwaite's F distribution."""
        freedom = self.weights.sum() ** 2 / (self.weights**2).sum()
        statistic = (self.weights @ self.between**2) / self.weights.sum() / (self.squares / self.freedom)
        return float(scipy.special.fdtrc(freedom, self.freedom, statistic))

    def own_variance(self, ratio: float) -> float:
        """Return the own variance of a row, given the ratio of the shared to the own variance."""
        total = self.squares + np.sum(self.between**2 / (1 + ratio * self.weights))
        return float(total / (self.freedom + self.between.size))

    def shared_over_own(self) -> float:
        """Return the ratio of the shared to the own variance at the maximum of the likelihood."""

        def deviance(log_ratio: float) -> float:
            ratio = np.exp(log_ratio)
            logs = np.sum(np.log1p(ratio * self.weights))
            return float((self.freedom + self.between.size) * np.log(self.own_variance(ratio)) + logs)

        values = [deviance(log_ratio) for log_ratio in LOG_RATIOS]
        best = int(np.argmin(values))
        if values[best] >= deviance(-np.inf):
            return 0.0
        ends = LOG_RATIOS[max(best - 1, 0)], LOG_RATIOS[min(best + 1, LOG_RATIOS.size - 1)]
        found: Any = scipy.optimize.minimize_scalar(deviance, bounds=ends, method="bounded")
        return float(np.exp(found.x))

    def covariance(self, ratio: float) -> np.ndarray:
        """Return the covariance (2, 2) of the estimates of the own and the shared variance: the inverse information."""
        own = self.own_variance(ratio)
        precision = 1 / (own * (1 + ratio * self.weights)) ** 2
        mixed = self.weights @ precision
        information = [
            [self.freedom / own**2 + precision.sum(), mixed],
            [mixed, self.weights**2 @ precision],
        ]
        return np.linalg.inv(0.5 * np.array(information))


def _scores(residual_n: np.ndarray, jacobian_nP: np.ndarray, belongs_nG: np.ndarray) -> _Scores:
    """Return the scores of standardised residuals, without the directions that the law can follow."""
    law = _Projection(_unit_columns(jacobian_nP))
    left_n = law.remove(residual_n)
    directions, lengths, _ = np.linalg.svd(law.remove(belongs_nG), full_matrices=False)
    told = lengths > TINY * np.linalg.norm(belongs_nG)
    between, weights = directions[:, told].T @ left_n, lengths[told] ** 2
    squares = max(float(left_n @ left_n - between @ between), 0.0)
    freedom = residual_n.size - law.rank - between.size
    heavy = weights >= SMALLEST_WEIGHT * weights.max()
    return _Scores(between[heavy], weights[heavy], squares, freedom)


def _without_outliers(residual_n: np.ndarray, group_n: np.ndarray) -> np.ndarray:
    """Move each residual that is far outside to the end of its range, because a Huber fit ignores its size too."""
    distance_n = np.abs(residual_n)
    typical_G = np.array([np.median(distance_n[group_n == group]) for group in range(int(group_n.max()) + 1)])
    end_n = FARTHEST * 1.4826 * np.maximum(typical_G[group_n], np.median(distance_n))  # 1.4826: exact if normal
    return np.clip(residual_n, -end_n, end_n)


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(lengths > 0, lengths, 1.0)


class _Projection:
    """The projection on the columns of a matrix, whose columns may depend on each other."""

    def __init__(self, columns: np.ndarray) -> None:
        directions, lengths, _ = np.linalg.svd(columns, full_matrices=False)
        self._basis = directions[:, lengths > TINY * lengths.max()]
        self.rank = self._basis.shape[1]
        self.leverage_n = np.sum(self._basis**2, axis=1)

    def remove(self, values: np.ndarray) -> np.ndarray:
        """Return the part of (n, ...) values that is orthogonal to the columns."""
        return values - self._basis @ (self._basis.T @ values)
