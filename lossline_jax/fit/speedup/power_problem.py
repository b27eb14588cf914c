"""The least-squares problem of several power laws that share parameters: its solution, and that without each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from lossline_jax.fit.speedup.cell import ComputeCell

NAMES = ("E", "alpha")  # parameters that settings can share
STARTS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)  # of E, in smallest losses
ALPHA_RANGE = (1e-3, 20.0)  # of the search. A convention
LARGEST_EXPONENT = 700.0  # of float64, about
LACK_OF_FIT = 0.001  # probability at which curves are said to miss their points, by convention
SINGULAR = 1e12  # condition of a scaled Gram matrix above which runs do not determine the parameters


@dataclass(frozen=True, eq=False)
class PowerProblem:
    """The points of K settings, and the position of each parameter in the vector theta of P parameters."""

    loss: np.ndarray  # (n,)
    x: np.ndarray  # (n,) ln(C) - centre
    centre: float
    setting: np.ndarray  # (n,)
    run: np.ndarray  # (n,) runs are numbered through all settings
    columns: Mapping[str, np.ndarray]  # by name, (K,) the position in theta; -1: none, the value is given
    fix: Mapping[str, float]
    lower: np.ndarray  # (P,)
    upper: np.ndarray  # (P,)

    @property
    def num_runs(self) -> int:
        """The number of runs."""
        return int(self.run.max()) + 1

    def values(self, theta: np.ndarray) -> dict[str, np.ndarray]:
        """Return the (K,) values of each parameter by name."""
        return {
            name: np.where(column >= 0, theta[np.maximum(column, 0)], self.fix.get(name, 0.0))
            for name, column in self.columns.items()
        }

    def parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the (n,) power terms A / C^alpha and the (n,) curves."""
        values = self.values(theta)
        exponent = values["log_A"][self.setting] - values["alpha"][self.setting] * self.x
        power = np.exp(np.clip(exponent, -LARGEST_EXPONENT, LARGEST_EXPONENT))
        return power, values["E"][self.setting] + power

    def residuals(self, theta: np.ndarray) -> np.ndarray:
        """Return (n,) ln(f) - ln(L)."""
        return np.log(self.parts(theta)[1]) - np.log(self.loss)

    def jacobian(self, theta: np.ndarray) -> np.ndarray:
        """Return the (n, P) derivatives of the residuals."""
        power, curve = self.parts(theta)
        derivatives = {"E": 1 / curve, "alpha": -self.x * power / curve, "log_A": power / curve}
        result = np.zeros((self.loss.size, self.lower.size))
        for name, column in self.columns.items():
            used = column[self.setting]
            rows = np.flatnonzero(used >= 0)
            result[rows, used[rows]] += derivatives[name][rows]
        return result

    def slope(self, theta: np.ndarray) -> np.ndarray:
        """Return the (n,) values of -d ln(f) / d ln(C)."""
        power, curve = self.parts(theta)
        return self.values(theta)["alpha"][self.setting] * power / curve


def power_problem(cells: Sequence[ComputeCell], fix: Mapping[str, float], share: Sequence[str]) -> PowerProblem:
    """Return the problem of some settings.

    Args:
        cells: the settings.
        fix: given values of `NAMES`.
        share: names of `NAMES` with one value for all settings; others are each setting's own.
    """
    loss = np.concatenate([cell.loss for cell in cells])
    x = np.concatenate([cell.log_compute for cell in cells])
    setting = np.repeat(np.arange(len(cells)), [cell.loss.size for cell in cells])
    runs = np.concatenate([cell.runs for cell in cells])
    names = np.array([f"{k} {run}" for k, run in zip(setting, runs, strict=True)])
    columns, num = _columns(len(cells), fix, share)
    lower, upper = np.full(num, -np.inf), np.full(num, np.inf)
    for k, column in enumerate(columns["E"]):
        if column >= 0:
            lower[column], upper[column] = 0.0, (loss if "E" in share else loss[setting == k]).min()
    for column in columns["alpha"]:
        if column >= 0:
            lower[column], upper[column] = ALPHA_RANGE
    centre = float(x.mean())
    run = np.unique(names, return_inverse=True)[1]
    return PowerProblem(loss, x - centre, centre, setting, run, columns=columns, fix=fix, lower=lower, upper=upper)


def _columns(num_settings: int, fix: Mapping[str, float], share: Sequence[str]) -> tuple[dict[str, np.ndarray], int]:
    """Return the position of the parameter of each setting, by name, and the number of parameters."""
    columns: dict[str, np.ndarray] = {}
    num = 0
    for name in (*NAMES, "log_A"):
        if name in fix:
            columns[name] = np.full(num_settings, -1)
        elif name in share:
            columns[name] = np.full(num_settings, num)
            num += 1
        else:
            columns[name] = num + np.arange(num_settings)
            num += num_settings
    return columns, num


def solve(problem: PowerProblem) -> np.ndarray:
    """Return the best parameters of several starts, which differ in E.

    Args:
        problem: the problem.
    """
    import scipy.optimize  # takes a seventh of a second, and comparing lines does not need it

    smallest = problem.loss.min()
    levels = (problem.fix["E"],) if "E" in problem.fix else tuple(start * smallest for start in STARTS)
    solutions = [
        scipy.optimize.least_squares(
            problem.residuals,
            np.clip(_start(problem, level), problem.lower + 1e-9, problem.upper - 1e-9 * smallest),
            problem.jacobian,  # pyright: ignore[reportArgumentType] - the stubs know only the names of methods
            bounds=(problem.lower, problem.upper),
            x_scale="jac",
            ftol=1e-14,
            xtol=1e-14,
            gtol=1e-14,
            max_nfev=300,
        )
        for level in levels
    ]
    return min(solutions, key=lambda solution: solution.cost).x


def _start(problem: PowerProblem, E: float) -> np.ndarray:
    """Return the parameters for this E: the slope and height of ln(L - E) against ln(C) of each setting."""
    theta = np.zeros(problem.lower.size)
    y = np.log(np.maximum(problem.loss - E, 1e-6 * problem.loss))
    members = [problem.setting == k for k in range(problem.columns["E"].size)]
    slopes = np.clip([-np.polyfit(problem.x[mask], y[mask], 1)[0] for mask in members], *ALPHA_RANGE)
    is_shared = np.unique(problem.columns["alpha"]).size < len(members)
    for k, mask in enumerate(members):
        alpha = problem.fix.get("alpha", float(slopes.mean() if is_shared else slopes[k]))
        for name, value in (("alpha", alpha), ("E", E), ("log_A", float(np.mean(y[mask] + alpha * problem.x[mask])))):
            if (column := problem.columns[name][k]) >= 0:
                theta[column] = value
    return theta


def without_runs(problem: PowerProblem, theta: np.ndarray) -> np.ndarray | None:
    """Return the (runs, P) change of the solution without each run, in one Gauss-Newton step.

    Parameters on a bound do not move.

    Args:
        problem: the problem.
        theta: its solution.

    Returns:
        The changes. None: the points do not determine the parameters without some run.
    """
    near = 1e-6 * problem.loss.min()
    on_bound = (theta <= problem.lower + near) | (theta >= problem.upper - near)
    free = np.flatnonzero(~on_bound)
    jacobian, residuals = problem.jacobian(theta)[:, free], problem.residuals(theta)
    gram = jacobian.T @ jacobian
    moves = np.zeros((problem.num_runs, theta.size))
    for i in range(problem.num_runs):
        of_run = problem.run == i
        rest = gram - jacobian[of_run].T @ jacobian[of_run]
        if np.linalg.cond(_scaled(rest)) > SINGULAR:
            return None
        moves[i, free] = np.linalg.solve(rest, jacobian[of_run].T @ residuals[of_run])
    return moves


def shift_of_runs(problem: PowerProblem, theta: np.ndarray) -> np.ndarray:
    """Return the (runs,) ln(C) by which each run lies to the right of its curve, by least squares.

    Args:
        problem: the problem.
        theta: its solution.
    """
    slope, above = problem.slope(theta), -problem.residuals(theta)
    squares = np.bincount(problem.run, slope**2)
    return np.bincount(problem.run, slope * above) / np.maximum(squares, 1e-300)


def misfit(problem: PowerProblem, theta: np.ndarray) -> float | None:
    """Return how far the curves miss the means of their points, as a root mean square in ln(C).

    The test of lack of fit compares these means with the scatter of runs about them (F test). The shift of each run is
    taken out before. Only points of several runs of a setting at one compute count.

    Args:
        problem: the problem.
        theta: its solution.

    Returns:
        The miss. None: no compute has several runs, or the miss is no more than their scatter explains.
    """
    slope = problem.slope(theta)
    residuals = -problem.residuals(theta) - shift_of_runs(problem, theta)[problem.run] * slope
    places = np.stack([problem.setting, np.round(problem.x, 6)], axis=1)
    group, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)[1:]
    group = group.ravel()
    means = np.bincount(group, residuals) / counts
    is_repeated = counts[group] > 1
    num_groups = int(np.sum(counts > 1))
    lack_freedom = num_groups - theta.size
    scatter_freedom = int(is_repeated.sum()) - num_groups - problem.num_runs
    if lack_freedom < 1 or scatter_freedom < 1:
        return None
    lack = float(np.sum(means[group][is_repeated] ** 2))
    scatter = float(np.sum((residuals - means[group])[is_repeated] ** 2))
    if (
        not scatter > 0
        or scipy.special.fdtrc(lack_freedom, scatter_freedom, lack / lack_freedom / (scatter / scatter_freedom))
        > LACK_OF_FIT
    ):
        return None
    return float(np.sqrt(np.mean((means[group] / slope)[is_repeated] ** 2)))


def _scaled(gram: np.ndarray) -> np.ndarray:
    """Return the matrix with ones on its diagonal, so that its condition does not depend on units."""
    diagonal = np.sqrt(np.maximum(np.diag(gram), 1e-300))
    return gram / np.outer(diagonal, diagonal)
