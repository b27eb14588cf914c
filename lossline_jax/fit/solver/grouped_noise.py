"""Estimate the noise of rows in groups: its size, which may change from group to group, and the part that is shared.

The error of a row is s (sqrt(rho) u + sqrt(1 - rho) v). The rows of a group share u, and each row has its own v; both
are standard normal. s may be a power of the budget of the group, and differ between blocks of rows. The fit absorbs a
part of the errors, so the model is estimated by restricted maximum likelihood (Patterson & Thompson 1971), with the law
linearised at its minimum.

Letters of shapes: n points, G groups, P free parameters.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.special

# All numbers below are choices.
DIFFERS_BELOW = 0.05  # p of the test that s changes with the budget; below it, the model has this change
SHARED_BELOW = 0.25  # p of the test that rho is 0. A high level, because an error that is missed costs more
FARTHEST = 5.0  # robust standard deviations: a residual beyond counts as one at this distance
LOG_RATIOS = np.linspace(-8.0, 7.0, 61)  # first grid of ln(rho / (1 - rho))
TINY = 1e-8  # relative: a shorter column is rounding error
# Share of the largest weight. The fit absorbs directions of smaller weight nearly whole. What is left of them tells
# more about a misfit of the law than about an error of the groups.
SMALLEST_WEIGHT = 0.1
MANY_GROUPS = 500  # with more, the scores of the groups are taken as they are


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
    counts_G = np.bincount(group_n)
    if num_points <= num_free + counts_G.size:
        return None
    block_n = np.zeros(num_points, int) if block_n is None else block_n
    clipped_n = _without_outliers(residual_n, group_n)
    within = _Projection(_unit_columns(_without_means(jacobian_nP, group_n)))
    own_n = within.remove(_without_means(clipped_n, group_n))
    leverage_n = 1 / counts_G[group_n] + within.leverage_n
    groups = _Groups(
        squares=np.bincount(group_n, own_n**2),
        freedom=np.maximum(np.bincount(group_n, 1 - leverage_n), 0.0),
        log_budget=np.zeros(counts_G.size),
        block=np.bincount(group_n, block_n).astype(int) // counts_G,
    )
    if not np.isfinite(own_n).all() or np.any(groups.of_blocks(groups.squares) <= 1e-24 * num_points):
        return None
    exponent, p_differs = 0.0, 1.0
    if log_budget_n is not None:
        groups = dataclasses.replace(groups, log_budget=np.bincount(group_n, log_budget_n) / counts_G)
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
    residual_n, relative_n = _without_outliers(residual_n, group_n), noise.deviation_n
    scores = _scores(residual_n / relative_n, jacobian_nP / relative_n[:, None], group_n)
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
        import scipy.optimize  # takes a seventh of a second, and comparing lines does not need it

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

        import scipy.optimize  # takes a seventh of a second, and comparing lines does not need it

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


def _scores(residual_n: np.ndarray, jacobian_nP: np.ndarray, group_n: np.ndarray) -> _Scores:
    """Return the scores of standardised residuals, without the directions that the law can follow."""
    law = _Projection(_unit_columns(jacobian_nP))
    left_n = law.remove(residual_n)
    counts_G = np.bincount(group_n).astype(float)
    sums_GK = np.stack([np.bincount(group_n, column) for column in law.basis.T], axis=1)
    if (
        counts_G.size > MANY_GROUPS
    ):  # the law follows few of so many groups, so that their scores are nearly independent
        weights, between = counts_G - np.sum(sums_GK**2, axis=1), np.bincount(group_n, left_n)
    else:
        weights, directions = np.linalg.eigh(np.diag(counts_G) - sums_GK @ sums_GK.T)
        between = directions.T @ np.bincount(group_n, left_n)
    told = weights > TINY * counts_G.max()
    between, weights = between[told] / np.sqrt(weights[told]), weights[told]
    squares = max(float(left_n @ left_n - between @ between), 0.0)
    freedom = residual_n.size - law.basis.shape[1] - between.size
    heavy = weights >= SMALLEST_WEIGHT * weights.max()
    return _Scores(between[heavy], weights[heavy], squares, freedom)


def _without_outliers(residual_n: np.ndarray, group_n: np.ndarray) -> np.ndarray:
    """Move each residual that is far outside to the end of its range, because a Huber fit ignores its size too."""
    import scipy.ndimage  # takes a seventh of a second, and comparing lines does not need it

    distance_n = np.abs(residual_n)
    typical_G = scipy.ndimage.median(distance_n, group_n, np.arange(int(group_n.max()) + 1))
    end_n = FARTHEST * 1.4826 * np.maximum(typical_G[group_n], np.median(distance_n))  # 1.4826: exact if normal
    return np.clip(residual_n, -end_n, end_n)


def _without_means(values: np.ndarray, group_n: np.ndarray) -> np.ndarray:
    """Subtract from (n, ...) values the mean of their group."""
    columns = values.reshape(values.shape[0], -1)
    means = np.stack([np.bincount(group_n, column) for column in columns.T], axis=1) / np.bincount(group_n)[:, None]
    return (columns - means[group_n]).reshape(values.shape)


def _unit_columns(matrix: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(matrix, axis=0)
    return matrix / np.where(lengths > 0, lengths, 1.0)


class _Projection:
    """The projection on the columns of a matrix, whose columns may depend on each other."""

    def __init__(self, columns: np.ndarray) -> None:
        directions, lengths, _ = np.linalg.svd(columns, full_matrices=False)
        self.basis = directions[:, lengths > TINY * lengths.max()]
        self.leverage_n = np.sum(self.basis**2, axis=1)

    def remove(self, values: np.ndarray) -> np.ndarray:
        """Return the part of (n, ...) values that is orthogonal to the columns."""
        return values - self.basis @ (self.basis.T @ values)
