"""Give the rise of the objective that profile intervals allow under grouped noise.

Profile intervals keep their form. Only the rise of the objective that they allow changes, for each parameter by the
ratio of its two variances: that of the grouped noise, and that which the curvature of the objective implies (Kent 1982,
Biometrika 69; Chandler & Bate 2007, Biometrika 94). The quantile is Student's, with Satterthwaite's degrees of freedom.
Letters of shapes: n points, G groups, P free parameters.
"""

import numpy as np
import scipy.special

from lossline_jax.fit.solver.grouped_noise import GroupedNoise

SHARED_ERRORS = np.linspace(-6.0, 6.0, 401)  # standard deviations: the grid of an integral over u


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
    slope_n, own_n, together_n = moments_of_scores(noise, delta)
    inverse = np.linalg.pinv((jacobian_nP * (weights_n * slope_n)[:, None]).T @ jacobian_nP, hermitian=True)
    weighted_nP = jacobian_nP * weights_n[:, None]
    by_own = np.sum((weighted_nP @ inverse) ** 2 * (own_n - together_n)[:, None], axis=0)
    sums_GP = np.zeros((int(noise.group_n.max()) + 1, jacobian_nP.shape[1]))
    np.add.at(sums_GP, noise.group_n, weighted_nP * np.sqrt(together_n)[:, None])
    by_group = np.sum((sums_GP @ inverse) ** 2, axis=0)
    # A parameter without effect on the rows has no variance. Any limit lets its profile reach the bounds.
    variance = np.diag(inverse)
    has_effect = variance > np.finfo(float).eps * variance.max()
    by_own, variance = np.where(has_effect, by_own, 1.0), np.where(has_effect, variance, 1.0)
    freedom = _degrees_of_freedom(noise, by_own, by_group, jacobian_nP.shape[0] - jacobian_nP.shape[1])
    quantile = scipy.special.stdtrit(freedom, (1 + level) / 2)
    return 0.5 * quantile**2 * (by_own + by_group) / variance, inverse


def _degrees_of_freedom(noise: GroupedNoise, by_own: np.ndarray, by_group: np.ndarray, most: int) -> np.ndarray:
    """Return Satterthwaite's degrees of freedom of the variance of each parameter, between 1 and those of the rows."""
    if noise.covariance is None:
        return np.full(by_own.size, float(most))
    slopes = np.stack([by_own / (1 - noise.shared), by_group / noise.shared])  # by the own and the shared variance
    spread = np.einsum("ip,ij,jp->p", slopes, noise.covariance, slopes)
    return np.clip(2 * (by_own + by_group) ** 2 / spread, 1.0, most)


def moments_of_scores(noise: GroupedNoise, delta: float | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (n,) means of psi', psi^2 and the product of psi of two rows of a group, for normal errors.

    Args:
        noise: the noise of the rows.
        delta: psi clips an error to at most delta. None: psi is the error itself.
    """
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
