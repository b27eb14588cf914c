"""Runs that lie far from the line of the other runs of their own setting: one of them hides what a study could find.

A run is held against the other runs of its setting by two distances from their common line: the mean over its points,
and half the difference between its lower and its upper half. Each is divided by the noise of all other runs, in which
those of its own setting weigh most, and is far where Student's t, corrected for twice the number of runs, is below 5%.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from lossline_jax.fit.compare.setting_line import SettingLine

SIGNIFICANCE = 0.05  # over all runs and both distances
REST = 5  # repetitions that the runs of all other settings count for, beside those of the own setting
MOST_FREEDOM = 10  # of that noise: tails of seeds are heavier than normal, however many runs there are
SHARE = 10  # a run in ten, or one, may be far
MIN_HALVES = 4  # points of a run whose halves are compared


@dataclass(frozen=True)
class FarRun:
    """A run far from the line of its setting, or, with a partner, one of two of which either may be."""

    run: str
    partner: str | None  # the only other run of the setting
    distance: float  # in the unit of y
    ratio: float  # of the distance to the noise of the other runs
    turned: bool  # the distance is between its halves, not its mean

    @property
    def run_ids(self) -> tuple[str, ...]:
        return (self.run,) if self.partner is None else (self.run, self.partner)

    def __str__(self) -> str:
        size = f"{abs(self.distance):.3f} ({abs(self.ratio):.0f} times the noise of the others)"
        if self.partner is not None:
            return f"runs {self.run} and {self.partner} of one setting lie {size} apart, and either may be off"
        if self.turned:
            return f"run {self.run} turns off the line of its setting's other runs by {size}"
        return f"run {self.run} lies {size} {'above' if self.distance > 0 else 'below'} its setting's other runs"


@dataclass(frozen=True, eq=False)
class _Distances:
    """Distances of the runs of one setting from their common line."""

    runs: tuple[str, ...]
    values_R: np.ndarray
    turned: bool

    def without(self, runs: Set[str]) -> "_Distances":
        keep = [run not in runs for run in self.runs]
        return _Distances(
            tuple(run for run, kept in zip(self.runs, keep, strict=True) if kept), self.values_R[keep], self.turned
        )

    @property
    def squares(self) -> float:
        return float(np.sum((self.values_R - self.values_R.mean()) ** 2)) if self.values_R.size else 0.0

    @property
    def freedom(self) -> int:
        return max(self.values_R.size - 1, 0)


def far_runs(cells: Sequence[SettingLine]) -> tuple[FarRun, ...]:
    """The farthest first. A setting of one run has no other to be far from; of two, either may be the one that is off.

    The farthest run is set aside before the next is looked at, as two would hide each other, and all up to the last
    that is far are named.
    """
    kinds = [_means(cells), _halves(cells)]
    num_runs = sum(distances.values_R.size for distances in kinds[0])
    farthest_runs: list[FarRun] = []
    num_far = 0
    for _ in range(max(1, num_runs // SHARE)):
        aside = {run for far in farthest_runs for run in far.run_ids}
        candidates = [far for kind in kinds for far in _candidates([each.without(aside) for each in kind])]
        if not candidates:
            break
        p, far = min(candidates, key=lambda candidate: candidate[0])
        farthest_runs.append(far)
        if p * 2 * num_runs < SIGNIFICANCE:
            num_far = len(farthest_runs)
    return tuple(farthest_runs[:num_far])


def runs_left_out(far: Sequence[FarRun]) -> list[frozenset[str]]:
    """The sets of runs without which a verdict must hold: all, with one and then the other of two."""
    first = frozenset(each.run for each in far)
    second = frozenset(each.partner or each.run for each in far)
    return [first] if first == second else [first, second]


def _candidates(settings: Sequence[_Distances]) -> list[tuple[float, FarRun]]:
    """Every run of a setting that has another, with p of a distance as large as its own."""
    squares, freedom = sum(each.squares for each in settings), sum(each.freedom for each in settings)
    candidates = []
    for setting in settings:
        rest, rest_freedom = squares - setting.squares, freedom - setting.freedom
        for run in setting.runs if setting.freedom else ():
            others = setting.without({run})
            index = setting.runs.index(run)
            distance = float(setting.values_R[index] - others.values_R.mean())
            weight = min(REST, rest_freedom)
            trusted = weight + others.freedom
            pooled = weight * rest / rest_freedom if weight else 0.0
            noise = float(np.sqrt((pooled + others.squares) / trusted)) if trusted else 0.0
            if noise > 0:
                ratio = distance / noise
                spread = np.sqrt(1 + 1 / others.values_R.size)
                known = trusted**2 / (others.freedom + (weight**2 / rest_freedom if weight else 0.0))  # Satterthwaite
                p = float(2 * stdtr(min(known, MOST_FREEDOM), -abs(ratio) / spread))  # Student's t, either tail
                partner = others.runs[0] if len(others.runs) == 1 else None
                candidates.append((p, FarRun(run, partner, distance, ratio, setting.turned)))
    return candidates


def _means(cells: Sequence[SettingLine]) -> list[_Distances]:
    return [_distances(cell, lambda x, y: y.mean(), 1, turned=False) for cell in cells]


def _halves(cells: Sequence[SettingLine]) -> list[_Distances]:
    return [_distances(cell, _half_difference, MIN_HALVES, turned=True) for cell in cells]


def _half_difference(x: np.ndarray, y: np.ndarray) -> float:
    ordered = y[np.argsort(x, kind="stable")]
    middle = y.size // 2
    return (ordered[:middle].mean() - ordered[-middle:].mean()) / 2


def _distances(cell: SettingLine, measure, min_points: int, turned: bool) -> _Distances:
    values: Mapping[str, float] = {}
    if cell.fit.has_curve and cell.num_runs > 1:
        residuals = cell.y - cell.fit.predict(x=cell.x)
        masks = {run: cell.runs == run for run in cell.run_ids}
        values = {
            str(run): measure(cell.x[mask], residuals[mask]) for run, mask in masks.items() if mask.sum() >= min_points
        }
    return _Distances(tuple(values), np.array(list(values.values())), turned)
