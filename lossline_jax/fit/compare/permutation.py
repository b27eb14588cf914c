"""Does one line serve all levels, or does each need its own? Whole runs are exchanged, because checkpoints of a run
are not independent."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy.stats

from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.curves.line import fit_line

MIN_POINTS = 3  # of a run, on the common support
NUM_PERMUTATIONS = 1999


@dataclass(frozen=True)
class PermutationTest:
    """One line for all levels against one a level."""

    p: float | None  # None: nothing could be exchanged
    num_arrangements: float  # ways to deal the runs out to the levels: p cannot be below one over it


def anova_p(means: Sequence[np.ndarray], num_runs: Sequence[np.ndarray], floor: float, freedom: int) -> float | None:
    """p of equal levels, runs being the units: the nested models are one mean distance for all, and one a level.

    Args:
        means: a matched group each: (levels,) mean distance of each level's runs from the group's reference line,
            the reference level's own (zero) first.
        num_runs: (levels,) runs behind each.
        floor, freedom: standard deviation of a run, and the degrees of freedom of that number.

    Returns:
        Of the F distribution; None without repetitions or without two levels.
    """
    between, levels = 0.0, 0
    for group, count in zip(means, num_runs, strict=True):
        centre = np.average(group, weights=count)
        between += float(np.sum(count * (group - centre) ** 2))
        levels += group.size - 1
    if not (freedom and levels and floor > 0):
        return None
    return float(scipy.stats.f.sf(between / levels / floor**2, levels, freedom))


def permutation_test(groups: Sequence[Sequence[SettingLine]], seed: int) -> PermutationTest:
    """Deal runs out to levels anew within matched groups.

    The statistic is that of nested models: the residual sum of squares about one curve against that about a curve a
    level, each a shifted power law common to all plus a parabola. The common curve does not know the levels, so under
    "one line serves all" every arrangement of whole runs is as likely as the one seen.

    Args:
        groups: settings that differ in the factor alone, a group each.
    """
    prepared = [moments for group in groups if (moments := _moments(group)) is not None]
    arrangements = math.prod(_arrangements(np.bincount(moments.levels)) for moments in prepared)
    if arrangements < 2:
        return PermutationTest(None, 1.0)
    generator = np.random.Generator(np.random.PCG64(seed))
    seen, drawn = 0.0, np.zeros(NUM_PERMUTATIONS)
    for moments in prepared:
        seen += moments.statistic(moments.levels[None])[0]
        drawn += moments.statistic(generator.permuted(np.tile(moments.levels, (NUM_PERMUTATIONS, 1)), axis=1))
    if not (np.isfinite(seen) and np.all(np.isfinite(drawn))):  # residuals that are exactly zero
        return PermutationTest(None, float(min(arrangements, 10**300)))
    reached = int(np.sum(drawn >= seen - 1e-9 * abs(seen)))
    return PermutationTest((1 + reached) / (1 + NUM_PERMUTATIONS), float(min(arrangements, 10**300)))


@dataclass(frozen=True, eq=False)
class _Moments:
    """Sufficient statistics of each run for a parabola through its residuals."""

    levels: np.ndarray  # (runs,)
    gram_R33: np.ndarray
    moment_R3: np.ndarray
    squares: float
    num_points: int

    def statistic(self, levels_PR: np.ndarray) -> np.ndarray:
        """(P,) log likelihood ratio of a curve a level against one curve, for each arrangement."""
        explained = np.zeros(levels_PR.shape[0])
        for level in range(self.levels.max() + 1):
            mask_PR = (levels_PR == level).astype(float)
            explained += self._explained(mask_PR @ self.gram_R33.reshape(-1, 9), mask_PR @ self.moment_R3)
        everything = np.ones((1, self.levels.size))
        one = self._explained(everything @ self.gram_R33.reshape(-1, 9), everything @ self.moment_R3)[0]
        with np.errstate(divide="ignore", invalid="ignore"):
            return self.num_points * np.log((self.squares - one) / (self.squares - explained))

    @staticmethod
    def _explained(gram_P9: np.ndarray, moment_P3: np.ndarray) -> np.ndarray:
        gram_P33 = gram_P9.reshape(-1, 3, 3)
        ridge = 1e-9 * np.trace(gram_P33, axis1=1, axis2=2)[:, None, None] * np.eye(3)
        return np.sum(moment_P3 * np.linalg.solve(gram_P33 + ridge, moment_P3[..., None])[..., 0], axis=1)


def _moments(group: Sequence[SettingLine]) -> _Moments | None:
    """Of the runs of a group on the support that all its settings share; None where there is no test in them."""
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
    x, y = (np.concatenate([run[k] for run in runs]) for k in (1, 2))
    common = fit_line(x, y, num_starts=16, level=None)
    if not common.has_curve:
        return None
    middle, half = (high + low) / 2, (high - low) / 2
    gram, moment, squares = [], [], 0.0
    for _, x_run, y_run in runs:
        residuals = y_run - common.predict(x=x_run)
        basis = np.vander((x_run - middle) / half, 3, increasing=True)
        gram.append(basis.T @ basis)
        moment.append(basis.T @ residuals)
        squares += float(residuals @ residuals)
    return _Moments(levels, np.array(gram), np.array(moment), squares, x.size)


def _arrangements(counts: np.ndarray) -> int:
    """Ways to deal so many runs out to levels of these sizes."""
    total = math.factorial(int(counts.sum()))
    return total // math.prod(math.factorial(int(count)) for count in counts)
