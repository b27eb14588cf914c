"""The line of one setting in one unit, and the lines of settings that differ in one factor alone."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from lossline_jax.fit.curves.line import fit_line
from lossline_jax.fit.direction import falls_with_x
from lossline_jax.fit.resampling import Bootstrap, bootstrap
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.tables.settings import Setting, Settings, differences

NUM_FIFTHS = 5
SURE_ERRORS = 4.0  # standard errors from which a fifth of the points lies off the line


@dataclass(frozen=True, eq=False)
class SettingLine:
    """The checkpoints of one setting, in one unit, with the line fitted to them."""

    setting: Setting
    x: np.ndarray  # (n,) finite losses
    y: np.ndarray
    runs: np.ndarray | None  # (n,) the run of each checkpoint; None: the table does not tell runs apart
    fit: FitResult
    resamples: Bootstrap | None  # None: the fit has no curve

    @property
    def levels(self) -> Mapping[str, str]:
        """The level of each factor."""
        return self.setting.levels

    @property
    def run_ids(self) -> tuple[str, ...]:
        return () if self.runs is None else tuple(dict.fromkeys(self.runs.tolist()))

    @property
    def num_runs(self) -> int:
        """At least one, also where runs are not told apart."""
        return max(len(self.run_ids), 1)

    @cached_property
    def why_no_line(self) -> str:
        """The reason why other settings cannot be held against the line of this one; empty where they can."""
        if not self.fit.has_curve:
            return "it cannot be fitted"
        return falls_with_x("y", self.x, self.y)

    @cached_property
    def misfit(self) -> float:
        """The largest mean distance of neighbouring points from the line, of fifths by x; 0 where it may be chance.

        Chance: less than four standard errors of the mean of a fifth, or a fifth of fewer than three points.
        """
        if not self.fit.has_curve or self.x.size < 3 * NUM_FIFTHS:
            return 0.0
        apart = (self.y - self.fit.predict(x=self.x))[np.argsort(self.x, kind="stable")]
        fifths = np.array_split(apart, NUM_FIFTHS)
        means = np.array([each.mean() for each in fifths])
        errors = np.array([each.std(ddof=1) / np.sqrt(each.size) for each in fifths])
        return float(np.max(np.abs(means) * (np.abs(means) > SURE_ERRORS * errors)))

    def without(self, runs: Set[str]) -> "SettingLine":
        """The setting without these runs, of which it has others, its line and resamples fitted again."""
        keep = np.array([str(run) not in runs for run in self.runs])
        x, y, left = self.x[keep], self.y[keep], self.runs[keep]
        fit, resamples = fit_line(x, y, left, level=None), None
        if fit.has_curve and self.resamples is not None:
            number, seed = self.resamples.num_resamples, self.resamples.seed
            resamples = bootstrap(fit, {"x": x}, y, clusters=left, num_resamples=number, seed=seed)
        return SettingLine(self.setting, x, y, left, fit, resamples)

    def run_means(self, values: np.ndarray, inside: np.ndarray) -> np.ndarray:
        """(runs,) mean of `values` (n,) over the points `inside` of each run that has any."""
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
    """Return the settings of some lines, numbered as the lines are."""
    return Settings(tuple(cell.setting for cell in cells))


def matched_pairs(cells: Sequence[SettingLine], factor: str, level: str, reference: str) -> list[MatchedPair]:
    """Pair the lines of `level` with those of the reference level that are equal in all other factors."""
    return [MatchedPair(cells[k], cells[n]) for k, n in settings_of(cells).pairs(factor, level, reference)]


def unmatched(cells: Sequence[SettingLine], base: Mapping[str, str]) -> list[SettingLine]:
    """Return the lines that no line of a reference level can be compared with."""
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
    """The factors that change whenever `factor` goes from the reference to `level`; where none always does, the fewest
    that do.

    Empty where one of the two levels has no setting at all.
    """
    sets = [
        frozenset(differences(a.levels, b.levels)) - {factor}
        for a in cells
        for b in cells
        if a.levels[factor] == reference and b.levels[factor] == level
    ]
    if not sets:
        return []
    always = frozenset.intersection(*sets) or min(sets, key=lambda names: (len(names), sorted(names)))
    return [name for name in cells[0].levels if name in always]
