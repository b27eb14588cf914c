"""The published fitting procedures of arXiv 2411.12925, in numpy and scipy alone.

Compute law: Kaplan form of the total parameters, mean log-Huber with delta 1e-3, L-BFGS from 16 starts.

Loss to loss: y = K (x - E_x)^kappa + E_y, by one of three procedures.

- Train-to-train takes both irreducible losses from the compute laws, and fits a straight line to the logarithms.
- Train-to-test takes E_x from the compute law and leaves E_y free (TRF).
- Test-to-test tries a grid of 100 x 100 pairs (E_x, E_y). It fits a straight line to the logarithms for each pair, and
  keeps the pair with the least squares of y.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares, minimize

DELTA = 1e-3
NUM_ITERATIONS = 200
GRID = 100
LEAST_DISTANCE = 1e-9  # nats; the smallest x - E_x, so that the curve has a value at every x


@dataclass(frozen=True)
class ComputeLaw:
    """A fitted L = E + ((A/N)^(alpha/beta) + B/D)^beta, with N and D in units of their geometric means."""

    p: np.ndarray  # ln E, ln A, ln B, alpha, beta
    ln_size: float  # logarithm of the geometric mean of N
    ln_tokens: float
    objective: float  # mean log-Huber

    @property
    def irreducible(self) -> float:
        return float(np.exp(self.p[0]))

    def predict(self, size: np.ndarray, tokens: np.ndarray) -> np.ndarray:
        return np.exp(_log_loss(self.p, np.log(size) - self.ln_size, np.log(tokens) - self.ln_tokens)[0])


def fit_compute_law(size: np.ndarray, tokens: np.ndarray, loss: np.ndarray) -> ComputeLaw:
    """Fit a compute law, by the best of 16 descents of 200 iterations."""
    ln_n, ln_d = np.log(size), np.log(tokens)
    centre_n, centre_d = ln_n.mean(), ln_d.mean()
    x, z, y = ln_n - centre_n, ln_d - centre_d, np.log(loss)

    def objective(p):  # in units of delta^2 / 2, near 1, as the optimiser's tolerances assume
        f, slopes = _log_loss(p, x, z)
        r = (f - y) / DELTA
        huber = np.where(np.abs(r) <= 1, r * r, 2 * np.abs(r) - 1)
        return huber.mean(), slopes @ np.clip(r, -1, 1) * (2 / DELTA / y.size)

    ends = [
        minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": NUM_ITERATIONS, "maxfun": 20 * NUM_ITERATIONS, "ftol": 1e-14, "gtol": 1e-12},
        )
        for start in _starts(float(loss.min()))
    ]
    best = min((end for end in ends if np.isfinite(end.fun)), key=lambda end: end.fun)
    return ComputeLaw(best.x, float(centre_n), float(centre_d), float(best.fun) * DELTA**2 / 2)


def _starts(smallest: float) -> list[tuple[float, ...]]:
    """Return 16 starts.

    Two values each of E, of the reducible loss at the centre of the data and of both exponents are combined.
    """
    starts = []
    for share in (0.4, 0.8):
        for reducible in (0.5, 1.5):
            for alpha in (0.3, 0.6):
                for beta in (0.3, 0.6):
                    half = np.log(reducible / 2)
                    starts.append((np.log(share * smallest), half / alpha, half / beta, alpha, beta))
    return starts


def _log_loss(p: np.ndarray, x: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return ln L (n,) and its slopes (5, n)."""
    e, a, b, alpha, beta = p
    with np.errstate(all="ignore"):
        by_size, by_tokens = alpha / beta * (a - x), b - z
        both = np.logaddexp(by_size, by_tokens)
        f = np.logaddexp(e, beta * both)
        share_e, share_both = np.exp(e - f), np.exp(beta * both - f)
        share_n, share_d = np.exp(by_size - both), np.exp(by_tokens - both)
        slopes = np.stack(
            [
                share_e,
                share_both * share_n * alpha,
                share_both * share_d * beta,
                share_both * share_n * (a - x),
                share_both * (both - share_n * by_size),
            ]
        )
    return f, slopes


@dataclass(frozen=True)
class Line:
    """A fitted y = K (x - E_x)^kappa + E_y."""

    e_x: float
    e_y: float
    ln_k: float
    kappa: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        return self.e_y + np.exp(self.ln_k) * np.maximum(x - self.e_x, LEAST_DISTANCE) ** self.kappa


def fit_train_to_train(x: np.ndarray, y: np.ndarray, e_x: float, e_y: float) -> Line:
    """Fit ln(y - E_y) on ln(x - E_x) by ordinary least squares. Points below E_x or E_y are left out."""
    above = (x > e_x) & (y > e_y)
    kappa, ln_k = np.polyfit(np.log(x[above] - e_x), np.log(y[above] - e_y), 1)
    return Line(e_x, e_y, float(ln_k), float(kappa))


def fit_train_to_test(x: np.ndarray, y: np.ndarray, e_x: float) -> Line:
    """Fit y by least squares and TRF with 0 <= E_y <= min y, and keep the best of nine starts."""
    e_x = min(e_x, 0.9999 * float(x.min()))
    distance, smallest = x - e_x, float(y.min())

    def residuals(p):
        return p[1] + np.exp(p[0]) * distance ** p[2] - y

    def slopes(p):
        curve = np.exp(p[0]) * distance ** p[2]
        return np.stack([curve, np.ones_like(curve), curve * np.log(distance)], axis=1)

    bounds = ([-np.inf, 0.0, 0.0], [np.inf, smallest, np.inf])
    best = None
    for share in (0.2, 0.6, 0.9):
        for kappa in (0.6, 1.0, 1.6):
            ln_k = np.log(np.mean(y - share * smallest)) - kappa * np.log(distance.mean())
            start = [ln_k, share * smallest, kappa]
            end = least_squares(residuals, start, slopes, bounds, x_scale=[0.3, 0.3, 0.3], max_nfev=200)
            if best is None or end.cost < best.cost:
                best = end
    return Line(e_x, float(best.x[1]), float(best.x[0]), float(best.x[2]))


def fit_test_to_test(x: np.ndarray, y: np.ndarray) -> Line:
    """Fit y by the pair (E_x, E_y) of a 100 x 100 grid with the least squares of y.

    The grid goes from 0 to just below the smallest x and y.
    """
    e_x, e_y = (np.linspace(0, 1, GRID, endpoint=False) * values.min() for values in (x, y))
    ln_x, ln_y = np.log(x - e_x[:, None]), np.log(y - e_y[:, None])
    mean_x, mean_y = ln_x.mean(1), ln_y.mean(1)
    from_x, from_y = ln_x - mean_x[:, None], ln_y - mean_y[:, None]
    kappa = (from_x @ from_y.T) / np.sum(from_x**2, axis=1)[:, None]
    ln_k = mean_y[None] - kappa * mean_x[:, None]
    best, least = (0, 0), np.inf
    for row in range(GRID):
        curve = np.exp(ln_k[row][:, None] + kappa[row][:, None] * ln_x[row]) + e_y[:, None]
        squares = np.sum((curve - y) ** 2, axis=1)
        column = int(squares.argmin())
        if squares[column] < least:
            best, least = (row, column), squares[column]
    row, column = best
    return Line(float(e_x[row]), float(e_y[column]), float(ln_k[best]), float(kappa[best]))
