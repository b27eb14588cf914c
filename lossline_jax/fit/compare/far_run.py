"""Find runs that lie far from the other runs of their own setting, by any distance that each run has one value of.

Each distance is divided by the noise of all other runs, in which the runs of the same setting weigh most.
A run is far where Student's t, corrected for the number of runs and distances, is below 5%.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import stdtr

from lossline_jax.formatting import ratio_text

# All of these are conventions of this package. `benchmarks/rough_lines.py` measures what they find and miss, and
# `benchmarks/speedup.py` does so for the compute of runs.
SIGNIFICANCE = 0.05  # probability, over all runs and distances
REST = 5  # degrees of freedom that the runs of all other settings add at most to those of the run's own setting
MOST_FREEDOM = 10  # degrees of freedom of the t test at most: tails of seeds are heavier than normal
SHARE = 10  # one run in ten may be far, and always at least one
SURE_FREEDOM = 5  # degrees of freedom of the noise of the other runs from which a far run is set aside
OTHER_UNIT = 100.0  # ratio of compute from which a unit is the likely reason

# Mean distance in y from the line; half the difference in y between two halves; ln(compute) at equal loss; ln(loss) at
# equal compute.
DistanceKind = Literal["mean", "turn", "compute", "loss"]


@dataclass(frozen=True)
class FarRun:
    """A run far from the other runs of its setting.

    Where the setting has only two runs, either of them may be the one that is off: the other one is the `partner`.
    """

    run: str
    partner: str | None  # the only other run of the setting; None: it has several
    distance: float  # in the unit of y, or in logarithms
    ratio: float  # distance / noise of the other runs
    freedom: float  # degrees of freedom of that noise
    kind: DistanceKind

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
        noises = f"({abs(self.ratio):.0f} times the noise of the others)"
        if self.kind in ("compute", "loss"):
            return self._ratio_words(noises)
        size = f"{abs(self.distance):.3f} {noises}"
        if self.partner is not None:
            return f"runs {self.run} and {self.partner} of one setting lie {size} apart, and either may be off"
        if self.kind == "turn":
            return f"run {self.run} turns off the line of its setting's other runs by {size}"
        return f"run {self.run} lies {size} {'above' if self.distance > 0 else 'below'} its setting's other runs"

    def _ratio_words(self, noises: str) -> str:
        """Return the words for a distance in logarithms."""
        other_unit = self.kind == "compute" and abs(self.distance) > np.log(OTHER_UNIT)
        unit = ", as if its compute had another unit" if other_unit else ""
        of_two, of_others = (
            ("in compute at equal loss", "times the compute at equal loss of its setting's other runs")
            if self.kind == "compute"
            else ("in loss at equal compute", "times the loss at equal compute of its setting's other runs")
        )
        if self.partner is not None:
            factor = ratio_text(float(np.exp(abs(self.distance))))
            apart = f"differ by a factor of {factor} {of_two}{unit} {noises}"
            return f"runs {self.run} and {self.partner} of one setting {apart}, and either may be off"
        return f"run {self.run} has {ratio_text(float(np.exp(self.distance)))} {of_others}{unit} {noises}"


@dataclass(frozen=True, eq=False)
class RunDistances:
    """One distance of each run of a setting. Only the differences between them count."""

    runs: tuple[str, ...]
    values_R: np.ndarray
    kind: DistanceKind

    def without(self, runs: Set[str]) -> "RunDistances":
        """Return the distances of the other runs.

        Args:
            runs: the runs to leave out.
        """
        keep = [run not in runs for run in self.runs]
        kept = tuple(run for run, is_kept in zip(self.runs, keep, strict=True) if is_kept)
        return RunDistances(kept, self.values_R[keep], self.kind)

    @property
    def squares(self) -> float:
        """The sum of squares about the mean."""
        return float(np.sum((self.values_R - self.values_R.mean()) ** 2)) if self.values_R.size else 0.0

    @property
    def freedom(self) -> int:
        """The degrees of freedom of `squares`."""
        return max(self.values_R.size - 1, 0)


def num_far_at_most(num_runs: int) -> int:
    """Return how many of so many runs may be far."""
    return max(1, num_runs // SHARE)


def farthest_runs(
    kinds: Sequence[Sequence[RunDistances]], num_runs: int, noise_of_others: float = 1.0
) -> tuple[FarRun, ...]:
    """Return the runs that are far from the other runs of their setting, the farthest first.

    A setting of one run has no other run to compare it with. Of two runs, either may be the one that is off.
    The farthest run is set aside before the next one is looked at, because two far runs would hide each other.
    All runs up to the last far one are named.

    Args:
        kinds: for each kind of distance, the distances of every setting.
        num_runs: the number of runs. With the number of kinds, it corrects the p of each distance (Bonferroni).
        noise_of_others: factor on the noise of the other settings. It is above 1 where settings may differ that much in
            noise, and a run must be far in spite of it.
    """
    farthest: list[FarRun] = []
    num_far = 0
    for _ in range(num_far_at_most(num_runs)):
        aside = {run for far in farthest for run in far.run_ids}
        candidates = [
            far for kind in kinds for far in _candidates([setting.without(aside) for setting in kind], noise_of_others)
        ]
        if not candidates:
            break
        p, far = min(candidates, key=lambda candidate: candidate[0])
        farthest.append(far)
        if p * len(kinds) * num_runs < SIGNIFICANCE:
            num_far = len(farthest)
    return tuple(farthest[:num_far])


def runs_set_aside(far: Sequence[FarRun]) -> frozenset[str]:
    """Return the runs that are surely the bad ones.

    Args:
        far: the far runs.
    """
    return frozenset(run.run for run in far if run.sure)


def runs_in_doubt(far: Sequence[FarRun]) -> list[frozenset[str]]:
    """Return the sets of runs without each of which a verdict must hold: all runs that are not surely bad.

    Of two runs of one setting either may be off. One set then has the first of them and another set the second.

    Args:
        far: the far runs.
    """
    doubtful = [run for run in far if not run.sure]
    first = frozenset(run.run for run in doubtful)
    second = frozenset(run.partner or run.run for run in doubtful)
    return list(dict.fromkeys([first, second])) if doubtful else []


def _candidates(settings: Sequence[RunDistances], noise_of_others: float) -> list[tuple[float, FarRun]]:
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
            pooled = weight * noise_of_others**2 * rest / rest_freedom if weight else 0.0
            noise = float(np.sqrt((pooled + others.squares) / trusted)) if trusted else 0.0
            if noise > 0:
                ratio = distance / noise
                spread = np.sqrt(1 + 1 / others.values_R.size)
                satterthwaite = trusted**2 / (others.freedom + (weight**2 / rest_freedom if weight else 0.0))
                used_freedom = min(satterthwaite, MOST_FREEDOM)
                p = float(2 * stdtr(used_freedom, -abs(ratio) / spread))  # two-sided
                partner = others.runs[0] if len(others.runs) == 1 else None
                candidates.append((p, FarRun(run, partner, distance, ratio, used_freedom, setting.kind)))
    return candidates
