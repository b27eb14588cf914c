"""What the comparison of lines says of a factor and of each of its levels, in one unit."""

from dataclasses import dataclass
from typing import Literal

from lossline_jax.fit.compare.gap import OuterGap, PairGap

Verdict = Literal["moves", "crosses", "does not move", "cannot tell"]


@dataclass(frozen=True)
class LevelGap:
    """One level of a factor against the reference level: the mean signed gap between their lines.

    Gap and interval are in the unit of the comparison; None where there is none, and the note says why.
    """

    level: str
    verdict: Verdict
    note: str
    gap: float | None = None  # mean over runs and matched pairs of y - reference line(x), on the common support
    interval: tuple[float, float] | None = None  # 90%, by bootstrap; None: one run a level says nothing of another
    method: str = ""  # what was resampled
    ratio: float | None = None  # gap / noise floor
    p: float | None = None  # of no gap, Student's t with the noise floor; None: nothing was repeated
    smallest_detectable_gap: float | None = None  # found in 90% of studies of this design; None: nothing was repeated
    support: tuple[float, float] | None = None  # range of x that both have
    num_points: int = 0  # on the common support
    num_points_outside: int = 0
    num_runs: int = 0
    num_reference_runs: int = 0
    pairs: tuple[PairGap, ...] = ()  # the gap of each matched pair
    outer: tuple[OuterGap, ...] = ()  # the gap over the lowest and over the highest third of the support


@dataclass(frozen=True)
class FactorComparison:
    """Whether a factor moves the line, in one unit."""

    factor: str
    reference: str  # the level that the others are compared with
    unit: str
    verdict: Verdict
    note: str
    noise: float | None  # standard deviation between seeds, or the scatter about the line where nothing is repeated
    noise_source: Literal["seeds", "scatter", "none"]
    noise_freedom: int  # repetitions behind the noise floor
    margin: float | None  # a line does not move where the interval lies within +- margin
    p: float | None  # of no gaps at all: F test with runs as units
    p_holm: float | None  # the same, corrected over the factors of the table (Holm 1979)
    p_line: float | None  # of "one line serves all levels", shape included: permutation of runs
    num_arrangements: float  # p_line cannot be below one over this
    levels: tuple[LevelGap, ...]
    far_runs: tuple[str, ...] = ()  # far from the line of their own setting: the verdict holds without them too
