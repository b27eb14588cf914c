"""The noise of runs in ln(compute) at equal loss, pooled over all settings of a table, and the errors that follow."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from lossline_jax.fit.result import INTERVAL_LEVEL
from lossline_jax.fit.speedup.cell import ComputeCell, Displacement

NOISIER = 0.1  # probability at which a setting has a noise of its own: larger than the others' (F test). A convention
NO_NOISE = 1e-9  # deviation of ln(compute) below which repetitions are copies. A convention
LARGEST = 700.0  # ends of ln(speedup) are cut here, since exp of a larger number is no float

Matched = tuple[ComputeCell, ComputeCell, Displacement]  # reference, level, and how far apart they lie


@dataclass(frozen=True, eq=False)
class Spread:
    """The variance of one run in ln(compute), at every loss and for the mean over the lower half of the losses."""

    source: int  # the settings that it comes from; equal sources are one estimate. `POOL` or the id of a setting
    variance: np.ndarray  # (m + 1,)
    freedom: float


POOL = 0


@dataclass(frozen=True, eq=False)
class Errors:
    """The value of a level with its standard errors: at each loss, and last for the mean over the lower half."""

    values: np.ndarray  # (m + 1,) ln(speedup), the mean over the pairs
    standard_errors: np.ndarray  # (m + 1,) NaN: unknown
    freedom: float
    noise: float | None  # deviation of a run; None: nothing was repeated

    def interval(self, k: int) -> tuple[float, float] | None:
        """Return the 90% interval of the speedup of entry k. None: nothing tells how runs vary."""
        error = self.standard_errors[k]
        if not (np.isfinite(error) and error > NO_NOISE):
            return None
        half = scipy.special.stdtrit(self.freedom, (1 + INTERVAL_LEVEL) / 2) * error
        low, high = np.exp(np.clip([self.values[k] - half, self.values[k] + half], -LARGEST, LARGEST))
        return float(low), float(high)

    @property
    def p(self) -> float | None:
        """The two-sided p-value of a mean speedup of 1. None: nothing tells how runs vary."""
        error = self.standard_errors[-1]
        if not (np.isfinite(error) and error > NO_NOISE):
            return None
        return float(2 * scipy.special.stdtr(self.freedom, -abs(self.values[-1]) / error))


class NoisePool:
    """The spread of the runs of each setting: its own where it is noisier than the others, else that of all.

    A setting that is far noisier than the others (Bonferroni over settings) does not count among all.
    """

    def __init__(self, matched: Sequence[Matched]) -> None:
        sums: dict[int, list[np.ndarray]] = {}
        self._freedom: dict[int, int] = {}
        for reference, level, item in matched:
            for cell, squares, freedom in (
                (reference, item.reference_squares, item.reference_freedom),
                (level, item.level_squares, item.level_freedom),
            ):
                if freedom:
                    sums.setdefault(id(cell), []).append(squares)
                    self._freedom[id(cell)] = freedom
        self._squares = {key: np.mean(rows, axis=0) for key, rows in sums.items()}
        self._pooled = set(self._squares)
        strictest = NOISIER / max(len(self._squares), 1)
        for key in sorted(self._squares, key=self._own_variance, reverse=True):
            if self._p_of_being_noisier(key) >= strictest:
                break
            self._pooled.remove(key)

    def spread(self, cell: ComputeCell) -> Spread | None:
        """Return the spread of the runs of a setting. None: no setting has two runs.

        Args:
            cell: the setting.
        """
        key = id(cell)
        if not self._squares:
            return None
        if key in self._squares and (key not in self._pooled or self._p_of_being_noisier(key) < NOISIER):
            return Spread(key, self._squares[key] / self._freedom[key], self._freedom[key])
        squares, freedom = self._sum(self._pooled)
        return Spread(POOL, squares / freedom, freedom)

    def _own_variance(self, key: int) -> float:
        return float(self._squares[key][-1]) / self._freedom[key]

    def _sum(self, keys: set[int]) -> tuple[np.ndarray, int]:
        return np.sum([self._squares[key] for key in keys], axis=0), sum(self._freedom[key] for key in keys)

    def _p_of_being_noisier(self, key: int) -> float:
        """Return the p-value of "no noisier than the others that are pooled" (F test); 1 without others."""
        others = self._pooled - {key}
        if not others:
            return 1.0
        squares, freedom = self._sum(others)
        if not squares[-1] > 0:
            return 1.0
        ratio = self._own_variance(key) / (squares[-1] / freedom)
        return float(scipy.special.fdtrc(self._freedom[key], freedom, ratio))


def errors_of_level(matched: Sequence[Matched], pool: NoisePool) -> Errors:
    """Return the mean over the pairs of a level, with its errors.

    A pair weighs the inverse of 1 / runs + 1 / reference runs.

    Args:
        matched: the pairs of the level, one or more.
        pool: the noise of the table.
    """
    weights = np.array([1 / (1 / item.num_runs + 1 / item.num_reference_runs) for *_, item in matched])
    weights /= weights.sum()
    values = np.sum([weight * item.values for weight, (*_, item) in zip(weights, matched, strict=True)], axis=0)
    if matched[0][-1].variance is not None:
        return _errors_of_laws(values, weights, [item for *_, item in matched])
    parts: dict[int, tuple[float, Spread]] = {}  # by source: the variance of the mean in variances of one run
    noise: Spread | None = None
    for weight, (reference, level, item) in zip(weights, matched, strict=True):
        for cell, num_runs in ((reference, item.num_reference_runs), (level, item.num_runs)):
            spread = pool.spread(cell)
            if spread is None:
                return Errors(values, np.full(values.size, np.nan), 0.0, None)
            share = parts.get(spread.source, (0.0, spread))[0] + weight**2 / num_runs
            parts[spread.source] = share, spread
            noise = spread
    variances = np.array([share * spread.variance for share, spread in parts.values()])
    freedoms = np.array([spread.freedom for _, spread in parts.values()])
    deviation = None if noise is None else float(np.sqrt(noise.variance[-1]))
    return Errors(values, np.sqrt(variances.sum(axis=0)), _satterthwaite(variances[:, -1], freedoms), deviation)


def _errors_of_laws(values: np.ndarray, weights: np.ndarray, items: Sequence[Displacement]) -> Errors:
    variances = np.array([weight**2 * item.variance for weight, item in zip(weights, items, strict=True)])
    if not np.all(np.isfinite(variances[:, -1])):
        return Errors(values, np.full(values.size, np.nan), 0.0, None)
    freedom = _satterthwaite(variances[:, -1], np.array([item.freedom for item in items]))
    noise = float(np.sqrt(np.mean([(item.noise or 0.0) ** 2 for item in items])))
    return Errors(values, np.sqrt(variances.sum(axis=0)), freedom, noise)


def _satterthwaite(variances: np.ndarray, freedoms: np.ndarray) -> float:
    """Return the degrees of freedom of a sum of independent variances (Satterthwaite 1946)."""
    squares = float(np.sum(variances**2 / freedoms))
    return float(variances.sum() ** 2 / squares) if squares > 0 else float(freedoms.sum())
