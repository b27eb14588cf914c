"""Hold the fitted line of one setting, and pair the lines of settings that differ in one factor alone."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.direction import falls_with_x
from lossline_jax.fit.resampling import Bootstrap, bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.tables.settings import Setting, Settings, differences

NUM_FIFTHS = 5  # parts of the points, by x, of which `misfit` takes the worst. A convention
SURE_ERRORS = 4.0  # standard errors from which a fifth of the points surely lies off the line. A convention


@dataclass(frozen=True, eq=False)
class SettingLine:
    """The checkpoints of one setting, in one unit, with the line fitted to them."""

    setting: Setting
    x: np.ndarray  # (n,) finite losses on the horizontal axis
    y: np.ndarray  # (n,) finite losses on the vertical axis
    runs: np.ndarray | None  # (n,) the run of each checkpoint; None: the table does not tell runs apart
    fit: FitResult
    resamples: Bootstrap | None  # None: the fit has no curve
    steps: np.ndarray | None = None  # (n,) the step of each checkpoint; None: the table does not tell all of them

    @property
    def levels(self) -> Mapping[str, str]:
        """The level of each factor."""
        return self.setting.levels

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The distinct runs, in the order in which they occur. Empty: the table does not tell runs apart."""
        return () if self.runs is None else tuple(dict.fromkeys(self.runs.tolist()))

    @property
    def num_runs(self) -> int:
        """The number of runs; one where the table does not tell runs apart."""
        return max(len(self.run_ids), 1)

    @cached_property
    def why_no_line(self) -> str:
        """The reason why this line cannot be a reference for other settings. Empty: it can."""
        if not self.fit.has_curve:
            return "it cannot be fitted"
        return falls_with_x("y", self.x, self.y)

    @cached_property
    def residuals(self) -> np.ndarray:
        """The (n,) distances y - line(x) of the points. The fit must have a curve."""
        return self.y - self.fit.predict(x=self.x)

    @cached_property
    def misfit(self) -> tuple[float, tuple[float, float]]:
        """The largest mean distance of neighbouring points from the line, in the unit of y, and their range of x.

        The points are split by x into fifths, and the fifth that lies farthest off counts. The distance is 0 where it
        may be chance: it is below four standard errors of the mean, or a fifth has fewer than three points.
        """
        if not self.fit.has_curve or self.x.size < 3 * NUM_FIFTHS:
            return 0.0, (np.nan, np.nan)
        order = np.argsort(self.x, kind="stable")
        fifths = np.array_split(self.residuals[order], NUM_FIFTHS)
        means = np.array([fifth.mean() for fifth in fifths])
        errors = np.array([fifth.std(ddof=1) / np.sqrt(fifth.size) for fifth in fifths])
        sure = np.abs(means) * (np.abs(means) > SURE_ERRORS * errors)
        worst = int(np.argmax(sure))
        x = np.array_split(self.x[order], NUM_FIFTHS)[worst]
        return float(sure[worst]), (float(x[0]), float(x[-1]))

    def without(self, runs: Set[str]) -> "SettingLine":
        """Return the setting without these runs, with its line and resamples fitted again.

        Args:
            runs: the runs to leave out. Some run of the setting must be left. A setting whose runs the table does not
                tell apart stays as it is.
        """
        return self if self.runs is None else self.only(np.array([str(run) not in runs for run in self.runs]))

    def only(self, keep: np.ndarray) -> "SettingLine":
        """Return the setting with some of its points alone, with its line and resamples fitted again.

        Args:
            keep: (n,) mask of these points.
        """
        x, y = self.x[keep], self.y[keep]
        runs, steps = (None if values is None else values[keep] for values in (self.runs, self.steps))
        fit, resamples = fit_line(x, y, runs, level=None), None
        if fit.has_curve and self.resamples is not None:
            number, seed = self.resamples.num_resamples, self.resamples.seed
            resamples = bootstrap(fit, {"x": x}, y, clusters=runs, num_resamples=number, seed=seed)
        return SettingLine(self.setting, x, y, runs, fit, resamples, steps)

    def run_means(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """Return (runs,) means of `values` over some points, for each run that has any of these points.

        Args:
            values: (n,) one value for each point.
            inside: (n,) mask of the points to use.
        """
        if self.runs is None:
            return np.array([values[inside].mean()]) if inside.any() else np.empty(0)
        codes = np.unique(self.runs[inside], return_inverse=True)[1]
        return np.bincount(codes, values[inside]) / np.bincount(codes) if codes.size else np.empty(0)


@dataclass(frozen=True, eq=False)
class MatchedPair:
    """Two settings that differ in one factor alone."""

    reference: SettingLine
    other: SettingLine


def settings_of(cells: Sequence[SettingLine]) -> Settings:
    """Return the settings of some lines, numbered as the lines are.

    Args:
        cells: every setting with its points and fitted line.
    """
    return Settings(tuple(cell.setting for cell in cells))


def matched_pairs(cells: Sequence[SettingLine], factor: str, level: str, reference: str) -> list[MatchedPair]:
    """Pair the lines of `level` with the lines of the reference level that are equal in all other factors.

    Args:
        cells: every setting with its points and fitted line.
        factor: the factor in which the lines of a pair differ.
        level: level of the factor that is compared.
        reference: level of the factor that `level` is compared with.
    """
    return [MatchedPair(cells[k], cells[n]) for k, n in settings_of(cells).pairs(factor, level, reference)]


def unmatched(cells: Sequence[SettingLine], base: Mapping[str, str]) -> list[SettingLine]:
    """Return the lines that cannot be compared with a line of any reference level.

    Args:
        cells: every setting with its points and fitted line.
        base: the reference level of each factor.
    """
    settings = settings_of(cells)
    matched = {
        number
        for factor in base
        for level in settings.levels_of(factor)
        if level != base[factor]
        for pair in settings.pairs(factor, level, base[factor])
        for number in pair
    }
    return [cell for k, cell in enumerate(cells) if k not in matched]


def confounders(cells: Sequence[SettingLine], factor: str, level: str, reference: str) -> list[str]:
    """Return the factors that are confounded with `factor`, for a pair of its levels.

    These are the factors that change whenever `factor` goes from the reference to `level`. Where no factor always
    changes, they are the smallest set of factors that change together. The list is empty where one of the two levels
    has no setting at all.

    Args:
        cells: every setting with its points and fitted line.
        factor: the factor whose levels are compared.
        level: level of the factor that is compared.
        reference: level of the factor that `level` is compared with.
    """
    changes = [
        frozenset(differences(first.levels, second.levels)) - {factor}
        for first in cells
        for second in cells
        if first.levels[factor] == reference and second.levels[factor] == level
    ]
    if not changes:
        return []
    always = frozenset.intersection(*changes) or min(changes, key=lambda names: (len(names), sorted(names)))
    return [name for name in cells[0].levels if name in always]
