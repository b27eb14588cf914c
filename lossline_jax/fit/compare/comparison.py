"""The result of a comparison of lines: one record for each factor, which holds one record for each of its levels."""

from dataclasses import dataclass
from typing import Literal

from lossline_jax.fit.compare.course import GapCourse
from lossline_jax.fit.compare.gap import OuterGap, PairGap
from lossline_jax.fit.compare.interaction import Interaction
from lossline_jax.fit.compare.level_trend import LevelTrend

Verdict = Literal["moves", "crosses", "does not move", "cannot tell"]


@dataclass(frozen=True)
class LevelGap:
    """The mean signed gap between the lines of a level and of the reference level of its factor.

    Gap and interval are in the unit of the comparison. None: no gap was measured; the note says why.
    """

    level: str
    verdict: Verdict
    note: str
    gap: float | None = None  # mean over runs and matched pairs of y - reference line(x), on the common support
    interval: tuple[float, float] | None = None  # 90%, by bootstrap; None: one run a level says nothing of another run
    method: str = ""  # what the bootstrap resampled
    ratio: float | None = None  # gap / noise floor; None: no gap, or a noise floor of zero
    p: float | None = None  # of "no gap", Student's t with the noise floor; None: no setting was repeated
    smallest_detectable_gap: float | None = None  # found in 90% of studies of this design; None: nothing was repeated
    support: tuple[float, float] | None = None  # range of x that both levels have; None: they share none
    num_points: int = 0  # points of the level on the common support
    num_points_outside: int = 0  # points of the level outside it
    num_runs: int = 0
    num_reference_runs: int = 0
    pairs: tuple[PairGap, ...] = ()  # the gap of each matched pair
    outer: tuple[OuterGap, ...] = ()  # the gap over the lowest and over the highest third of the support
    course: GapCourse | None = None  # from the start of training to its end; None: no run spans the common support

    @property
    def verdict_and_course(self) -> str:
        """The verdict, and the word of the course if there is one: `moves, fades`."""
        word = "" if self.course is None else self.course.word
        return f"{self.verdict}, {word}" if word and word != self.verdict else self.verdict


@dataclass(frozen=True)
class FactorComparison:
    """The verdict on one factor, in one unit of the losses, with the numbers behind it."""

    factor: str
    reference: str  # the level that all other levels are compared with
    unit: str
    verdict: Verdict
    note: str
    noise: float | None  # deviation between seeds; without repetitions: scatter about the lines; None: no line
    noise_source: Literal["seeds", "scatter", "none"]
    noise_freedom: int  # repetitions behind the noise floor
    margin: float | None  # a line does not move where the interval lies within +- margin; None: no noise floor
    p: float | None  # of "no gaps at all": F test with runs as units; None: no setting was repeated
    p_holm: float | None  # `p` corrected over the factors of the table (Holm 1979); None: as for `p`
    p_line: (
        float | None
    )  # of "one line serves all levels", shape included: permutation of runs; None: nothing to permute
    num_arrangements: float  # ways to distribute the runs over the levels; `p_line` is at least one over this number
    levels: tuple[LevelGap, ...]
    far_runs: tuple[str, ...] = ()  # runs far from the line of their own setting, which the verdict does not rest on
    trend: LevelTrend | None = None  # of the gap over levels that are numbers; None: they are not
    interactions: tuple[Interaction, ...] = ()  # of each level with each other factor that it is crossed with

    def interactions_of(self, level: str) -> tuple[Interaction, ...]:
        """Return the interactions of a level that were found.

        Args:
            level: the level of the factor.
        """
        return tuple(item for item in self.interactions if item.level == level and item.found)
