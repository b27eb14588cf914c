"""Find runs that lie far from the line of the other runs of their own setting.

One such run can hide what a study would otherwise find, so it is set aside. Two distances of a run from the common
line of its setting are compared with those of the other runs. One is the mean over its points.
The other is half the difference between its lower and its upper half.

Each distance is divided by the noise of all other runs, in which the runs of the same setting weigh most.
A run is far where Student's t, corrected for twice the number of runs, is below 5%.
"""

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from lossline_jax.fit.compare.setting_line import SettingLine

# All of these are conventions of this package. `benchmarks/rough_lines.py` measures what they find and miss.
SIGNIFICANCE = 0.05  # probability, over all runs and both distances
REST = 5  # degrees of freedom that the runs of all other settings add at most to those of the run's own setting
MOST_FREEDOM = 10  # degrees of freedom of the t test at most: tails of seeds are heavier than normal
SHARE = 10  # one run in ten may be far, and always at least one
SURE_FREEDOM = 5  # degrees of freedom of the noise of the other runs from which a far run is set aside
MIN_HALVES = 4  # points that a run must have for its halves to be compared


@dataclass(frozen=True)
class FarRun:
    """A run far from the line of its setting.

    Where the setting has only two runs, either of them may be the one that is off: the other one is the `partner`.
    """

    run: str
    partner: str | None  # the only other run of the setting; None: it has several
    distance: float  # in the unit of y
    ratio: float  # distance / noise of the other runs
    freedom: float  # degrees of freedom of that noise
    turned: bool  # True: the distance is between the halves of the run; False: the mean

    @property
    def sure(self) -> bool:
        """True: the run itself is the bad one, and is set aside.

        Of two runs either may be off. And few other runs may lie close together by chance, which makes any run look
        far: to set it aside would then leave a noise that is much too small.
        """
        return self.partner is None and self.freedom >= SURE_FREEDOM

    @property
    def run_ids(self) -> tuple[str, ...]:
        """The run, and its partner if there is one."""
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
    """One distance of each run of a setting from their common line."""

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
    """Return the runs that are far from their setting's line, the farthest first.

    A setting of one run has no other run to compare it with. Of two runs, either may be the one that is off.
    The farthest run is set aside before the next one is looked at, because two far runs would hide each other.
    All runs up to the last far one are named.

    Args:
        cells: every setting with its points and fitted line.
    """
    kinds = [_means(cells), _halves(cells)]
    num_runs = sum(distances.values_R.size for distances in kinds[0])
    farthest_runs: list[FarRun] = []
    num_far = 0
    for _ in range(max(1, num_runs // SHARE)):
        aside = {run for far in farthest_runs for run in far.run_ids}
        candidates = [far for kind in kinds for far in _candidates([setting.without(aside) for setting in kind])]
        if not candidates:
            break
        p, far = min(candidates, key=lambda candidate: candidate[0])
        farthest_runs.append(far)
        if p * 2 * num_runs < SIGNIFICANCE:
            num_far = len(farthest_runs)
    return tuple(farthest_runs[:num_far])


def runs_set_aside(far: Sequence[FarRun]) -> frozenset[str]:
    """Return the runs that are surely the bad ones."""
    return frozenset(run.run for run in far if run.sure)


def runs_in_doubt(far: Sequence[FarRun]) -> list[frozenset[str]]:
    """Return the sets of runs without each of which a verdict must hold: all runs that are not surely bad.

    Of two runs of one setting either may be off. One set then has the first of them and another set the second.
    """
    doubtful = [run for run in far if not run.sure]
    first = frozenset(run.run for run in doubtful)
    second = frozenset(run.partner or run.run for run in doubtful)
    return list(dict.fromkeys([first, second])) if doubtful else []


def _candidates(settings: Sequence[_Distances]) -> list[tuple[float, FarRun]]:
    """Return every run that has another run in its setting, with the p-value of its distance."""
    squares, freedom = sum(setting.squares for setting in settings), sum(setting.freedom for setting in settings)
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
                satterthwaite = trusted**2 / (others.freedom + (weight**2 / rest_freedom if weight else 0.0))
                used_freedom = min(satterthwaite, MOST_FREEDOM)
                p = float(2 * stdtr(used_freedom, -abs(ratio) / spread))  # two-sided
                partner = others.runs[0] if len(others.runs) == 1 else None
                candidates.append((p, FarRun(run, partner, distance, ratio, used_freedom, setting.turned)))
    return candidates


def _means(cells: Sequence[SettingLine]) -> list[_Distances]:
    return [_distances(cell, lambda x, y: y.mean(), 1, turned=False) for cell in cells]


def _halves(cells: Sequence[SettingLine]) -> list[_Distances]:
    return [_distances(cell, _half_difference, MIN_HALVES, turned=True) for cell in cells]


def _half_difference(x: np.ndarray, y: np.ndarray) -> float:
    """Return half the difference between the means of the points at low and at high x."""
    ordered = y[np.argsort(x, kind="stable")]
    middle = y.size // 2
    return float(ordered[:middle].mean() - ordered[-middle:].mean()) / 2


def _distances(
    cell: SettingLine, measure: Callable[[np.ndarray, np.ndarray], float], min_points: int, *, turned: bool
) -> _Distances:
    """Apply `measure` to x and the residuals of each run that has enough points."""
    values: Mapping[str, float] = {}
    if cell.fit.has_curve and cell.num_runs > 1:
        masks = {run: cell.runs == run for run in cell.run_ids}
        values = {
            str(run): measure(cell.x[mask], cell.residuals[mask])
            for run, mask in masks.items()
            if mask.sum() >= min_points
        }
    return _Distances(tuple(values), np.array(list(values.values())), turned)
