"""Fit the line y = K (x - E_x)^kappa + E_y where x has noise of a known size.

Least squares on y makes a line through noisy x too flat: noise of standard deviation s adds s^2 f'(x)^2 to the mean
square of each residual, which a flatter line lowers. The corrected objective subtracts this term (Fuller 1987, section
1.2; Nakamura 1990):

    sum over points of (y - f(x))^2 - s^2 f'(x)^2

For a straight line it gives the slope S_xy / (S_xx - s^2). For given E_x and kappa, K and E_y have this closed form
too. A Newton descent over E_x and kappa does the rest, for all resamples of a bootstrap at once.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.result import FitResult

# All of these are choices.
LARGEST_SHARE = 0.5  # of the variance of the line over the points that the noise may make up
# Largest growth of that share in a descent: a line with a kink could use the subtracted term to fit noise.
SHARE_GROWTH = 1.25
STARTS = ((0.1, 0.8), (0.1, 1.5), (0.5, 1.2), (1.0, 1.5), (3.0, 2.0))  # (min(x) - E_x over the range of x, kappa)
STEP = 2e-3  # of the numeric derivatives, in logarithms
ITERATIONS = 40
SMALL_GAIN = 1e-9  # of the objective; a smaller one ends a descent
LARGEST_DAMPING = 1e4  # a descent that needs more is at its minimum
LONGEST_STEP = 1.0  # in logarithms
NUMBERS_AT_ONCE = 4_000_000  # resamples times points that are computed together
TOO_LARGE = "is too large for this range of x: the line is not corrected"
INTERVALS = "intervals"  # key in `FitResult.conventions`


@dataclass(frozen=True, eq=False)
class _Corrected:
    """The corrected problem for R rows of weights."""

    x_n: np.ndarray
    y_n: np.ndarray
    weights_Rn: np.ndarray
    noise: float
    largest_share: float

    def line(self, u_R2: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return (R,) objectives, K and E_y at the logarithms of min(x) - E_x and of kappa.

        The objective is infinite where the noise makes up more than the largest share of the variance of the line.
        """
        distance_Rn = (self.x_n - self.x_n.min())[None] + np.exp(u_R2[:, :1])
        kappa_R1 = np.exp(u_R2[:, 1:])
        basis_Rn = distance_Rn**kappa_R1
        slope_Rn = kappa_R1 * basis_Rn / distance_Rn
        total_R = self.weights_Rn.sum(1)

        def mean(values: np.ndarray) -> np.ndarray:
            return (self.weights_Rn * values).sum(1) / total_R

        middle_R, height_R = mean(basis_Rn), self.weights_Rn @ self.y_n / total_R
        variance_R = mean((basis_Rn - middle_R[:, None]) ** 2)
        noise_R = self.noise**2 * mean(slope_Rn**2)
        covariance_R = mean((basis_Rn - middle_R[:, None]) * (self.y_n[None] - height_R[:, None]))
        squares_R = mean((self.y_n[None] - height_R[:, None]) ** 2)
        usable_R = noise_R < self.largest_share * variance_R
        K_R = covariance_R / np.where(usable_R, variance_R - noise_R, 1.0)
        objective_R = squares_R - K_R * covariance_R
        E_y_R = height_R - K_R * middle_R
        # E_y is a loss and not negative. Where it would be, it is zero.
        product_R, square_R = mean(basis_Rn * self.y_n[None]), mean(basis_Rn**2)
        at_zero_R = E_y_R < 0
        K_R = np.where(at_zero_R, product_R / (square_R - np.where(usable_R, noise_R, 0.0)), K_R)
        objective_R = np.where(at_zero_R, squares_R + height_R**2 - K_R * product_R, objective_R)
        usable_R &= K_R > 0
        return np.where(usable_R, objective_R, np.inf), K_R, np.where(at_zero_R, 0.0, E_y_R)

    def minimise(self, u_R2: np.ndarray) -> np.ndarray:
        """Return the (R, 2) coordinates of the minimum, by a damped Newton descent with numeric derivatives."""
        low, high = self._bounds()
        u_R2 = np.clip(u_R2, low + STEP, high - STEP)
        damping_R, objective_R = np.full(len(u_R2), 1e-3), self.line(u_R2)[0]
        active = np.arange(len(u_R2))
        for _ in range(ITERATIONS):
            if not active.size:
                break
            part = dataclasses.replace(self, weights_Rn=self.weights_Rn[active])
            step_A2 = part.step(u_R2[active], objective_R[active], damping_R[active])
            new_A2 = np.clip(u_R2[active] + step_A2, low + STEP, high - STEP)
            new_objective_A = part.line(new_A2)[0]
            better_A = new_objective_A < objective_R[active]
            with np.errstate(invalid="ignore"):  # both objectives may be infinite
                gain_A = np.where(better_A, objective_R[active] - new_objective_A, np.inf)
            damping_R[active] = np.where(better_A, damping_R[active] / 5, damping_R[active] * 8)
            u_R2[active[better_A]] = new_A2[better_A]
            objective_R[active[better_A]] = new_objective_A[better_A]
            done_A = (gain_A < SMALL_GAIN * objective_R[active]) | (damping_R[active] > LARGEST_DAMPING)
            active = active[~done_A]
        return u_R2

    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bounds of the coordinates. E_x stays one noise below the smallest x."""
        kappa = next(p for p in SHIFTED_POWER.parameters if p.name == "kappa")
        nearest = max(self.noise, 1e-4 * float(np.ptp(self.x_n)))
        farthest = max(float(self.x_n.min()), nearest * np.exp(4 * STEP))  # E_x = 0
        return np.log([nearest, kappa.lower]), np.log([farthest, kappa.upper])

    def step(self, u_R2: np.ndarray, objective_R: np.ndarray, damping_R: np.ndarray) -> np.ndarray:
        """Return the (R, 2) damped Newton steps.

        Args:
            u_R2: the coordinates.
            objective_R: their objectives.
            damping_R: share of the curvature that is added to it.
        """
        offsets = STEP * np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
        right, left, up, down, both, neither = (self.line(u_R2 + offset)[0] for offset in offsets)
        with np.errstate(invalid="ignore"):
            gradient_R2 = np.stack([right - left, up - down], 1) / (2 * STEP)
            first, second = (right - 2 * objective_R + left) / STEP**2, (up - 2 * objective_R + down) / STEP**2
            mixed = (both + neither - right - left - up - down + 2 * objective_R) / (2 * STEP**2)
        hessian_R22 = np.stack([np.stack([first, mixed], 1), np.stack([mixed, second], 1)], 1)
        finite_R = np.all(np.isfinite(hessian_R22), axis=(1, 2)) & np.all(np.isfinite(gradient_R2), axis=1)
        hessian_R22 = np.where(finite_R[:, None, None], hessian_R22, np.eye(2))
        gradient_R2 = np.where(finite_R[:, None], gradient_R2, 0.0)
        curvature_R2, axes_R22 = np.linalg.eigh(hessian_R22)
        size_R1 = np.abs(curvature_R2).sum(1, keepdims=True)
        curvature_R2 = np.maximum(np.abs(curvature_R2), 1e-10 * size_R1) + damping_R[:, None] * size_R1
        along_R2 = np.einsum("rji,rj->ri", axes_R22, gradient_R2) / np.maximum(curvature_R2, 1e-300)
        return np.clip(-np.einsum("rij,rj->ri", axes_R22, along_R2), -LONGEST_STEP, LONGEST_STEP)

    def parameters(self, u_R2: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters of the line by name, (R,) each; NaN where the noise is too large."""
        objective_R, K_R, E_y_R = self.line(u_R2)
        values = {
            "K": K_R,
            "kappa": np.exp(u_R2[:, 1]),
            "E_x": self.x_n.min() - np.exp(u_R2[:, 0]),
            "E_y": E_y_R,
        }
        return {name: np.where(np.isfinite(objective_R), value, np.nan) for name, value in values.items()}


def require_noise(noise_x: float) -> None:
    """Raise ArgumentError if a noise in x is not a positive number.

    Args:
        noise_x: the standard deviation of the noise.
    """
    if not (np.isfinite(noise_x) and noise_x > 0):
        raise ArgumentError("{noise_x}: {value!r} is not a standard deviation; give a positive number", value=noise_x)


def corrected_fit(fit: FitResult, x: np.ndarray, y: np.ndarray, noise_x: float) -> FitResult:
    """Return a line that noise in x does not make too flat.

    The result has no intervals. `bootstrap` draws whole runs for them.

    Args:
        fit: the least-squares line of the points, with all parameters free. It gives the start of the descent.
        x: (n,) losses on the first set; NaN where one is missing.
        y: (n,) losses on the second set; NaN where one is missing.
        noise_x: standard deviation of the noise of a point in x.
    """
    require_noise(noise_x)
    if not fit.has_curve:
        return fit
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    parameters = _best_of_starts(fit.parameters, x, y, noise_x)
    if parameters is None:
        return fit.with_note(f"noise in x of {noise_x:g} {TOO_LARGE}")
    on_bound = ("E_x",) if parameters["E_x"] < 2 * STEP * x.min() else ()
    residuals = y - SHIFTED_POWER(parameters, {"x": x})
    spread = float(np.sum((y - y.mean()) ** 2))
    corrected = dataclasses.replace(
        fit,
        status="bound hit" if on_bound else "converged",
        note="; ".join(part for part in fit.note.split("; ") if "bound" not in part and "Jacobian" not in part),
        not_identified=(),
        bounds_hit=on_bound,
        parameters=parameters,
        intervals={},
        conventions=fit.conventions | {INTERVALS: "none; a bootstrap of whole runs gives them"},
        objective=None,
        rmse=float(np.sqrt(np.mean(residuals**2))),
        r_squared=1 - float(np.sum(residuals**2)) / spread if spread > 0 else None,
        condition_number=None,
        noise_x=noise_x,
    )
    return corrected.with_note(f"corrected for noise in x of {noise_x:g}")


def _best_of_starts(
    start: Mapping[str, float], x: np.ndarray, y: np.ndarray, noise_x: float
) -> dict[str, float] | None:
    """Return the best minimum from the least-squares line and from a grid of starts. None: the noise is too large."""
    problem = _Corrected(x, y, np.ones((1 + len(STARTS), x.size)), noise_x, _largest_share(start, x, noise_x))
    least_squares = [max(float(x.min()) - start["E_x"], 1e-12), start["kappa"]]
    grid = [[share * float(np.ptp(x)), kappa] for share, kappa in STARTS]
    u_R2 = problem.minimise(np.log([least_squares, *grid]))
    objective_R = problem.line(u_R2)[0]
    best = int(np.argmin(objective_R))
    if not np.isfinite(objective_R[best]):
        return None
    return {name: float(values[best]) for name, values in problem.parameters(u_R2).items()}


def _largest_share(start: Mapping[str, float], x: np.ndarray, noise_x: float) -> float:
    """Return the largest share of the variance of a line that the noise may make up, from that of the start."""
    distance = np.maximum(x - start["E_x"], 1e-12)
    basis = distance ** start["kappa"]
    variance = float(np.var(basis))
    share = noise_x**2 * float(np.mean((start["kappa"] * basis / distance) ** 2)) / variance if variance > 0 else np.inf
    return min(LARGEST_SHARE, SHARE_GROWTH * share)


def corrected_samples(
    start: Mapping[str, float], x: np.ndarray, y: np.ndarray, weights_Rn: np.ndarray, *, noise_x: float
) -> dict[str, np.ndarray]:
    """Return the parameters of the corrected line for each of R rows of weights; NaN where the noise is too large.

    Args:
        start: the parameters at which every descent starts.
        x: (n,) losses on the first set.
        y: (n,) losses on the second set.
        weights_Rn: the weight of each point in each row.
        noise_x: standard deviation of the noise of a point in x.
    """
    at_once = max(1, NUMBERS_AT_ONCE // max(x.size, 1))
    first = np.log([[max(float(x.min()) - start["E_x"], 1e-12), start["kappa"]]])
    share = _largest_share(start, x, noise_x)
    parts = []
    for k in range(0, len(weights_Rn), at_once):
        problem = _Corrected(x, y, weights_Rn[k : k + at_once], noise_x, share)
        parts.append(problem.parameters(problem.minimise(np.repeat(first, len(problem.weights_Rn), axis=0))))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
