"""Decide the verdict of a factor from its measurement, and note what a reader must know before believing it.

The rules of the verdicts are in the docstring of `compare_lines.compare_setting_lines`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.special

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap, Verdict
from lossline_jax.fit.compare.course import GapCourse, LineCourse
from lossline_jax.fit.compare.gap import LineGap, PairGap
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.compare.permutation import NOTHING_EXCHANGED, PermutationTest
from lossline_jax.fit.compare.setting_line import MatchedPair, SettingLine

SIGNIFICANCE = 0.05  # probability, by convention, of all tests here
POWER = 0.9  # probability of finding a gap of the size `smallest_detectable_gap`. A convention
ONE_RUN = "one run a level: no interval"
ROUGH_FREEDOM = 4  # repetitions: with at most this many the noise floor is called rough. A convention


@dataclass(frozen=True, eq=False)
class FactorMeasurement:
    """The measurement of one factor: the input of its verdict."""

    factor: str
    reference: str
    noise: Noise | None  # None: no setting of the factor has a line
    noise_cells: tuple[SettingLine, ...]  # settings that the noise was estimated from
    gaps: Mapping[str, LineGap | str]  # by level; a text: the reason why there is no gap
    p: float | None  # of "no gaps at all", by the F test; None: nothing was repeated
    pairs: Mapping[str, tuple[MatchedPair, ...]]  # the compared pairs of each level
    runs_told_apart: bool  # False: the table does not name runs
    run_ids: frozenset[str]  # runs of the settings that the factor compares
    line: PermutationTest = NOTHING_EXCHANGED
    courses: Mapping[str, LineCourse] = field(default_factory=dict)  # by level, where one was measured


def decide_verdict(
    item: FactorMeasurement, p_holm: float | None, *, num_tested: int, margin_in_noise: float, unit: str
) -> FactorComparison:
    """Decide the verdict of a factor by the rules of `compare_lines.compare_setting_lines`.

    Args:
        item: the measurement of the factor.
        p_holm: the factor's p-value, corrected over all factors. None: it was not tested.
        num_tested: number of factors that were tested.
        margin_in_noise: the margin, in noise floors.
        unit: the unit of the losses, copied into the result.
    """
    noise = item.noise
    margin = None if noise is None else margin_in_noise * noise.floor
    strictest = SIGNIFICANCE / max(num_tested, 1)  # of the Holm correction: its smallest level
    levels = tuple(
        _judge_level(level, gap, item, p_holm=p_holm, margin=margin, strictest=strictest)
        for level, gap in item.gaps.items()
    )
    verdict = verdict_of(levels)
    return FactorComparison(
        factor=item.factor,
        reference=item.reference,
        unit=unit,
        verdict=verdict,
        note=_note(item, p_holm, verdict),
        noise=None if noise is None else noise.floor,
        noise_source="none" if noise is None else noise.source,
        noise_freedom=0 if noise is None else noise.degrees_of_freedom,
        margin=margin,
        p=item.p,
        p_holm=p_holm,
        p_line=item.line.p,
        num_arrangements=item.line.num_arrangements,
        levels=levels,
    )


def verdict_of(levels: Sequence[LevelGap]) -> Verdict:
    """Judge a factor by its levels.

    One level is enough for "moves" or "crosses". "does not move" takes all levels.

    Args:
        levels: the judged levels of the factor.
    """
    verdicts = {level.verdict for level in levels}
    decisive: tuple[Verdict, ...] = ("moves", "crosses")
    for verdict in decisive:
        if verdict in verdicts:
            return verdict
    return "does not move" if verdicts == {"does not move"} else "cannot tell"


def _judge_level(
    level: str,
    gap: LineGap | str,
    item: FactorMeasurement,
    *,
    p_holm: float | None,
    margin: float | None,
    strictest: float,
) -> LevelGap:
    """Decide the verdict of one level."""
    noise = item.noise
    if isinstance(gap, str):
        return LevelGap(level, "cannot tell", gap)
    if noise is None or margin is None:
        return LevelGap(level, "cannot tell", gap.note)
    level_gap = LevelGap(
        level=level,
        verdict="cannot tell",
        note=gap.note,
        gap=gap.value,
        interval=gap.interval,
        method=gap.method,
        ratio=gap.value / noise.floor if gap.value is not None and noise.floor > 0 else None,
        p=_student_p(gap.value, gap.variance, noise),
        smallest_detectable_gap=_smallest_detectable(gap.variance, noise, strictest),
        support=gap.support,
        num_points=sum(pair.num_points for pair in gap.pairs),
        num_points_outside=gap.num_points_outside,
        num_runs=sum(pair.num_runs for pair in gap.pairs),
        num_reference_runs=sum(pair.num_reference_runs for pair in gap.pairs),
        pairs=gap.pairs,
        outer=gap.outer,
    )
    if (course := item.courses.get(level)) is not None:
        pairs = tuple(replace(pair, course=part) for pair, part in zip(gap.pairs, course.pairs, strict=True))
        level_gap = replace(level_gap, pairs=pairs, course=course.whole)
    if not gap.pairs:
        return level_gap
    one_run = "" if noise.repeated else ONE_RUN
    courses = "" if course is None or course.agrees else _courses_of_pairs(level_gap.pairs)
    parts = (
        one_run,
        disagreement(gap.pairs, margin),
        courses,
        _crossing(level_gap, margin),
        _place_beyond(level_gap, margin),
        _bend(level_gap.course),
        gap.note,
    )
    note = "; ".join(part for part in parts if part)
    verdict = _verdict(level_gap, item.line, p_holm, noise=noise, margin=margin)
    judged = replace(level_gap, verdict=verdict, note=note)
    return judged if noise.repeated else _without_intervals(judged)


def _without_intervals(level: LevelGap) -> LevelGap:
    """Remove the intervals: one run tells how well its own line is known, and nothing of the line of another run."""
    pairs = tuple(replace(pair, interval=None) for pair in level.pairs)
    outer = tuple(replace(outer_gap, interval=None) for outer_gap in level.outer)
    return replace(level, interval=None, method="", pairs=pairs, outer=outer)


def _verdict(level: LevelGap, line: PermutationTest, p_holm: float | None, *, noise: Noise, margin: float) -> Verdict:
    """Decide the verdict of a level that has a gap."""
    pair_moves = any(_pair_moves(pair, len(level.pairs), noise, margin) for pair in level.pairs)
    if noise.repeated:
        rejected = p_holm is not None and p_holm < SIGNIFICANCE and not _contradicted(line)
        moves = rejected and (_level_moves(level, noise) or pair_moves)
    else:
        moves = pair_moves or _beyond(level.interval, margin)
    if moves:
        return "moves"
    if _crossing(level, margin):
        return "crosses"
    if level.interval is None or _place_beyond(level, margin):
        return "cannot tell"
    within = all(abs(end) < margin for end in level.interval) and all(abs(pair.gap) < margin for pair in level.pairs)
    return "does not move" if within else "cannot tell"


def _level_moves(level: LevelGap, noise: Noise) -> bool:
    """Tell whether the mean gap of a level is significant and larger than the noise floor."""
    significant = level.p is not None and level.p < SIGNIFICANCE
    return significant and level.gap is not None and abs(level.gap) > noise.floor


def _pair_moves(pair: PairGap, num_pairs: int, noise: Noise, margin: float) -> bool:
    """Tell whether the gap of one pair shows a move by itself, Bonferroni-corrected over pairs."""
    if not noise.repeated:
        return _beyond(pair.interval, margin)
    p = _student_p(pair.gap, pair.variance, noise)
    return abs(pair.gap) > margin and p is not None and p < SIGNIFICANCE / num_pairs


def _beyond(interval: tuple[float, float] | None, margin: float) -> bool:
    """Tell whether an interval lies wholly beyond the margin, on one side of zero."""
    return interval is not None and (interval[0] > margin or interval[1] < -margin)


def _crossing(level: LevelGap, margin: float) -> str:
    """Describe a crossing: the gaps of both ends lie beyond the margin, on opposite sides of zero. Empty: none.

    The ends are the outer thirds of the common support, or the two ends of the course.
    """
    outer, course = level.outer, level.course
    if len(outer) == 2 and all(_beyond(end.interval, margin) for end in outer) and outer[0].gap * outer[1].gap < 0:
        ends = [f"{end.gap:+.3f} at x {end.support[0]:.3f}-{end.support[1]:.3f}" for end in outer]
        return f"the lines cross: {' and '.join(ends)}"
    if course is not None and len(_ends_beyond(course, margin)) == 2 and course.start * course.far < 0:
        start_x, far_x = course.x
        return f"the lines cross: {course.far:+.3f} at x {far_x:.3f} and {course.start:+.3f} at x {start_x:.3f}"
    return ""


def _place_beyond(level: LevelGap, margin: float) -> str:
    """Describe a place of the course at which the gap surely lies beyond the margin, where the mean lies within it.

    The place is one of the two ends, or the middle.
    """
    course, interval = level.course, level.interval
    if course is None or interval is None or any(abs(end) >= margin for end in interval) or _crossing(level, margin):
        return ""
    ends = _ends_beyond(course, margin)
    if ends:
        gap, x = (course.far, course.x[1]) if "far" in ends else (course.start, course.x[0])
    elif course.middle is not None and _beyond(course.middle_interval, margin):
        gap, x = course.middle, float(np.mean(course.x))
    else:
        return ""
    return f"the mean gap is within the margin, but the gap at x {x:.3f} surely is not: {gap:+.3f}"


def _bend(course: GapCourse | None) -> str:
    """Describe a gap that is equal at both ends of its course, and another one in the middle. Empty: it is not so."""
    if course is None or course.middle is None or not course.bends:
        return ""
    larger = abs(course.middle) > max(abs(course.start), abs(course.far))
    start, far = (f"{gap:+.3f} at x {x:.3f}" for gap, x in zip((course.start, course.far), course.x, strict=True))
    places = f"{course.middle:+.3f} at x {np.mean(course.x):.3f}, but {start} and {far}"
    return f"the gap is {'larger' if larger else 'another one'} in the middle than at both ends: {places}"


def _ends_beyond(course: GapCourse, margin: float) -> list[str]:
    """Return the ends of a course, `start` and `far`, at which the gap surely lies beyond the margin."""
    intervals = {"start": course.start_interval, "far": course.far_interval}
    return [name for name, interval in intervals.items() if _beyond(interval, margin)]


def disagreement(pairs: Sequence[PairGap], margin: float) -> str:
    """Describe how much the pairs differ, where they differ by more than the margin. Empty: they do not.

    Args:
        pairs: the gap of each matched pair of a level.
        margin: the margin of the factor.
    """
    low, high = min(pairs, key=lambda pair: pair.gap), max(pairs, key=lambda pair: pair.gap)
    if len(pairs) < 2 or high.gap - low.gap < margin:
        return ""
    return f"from {low.gap:+.3f} ({low.matched_on}) to {high.gap:+.3f} ({high.matched_on})"


def _courses_of_pairs(pairs: Sequence[PairGap]) -> str:
    """Describe how the courses of pairs differ."""
    known = [(pair.course.change, pair.matched_on) for pair in pairs if pair.course is not None]
    (low, low_name), (high, high_name) = min(known), max(known)
    return f"the course differs between pairs: change from {low:+.3f} ({low_name}) to {high:+.3f} ({high_name})"


def _student_p(gap: float | None, variance: float, noise: Noise) -> float | None:
    """Return the two-sided p-value of "no gap". None: there are no repetitions."""
    if not noise.repeated or gap is None or not noise.floor > 0:
        return None
    return float(2 * scipy.special.stdtr(noise.degrees_of_freedom, -abs(gap) / (noise.floor * np.sqrt(variance))))


def _smallest_detectable(variance: float, noise: Noise, strictest: float) -> float | None:
    """Return the gap that 90% of studies of this design would call a move.

    The strictest level of the Holm correction is assumed. None: there are no repetitions.
    """
    if not (noise.repeated and noise.floor > 0 and np.isfinite(variance)):
        return None
    error = noise.floor * np.sqrt(variance)
    t_test, t_power = scipy.special.stdtrit(noise.degrees_of_freedom, [1 - strictest / 2, POWER])
    return float(max(t_test * error, noise.floor) + t_power * error)


def _contradicted(line: PermutationTest) -> bool:
    """Tell whether the exchange of runs could have shown a difference and did not show it."""
    return line.p is not None and 1 / line.num_arrangements < SIGNIFICANCE / 5 and line.p > SIGNIFICANCE


def _note(item: FactorMeasurement, p_holm: float | None, verdict: Verdict) -> str:
    """Return the warnings that a reader needs before believing the verdict, separated by semicolons."""
    notes = []
    if not item.runs_told_apart:
        notes.append("the table does not tell runs apart (name their column: --run COLUMN): each setting counts as one")
    if item.noise is not None and not item.noise.repeated:
        notes.append("one run a level: the noise is the scatter along the lines; the line of another seed could differ")
    elif item.noise is not None and not item.noise.floor > 0:
        notes.append("the repetitions are identical: they show no noise")
    elif item.noise is not None and item.noise.degrees_of_freedom <= ROUGH_FREEDOM:
        notes.append(f"the noise floor is rough: {item.noise.degrees_of_freedom} repetitions")
    if p_holm is not None and p_holm < SIGNIFICANCE and _contradicted(item.line):
        notes.append(f"exchanging runs between levels gives lines as different as these (p {item.line.p:.2g})")
    if verdict == "does not move" and item.line.p is not None and item.line.p < SIGNIFICANCE:
        notes.append(f"the lines do differ (p {item.line.p:.2g}), by less than the margin on average")
    return "; ".join(notes)
