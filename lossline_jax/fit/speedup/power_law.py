"""Fit L = E + A / C^alpha to several settings at once. Each has its own A; E and alpha are shared, own or given.

The objective is the sum of squares of ln(L) - ln(f). Errors come from the delete-one jackknife of whole runs in one
Gauss-Newton step (Fox, Hinkley and Larntz 1980): it needs no normal noise, and works with three runs a setting, of
which a bootstrap has ten resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.special

from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.speedup.power_problem import (
    NAMES,
    PowerProblem,
    misfit,
    power_problem,
    shift_of_runs,
    solve,
    without_runs,
)

DIFFERENT = 0.05  # probability at which exponents of settings are called different, by convention
MIN_RUNS_OF_TEST = 3  # runs of a setting that the test of its exponent needs


@dataclass(frozen=True, eq=False)
class PowerFit:
    """The joint fit of K settings. The exponent multiplies ln(C) - centre."""

    E: np.ndarray  # (K,) in the unit of the loss
    alpha: np.ndarray  # (K,)
    log_A: np.ndarray  # (K,) ln(L - E) at the centre
    centre: float
    columns: Mapping[str, np.ndarray]  # by name, (K,) the parameter of each setting in `moves`; -1: none, it is given
    moves: np.ndarray | None  # (runs, P) change of the parameters without each run; None: a setting has one run
    run_settings: np.ndarray  # (runs,) the setting of each run
    run_shifts: np.ndarray  # (runs,) how far a run lies to the right of its curve, in ln(C)
    has_checkpoints: bool  # some run has several points
    squares: float  # of ln(L) - ln(f)
    misfit: float | None  # see `misfit`

    def loss(self, k: int, log_compute: np.ndarray | float) -> np.ndarray:
        """Return the loss of setting k at these ln(C)."""
        return self.E[k] + np.exp(self.log_A[k] - self.alpha[k] * (log_compute - self.centre))

    def log_compute(self, k: int, losses: np.ndarray) -> np.ndarray:
        """Return the ln(C) with which setting k reaches the losses, which are above its E."""
        return self.centre + (self.log_A[k] - np.log(losses - self.E[k])) / self.alpha[k]

    def gradient(self, k: int, losses: np.ndarray) -> np.ndarray:
        """Return the (losses, P) derivatives of `log_compute` by the parameters."""
        above, alpha = losses - self.E[k], self.alpha[k]
        derivatives = {
            "E": 1 / (above * alpha),
            "alpha": -(self.log_A[k] - np.log(above)) / alpha**2,
            "log_A": np.full(losses.shape, 1 / alpha),
        }
        return _placed(derivatives, self.columns, k)

    def num_free(self, settings: Sequence[int]) -> int:
        """Return the number of fitted parameters that these settings use."""
        used = {int(column[k]) for column in self.columns.values() for k in settings}
        return len(used - {-1})

    def variance(self, gradient: np.ndarray) -> np.ndarray | None:
        """Return the (m,) jackknife variances of (m, P) linear functions. None: a setting has one run only."""
        if self.moves is None:
            return None
        changes = self.moves @ gradient.T
        variance = np.zeros(gradient.shape[0])
        for k in np.unique(self.run_settings):
            of_setting = changes[self.run_settings == k]
            n = of_setting.shape[0]
            variance += (n - 1) / n * np.sum((of_setting - of_setting.mean(axis=0)) ** 2, axis=0)
        return variance


def fit_power_laws(
    cells: Sequence[ComputeCell], fix: Mapping[str, float], share: Sequence[str] | None
) -> tuple[PowerFit, str]:
    """Fit the settings together, and return the parameter that is not shared although nobody asked for that, or "".

    Args:
        cells: the settings. Each has points at two budgets or more.
        fix: given values of `NAMES`.
        share: names of `NAMES` with one value for all settings; others are each setting's own. None: both are shared.
            If the exponents then differ (jackknife of runs, 5%, Bonferroni), either the exponents or the E are each
            setting's own: whichever fits better.
    """
    if share is not None:
        return _fit(cells, fix, share), ""
    fit = _fit(cells, fix, NAMES)
    if len(cells) < 2 or "alpha" in fix or min(cell.num_runs for cell in cells) < MIN_RUNS_OF_TEST:
        return fit, ""
    own_alpha = _fit(cells, fix, ("E",))
    if not _exponents_differ(own_alpha):
        return fit, ""
    candidates = {"alpha": own_alpha}
    if "E" not in fix:
        candidates["E"] = _fit(cells, fix, ("alpha",))
    name = min(candidates, key=lambda key: candidates[key].squares)
    return candidates[name], name


def _exponents_differ(fit: PowerFit) -> bool:
    """Test whether the exponent of some setting differs from that of the first one."""
    if fit.moves is None:
        return False
    num_settings = fit.alpha.size
    for k in range(1, num_settings):
        gradient = np.zeros((1, fit.moves.shape[1]))
        gradient[0, fit.columns["alpha"][k]], gradient[0, fit.columns["alpha"][0]] = 1.0, -1.0
        variance = fit.variance(gradient)
        if variance is None or not variance[0] > 0:
            continue
        t = abs(fit.alpha[k] - fit.alpha[0]) / np.sqrt(variance[0])
        p = 2 * scipy.special.stdtr(freedom_of(fit, (0, k)), -t)
        if p < DIFFERENT / (num_settings - 1):
            return True
    return False


def freedom_of(fit: PowerFit, settings: Sequence[int]) -> float:
    """Return the degrees of freedom of errors: runs less parameters; where runs have checkpoints, less settings."""
    num_runs = int(np.isin(fit.run_settings, settings).sum())
    used = len(settings) if fit.has_checkpoints else fit.num_free(settings)
    return float(max(num_runs - used, 1))


def _fit(cells: Sequence[ComputeCell], fix: Mapping[str, float], share: Sequence[str]) -> PowerFit:
    scale = float(np.exp(np.mean(np.log(np.concatenate([cell.loss for cell in cells])))))  # losses have any unit
    cells = [replace(cell, loss=cell.loss / scale) for cell in cells]
    problem = power_problem(cells, {**fix, "E": fix["E"] / scale} if "E" in fix else fix, share)
    theta = solve(problem)
    values = problem.values(theta)
    moves = without_runs(problem, theta)
    own = np.unique(problem.columns["E"][problem.columns["E"] >= 0])
    if moves is not None:
        moves[:, own] *= scale
    return PowerFit(
        E=scale * values["E"],
        alpha=values["alpha"],
        log_A=np.log(scale) + values["log_A"],
        centre=problem.centre,
        columns=problem.columns,
        moves=moves,
        run_settings=_run_settings(problem),
        run_shifts=shift_of_runs(problem, theta),
        has_checkpoints=problem.num_runs < problem.loss.size,
        squares=float(np.sum(problem.residuals(theta) ** 2)),
        misfit=misfit(problem, theta),
    )


def _run_settings(problem: PowerProblem) -> np.ndarray:
    first = np.unique(problem.run, return_index=True)[1]
    return problem.setting[first]


def _placed(values: Mapping[str, np.ndarray], columns: Mapping[str, np.ndarray], k: int) -> np.ndarray:
    """Return (m, P) derivatives with each in the column of its parameter."""
    num = 1 + max(int(column.max()) for column in columns.values())
    result = np.zeros((values["log_A"].size, num))
    for name, column in columns.items():
        if column[k] >= 0:
            result[:, column[k]] += values[name]
    return result
