"""Test for an error that all data sets share at a budget, beside the one of each data set. See `common_error`.

The error of a row is s (sqrt(tau) c + sqrt(rho) u + sqrt(1 - tau - rho) v). All rows of a budget share c, those of one
data set share u, and each row has its own v. All are standard normal.
Letters of shapes: n points, G groups (a budget in one data set), B budgets, K free parameters, m scores.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.fit.solver.grouped_noise import FARTHEST, MANY_GROUPS, SMALLEST_WEIGHT, TINY, GroupedNoise

# All numbers below are choices.
NUM_DRAWS = 10_000  # draws of the test; its smallest p is one in this number
LARGEST_LOG_RATIO = 8.0  # of a shared to the own variance
STARTS = ((-8.0, 0.0), (0.0, -8.0), (0.0, 0.0))  # logarithms of the ratios at the starts of the search


@dataclass(frozen=True)
class CommonError:
    """The error that all data sets have in common at a budget."""

    share: float  # tau: its share of the variance of a row
    p_value: float  # p of the test that tau is 0, where an error within each data set is allowed


def common_error(
    noise: GroupedNoise, residual_n: np.ndarray, jacobian_nK: np.ndarray, budget_n: np.ndarray
) -> CommonError | None:
    """Return the error that all data sets share at a budget. None: too many or too few groups to tell.

    The sums of the residuals over the groups give independent normal scores under the hypothesis that rows share an
    error only within a group. The test asks whether the scores that sum over data sets are larger than the others. Its
    distribution comes from normal draws. The share is that of restricted maximum likelihood.

    Args:
        noise: the noise with the errors that are shared within groups.
        residual_n: the residuals of the objective at the minimum.
        jacobian_nK: their derivatives by the free parameters.
        budget_n: the number of the budget of each row, from 0. A group lies in one budget.
    """
    group_n, counts_G = noise.group_n, np.bincount(noise.group_n).astype(float)
    if counts_G.size > MANY_GROUPS:
        return None
    relative_n = np.clip(residual_n / noise.deviation_n, -FARTHEST, FARTHEST)
    columns = jacobian_nK / noise.deviation_n[:, None]
    lengths = np.linalg.norm(columns, axis=0)
    directions, sizes, _ = np.linalg.svd(columns / np.where(lengths > 0, lengths, 1.0), full_matrices=False)
    basis = directions[:, sizes > TINY * sizes.max()]
    left_n = relative_n - basis @ (basis.T @ relative_n)
    sums_GK = np.stack([np.bincount(group_n, column) for column in basis.T], axis=1)
    weights_m, axes_Gm = np.linalg.eigh(np.diag(counts_G) - sums_GK @ sums_GK.T)
    heavy = weights_m >= max(SMALLEST_WEIGHT * weights_m.max(), TINY * counts_G.max())
    weights_m, axes_Gm = weights_m[heavy], axes_Gm[:, heavy]
    score_m = axes_Gm.T @ np.bincount(group_n, left_n) / np.sqrt(weights_m)
    in_budget_GB = np.zeros((counts_G.size, int(budget_n.max()) + 1))
    in_budget_GB[group_n, budget_n] = 1.0
    common_mB = np.sqrt(weights_m)[:, None] * (axes_Gm.T @ in_budget_GB)
    if score_m.size < 3:
        return None
    ratio = noise.shared / (1 - noise.shared)
    p_value = _p_value(score_m, common_mB, 1 + ratio * weights_m)
    squares = max(float(left_n @ left_n - score_m @ score_m), 0.0)
    freedom = residual_n.size - basis.shape[1] - score_m.size
    return CommonError(_share(score_m, common_mB, weights_m, within=(squares, freedom)), p_value)


def _p_value(score_m: np.ndarray, common_mB: np.ndarray, variance_m: np.ndarray) -> float:
    """Return p of the score test for a common error, among scores of known relative variances."""

    def statistic(white: np.ndarray) -> np.ndarray:
        sums = white @ (common_mB / np.sqrt(variance_m)[:, None])
        return np.sum(sums**2, axis=-1) / np.sum(white**2, axis=-1)

    draws = np.random.Generator(np.random.PCG64(0)).normal(size=(NUM_DRAWS, score_m.size))
    num_larger = int(np.sum(statistic(draws) >= statistic(score_m / np.sqrt(variance_m))))
    return (num_larger + 1) / (NUM_DRAWS + 1)


def _share(score_m: np.ndarray, common_mB: np.ndarray, weights_m: np.ndarray, *, within: tuple[float, int]) -> float:
    """Return tau at the maximum of the restricted likelihood.

    Args:
        score_m: the scores of the groups.
        common_mB: what each score has of the common error of each budget.
        weights_m: what each score has of the variance that is shared within groups.
        within: the sum of squares of all other scores, and their number.
    """
    import scipy.optimize  # takes a seventh of a second, and comparing lines does not need it

    squares, freedom = within
    common_mm = common_mB @ common_mB.T
    identity = np.eye(score_m.size)

    def deviance(log_ratios: np.ndarray) -> float:
        own_group, common = np.exp(np.clip(log_ratios, -np.inf, LARGEST_LOG_RATIO))
        table = identity + own_group * np.diag(weights_m) + common * common_mm
        total = squares + score_m @ np.linalg.solve(table, score_m)
        return float((freedom + score_m.size) * np.log(total) + np.linalg.slogdet(table)[1])

    found: list[Any] = [scipy.optimize.minimize(deviance, start, method="Nelder-Mead") for start in STARTS]
    own_group, common = np.exp(np.minimum(min(found, key=lambda each: each.fun).x, LARGEST_LOG_RATIO))
    return float(common / (1 + own_group + common))
