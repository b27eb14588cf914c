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


NOTHING_EXCHANGED = PermutationTest(None, 1.0)


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


def permutation_test(moments: Sequence["RunMoments | None"], seed: int) -> PermutationTest:
    """Test "one line serves all levels" by exchanging whole runs between levels, within matched groups.

    The statistic compares nested models by their residual sums of squares: one curve for all levels, or one for each.
    Each curve is one shifted power law, fitted to all levels together, plus a parabola. The fit of the power law does
    not use the levels. Every arrangement of whole runs is therefore equally likely where one line serves all levels.

    Args:
        moments: the statistics of each matched group, as `moments_of` gives them.
        seed: seed of the random arrangements.
    """
    prepared = [item for item in moments if item is not None]
    arrangements = math.prod(_arrangements(np.bincount(item.levels)) for item in prepared)
    if arrangements < 2:
        return NOTHING_EXCHANGED
    generator = np.random.Generator(np.random.PCG64(seed))
    observed, drawn = 0.0, np.zeros(NUM_PERMUTATIONS)
    for item in prepared:
        observed += item.statistic(item.levels[None])[0]
        drawn += item.statistic(generator.permuted(np.tile(item.levels, (NUM_PERMUTATIONS, 1)), axis=1))
    if not (np.isfinite(observed) and np.all(np.isfinite(drawn))):  # all residuals are exactly zero
        return PermutationTest(None, float(min(arrangements, 10**300)))
    num_as_large = int(np.sum(drawn >= observed - 1e-9 * abs(observed)))
    return PermutationTest((1 + num_as_large) / (1 + NUM_PERMUTATIONS), float(min(arrangements, 10**300)))


@dataclass(frozen=True, eq=False)
class RunMoments:
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


def moments_of(groups: Sequence[Sequence[SettingLine]]) -> list[RunMoments | None]:
    """Return the statistics of each matched group: settings that differ in one factor alone.

    Only runs on the support that all settings of a group share count. The lines of all groups are fitted together.

    Args:
        groups: the matched groups.

    Returns:
        One entry for each group. None: nothing can be exchanged.
    """
    runs_of_groups = [_exchangeable(group) for group in groups]
    known = [k for k, runs in enumerate(runs_of_groups) if runs]
    points = [
        LineData(np.concatenate([x for _, x, _ in runs]), np.concatenate([y for _, _, y in runs]))
        for runs in runs_of_groups
        if runs
    ]
    fits = fit_each_line(points, num_starts=16, level=None)
    moments: list[RunMoments | None] = [None] * len(groups)
    for k, common in zip(known, fits, strict=True):
        moments[k] = _moments(runs_of_groups[k], common) if common.has_curve else None
    return moments


_Run = tuple[int, np.ndarray, np.ndarray]  # index of the level, x and y


def _exchangeable(group: Sequence[SettingLine]) -> list[_Run]:
    """Return the runs on the support that all settings of the group share. Empty: nothing can be exchanged."""
    low, high = max(cell.x.min() for cell in group), min(cell.x.max() for cell in group)
    runs = [
        (level, cell.x[in_support], cell.y[in_support])
        for level, cell in enumerate(group)
        for run in cell.run_ids
        if np.sum(in_support := (cell.runs == run) & (cell.x >= low) & (cell.x <= high)) >= MIN_POINTS
    ]
    levels = np.array([level for level, _, _ in runs], int)
    return runs if np.unique(levels).size > 1 and np.bincount(levels).max() > 1 else []


def _moments(runs: Sequence[_Run], common: FitResult) -> RunMoments:
    """Return the statistics of the runs about their common line."""
    levels = np.unique([level for level, _, _ in runs], return_inverse=True)[1]
    low, high = min(x.min() for _, x, _ in runs), max(x.max() for _, x, _ in runs)
    middle, half = (high + low) / 2, (high - low) / 2
    gram, moment, squares, num_points = [], [], 0.0, 0
    for _, x_run, y_run in runs:
        residuals = y_run - common.predict(x=x_run)
        basis = np.vander((x_run - middle) / half, 3, increasing=True)
        gram.append(basis.T @ basis)
        moment.append(basis.T @ residuals)
        squares += float(residuals @ residuals)
        num_points += x_run.size
    return RunMoments(levels, np.array(gram), np.array(moment), squares, num_points)


def _arrangements(counts: np.ndarray) -> int:
    """Return the number of ways to distribute the runs over levels of these sizes."""
    total = math.factorial(int(counts.sum()))
    return total // math.prod(math.factorial(int(count)) for count in counts)
