"""Does one line serve all levels, or does each need its own?

Both tests of this file take whole runs as units, because checkpoints of a run are not independent.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.special

from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import LineData, fit_each_line
from lossline_jax.fit.result import FitResult

MIN_POINTS = 3  # points of a run on the common support; a run with fewer is not exchanged. A convention
NUM_PERMUTATIONS = 1999  # random arrangements, by convention: the smallest p is then 1 / 2000


@dataclass(frozen=True)
class PermutationTest:
    """The result of comparing one line for all levels with one line for each level."""

    p: float | None  # None: nothing could be exchanged
    num_arrangements: float  # ways to distribute the runs over the levels; p is at least one over this number


def anova_p(means: Sequence[np.ndarray], num_runs: Sequence[np.ndarray], floor: float, freedom: int) -> float | None:
    """Return the p-value of "all levels are equal", by an F test with runs as units.

    The nested models are one mean distance for all levels, and one mean distance for each level.

    Args:
        means: one array for each matched group: (levels,) mean distance of each level's runs from the group's reference
            line. The reference level comes first and has distance zero.
        num_runs: one array for each matched group: (levels,) number of runs behind each mean.
        floor: standard deviation of a run.
        freedom: degrees of freedom of the floor.

    Returns:
        The p-value of the F distribution. None: nothing was repeated, or there are no two levels.
    """
    between, levels = 0.0, 0
    for group, count in zip(means, num_runs, strict=True):
        centre = np.average(group, weights=count)
        between += float(np.sum(count * (group - centre) ** 2))
        levels += group.size - 1
    if not (freedom and levels and floor > 0):
        return None
    return float(scipy.special.fdtrc(levels, freedom, between / levels / floor**2))


def permutation_test(groups: Sequence[Sequence[SettingLine]], seed: int) -> PermutationTest:
    """Test "one line serves all levels" by exchanging whole runs between levels, within matched groups.

    The statistic compares nested models by their residual sums of squares: one curve for all levels, or one for each.
    Each curve is one shifted power law, fitted to all levels together, plus a parabola. The fit of the power law does
    not use the levels. Every arrangement of whole runs is therefore equally likely where one line serves all levels.

    Args:
        groups: matched groups: settings that differ in the factor alone.
        seed: seed of the random arrangements.
    """
    exchanged = [runs for group in groups if (runs := _exchanged_runs(group)) is not None]
    fits = fit_each_line([LineData(runs.x, runs.y) for runs in exchanged], num_starts=16, level=None)
    prepared = [_moments(runs, fit) for runs, fit in zip(exchanged, fits, strict=True) if fit.has_curve]
    arrangements = math.prod(_arrangements(np.bincount(moments.levels)) for moments in prepared)
    if arrangements < 2:
        return PermutationTest(None, 1.0)
    generator = np.random.Generator(np.random.PCG64(seed))
    observed, drawn = 0.0, np.zeros(NUM_PERMUTATIONS)
    for moments in prepared:
        observed += moments.statistic(moments.levels[None])[0]
        drawn += moments.statistic(generator.permuted(np.tile(moments.levels, (NUM_PERMUTATIONS, 1)), axis=1))
    if not (np.isfinite(observed) and np.all(np.isfinite(drawn))):  # all residuals are exactly zero
        return PermutationTest(None, float(min(arrangements, 10**300)))
    num_as_large = int(np.sum(drawn >= observed - 1e-9 * abs(observed)))
    return PermutationTest((1 + num_as_large) / (1 + NUM_PERMUTATIONS), float(min(arrangements, 10**300)))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sufficient statistics of the runs of a group, for fitting a parabola to their residuals."""

    levels: np.ndarray  # (runs,) index of each run's level
    gram_R33: np.ndarray
    moment_R3: np.ndarray
    squares: float  # sum over all points of the squared residual
    num_points: int

    def statistic(self, levels_PR: np.ndarray) -> np.ndarray:
        """Return (P,) log likelihood ratios of one curve for each level against one curve, for each arrangement."""
        explained = np.zeros(levels_PR.shape[0])
        for level in range(self.levels.max() + 1):
            mask_PR = (levels_PR == level).astype(float)
            explained += self._explained(mask_PR @ self.gram_R33.reshape(-1, 9), mask_PR @ self.moment_R3)
        all_runs = np.ones((1, self.levels.size))
        by_one_curve = self._explained(all_runs @ self.gram_R33.reshape(-1, 9), all_runs @ self.moment_R3)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.num_points * np.log((self.squares - by_one_curve) / (self.squares - explained))

    @staticmethod
    def _explained(gram_P9: np.ndarray, moment_P3: np.ndarray) -> np.ndarray:
        """Return (P,) reductions of the sum of squares by the best parabola."""
        gram_P33 = gram_P9.reshape(-1, 3, 3)
        ridge = 1e-9 * np.trace(gram_P33, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        return np.sum(moment_P3 * np.linalg.solve(gram_P33 + ridge, moment_P3[..., None])[..., 0], axis=1)


@dataclass(frozen=True, eq=False)
class _ExchangedRuns:
    """The runs of a group on the support that all its settings share."""

    levels: np.ndarray  # (runs,) index of each run's level
    points: list[tuple[np.ndarray, np.ndarray]]  # x and y of each run
    low: float  # end of the support
    high: float  # end of the support

    @property
    def x(self) -> np.ndarray:
        return np.concatenate([x for x, _ in self.points])

    @property
    def y(self) -> np.ndarray:
        return np.concatenate([y for _, y in self.points])


def _exchanged_runs(group: Sequence[SettingLine]) -> _ExchangedRuns | None:
    """Return the runs of a group that have points on the support of all its settings. None: there is no test."""
    low, high = max(cell.x.min() for cell in group), min(cell.x.max() for cell in group)
    runs = [
        (level, cell.x[in_support], cell.y[in_support])
        for level, cell in enumerate(group)
        for run in cell.run_ids
        if np.sum(in_support := (cell.runs == run) & (cell.x >= low) & (cell.x <= high)) >= MIN_POINTS
    ]
    levels = np.array([level for level, _, _ in runs], int)
    if np.unique(levels).size < 2 or np.bincount(levels).max() < 2:
        return None
    levels = np.unique(levels, return_inverse=True)[1]
    return _ExchangedRuns(levels, [(x, y) for _, x, y in runs], low, high)


def _moments(runs: _ExchangedRuns, common: FitResult) -> _Moments:
    """Return the statistics of the runs about the curve that is fitted to all of them."""
    middle, half = (runs.high + runs.low) / 2, (runs.high - runs.low) / 2
    gram, moment, squares = [], [], 0.0
    for x_run, y_run in runs.points:
        residuals = y_run - common.predict(x=x_run)
        basis = np.vander((x_run - middle) / half, 3, increasing=True)
        gram.append(basis.T @ basis)
        moment.append(basis.T @ residuals)
        squares += float(residuals @ residuals)
    return _Moments(runs.levels, np.array(gram), np.array(moment), squares, runs.x.size)


def _arrangements(counts: np.ndarray) -> int:
    """Return the number of ways to distribute the runs over levels of these sizes."""
    total = math.factorial(int(counts.sum()))
    return total // math.prod(math.factorial(int(count)) for count in counts)
