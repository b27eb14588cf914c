"""From what was measured of a factor to a verdict, and to what must be known before it is believed."""

import dataclasses
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import numpy as np
import scipy.special

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap, Verdict
from lossline_jax.fit.compare.far_runs import FarRun
from lossline_jax.fit.compare.gap import LineGap, OuterGap, PairGap
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.compare.permutation import PermutationTest

SIGNIFICANCE = 0.05
POWER = 0.9  # of the smallest gap that a design is said to detect
ONE_RUN = "one run a level: no interval"
ROUGH_FREEDOM = 4  # so few repetitions, or fewer, make a rough noise floor


@dataclass(frozen=True, eq=False)
class FactorMeasurement:
    """What was measured of a factor, before it is judged."""

    factor: str
    reference: str
    noise: Noise | None
    gaps: Mapping[str, LineGap | str]  # by level; or why there is none
    p: float | None
    line: PermutationTest
    runs_told_apart: bool
    run_ids: frozenset[str]  # of the settings that are compared


def decide_verdict(
    item: FactorMeasurement, p_holm: float | None, num_tested: int, margin_in_noise: float, unit: str
) -> FactorComparison:
    """The verdict of a factor; `compare_lines.compare_setting_lines` says by which rules.

    Args:
        p_holm: the factor's p, corrected over all factors.
        num_tested: how many factors have one.
    """
    noise = item.noise
    margin = None if noise is None else margin_in_noise * noise.floor
    strict = SIGNIFICANCE / max(num_tested, 1)
    levels = tuple(_judge_level(level, gap, item, p_holm, margin, strict) for level, gap in item.gaps.items())
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
    """Judge a factor by its levels: one level shows a move or a crossing, "does not move" takes all of them."""
    verdicts = {level.verdict for level in levels}
    shown: tuple[Verdict, ...] = ("moves", "crosses")
    verdicts_shown = [verdict for verdict in shown if verdict in verdicts]
    if verdicts_shown:
        return verdicts_shown[0]
    return "does not move" if verdicts == {"does not move"} else "cannot tell"


def cautious(
    comparison: FactorComparison, without: Sequence[FactorComparison], far: Sequence[FarRun], used: Set[str]
) -> FactorComparison:
    """The comparison with runs named that lie far off: a verdict that does not hold without them is `cannot tell`.

    Args:
        comparison, without: of all runs, and of those that are left when the far ones go.
        used: runs of the settings that the factor compares; the others count where they change a verdict.
    """
    levels = tuple(
        _cautious_level(level, [other.levels[k] for other in without]) for k, level in enumerate(comparison.levels)
    )
    changed = any(level.verdict != old.verdict for level, old in zip(levels, comparison.levels, strict=True))
    named = [each for each in far if changed or used & set(each.run_ids)]
    if not named:
        return comparison
    verdict = verdict_of(levels)
    ends = list(dict.fromkeys(other.verdict for other in without))
    it = "it" if len(named) == 1 else "them"
    if ends == [comparison.verdict]:
        outcome = f"with and without {it}: {comparison.verdict}"
    else:
        outcome = f"with {it}: {comparison.verdict}, without {it}: {' or '.join(ends)}"
    note = "; ".join([*map(str, named), outcome, *([comparison.note] if comparison.note else [])])
    runs = tuple(dict.fromkeys(run for each in named for run in each.run_ids))
    return dataclasses.replace(comparison, verdict=verdict, note=note, levels=levels, far_runs=runs)


def _cautious_level(level: LevelGap, without: Sequence[LevelGap]) -> LevelGap:
    if all(other.verdict == level.verdict for other in without):
        return level
    other = next(other for other in without if other.verdict != level.verdict)
    gap = "" if other.gap is None else f", gap {other.gap:+.4f}"
    note = f"with all runs: {level.verdict}, without those far off: {other.verdict}{gap}"
    return dataclasses.replace(
        level, verdict="cannot tell", note="; ".join(part for part in (note, level.note) if part)
    )


def _judge_level(level: str, gap: LineGap | str, item: FactorMeasurement, p_holm, margin, strict: float) -> LevelGap:
    if isinstance(gap, str):
        return LevelGap(level, "cannot tell", gap)
    noise = item.noise
    level_gap = LevelGap(
        level=level,
        verdict="cannot tell",
        note=gap.note,
        gap=gap.value,
        interval=gap.interval,
        method=gap.method,
        ratio=gap.value / noise.floor if gap.value is not None and noise.floor > 0 else None,
        p=_student_p(gap.value, gap.variance, noise),
        smallest_detectable_gap=_smallest_detectable(gap.variance, noise, strict),
        support=gap.support,
        num_points=sum(pair.num_points for pair in gap.pairs),
        num_points_outside=gap.num_points_outside,
        num_runs=sum(pair.num_runs for pair in gap.pairs),
        num_reference_runs=sum(pair.num_reference_runs for pair in gap.pairs),
        pairs=gap.pairs,
        outer=gap.outer,
    )
    if not gap.pairs:
        return level_gap
    alone = "" if noise.repeated else ONE_RUN
    parts = (alone, _disagreement(gap.pairs, margin), _crossing(gap.outer, margin), gap.note)
    note = "; ".join(part for part in parts if part)
    judged = dataclasses.replace(level_gap, verdict=_verdict(level_gap, item, p_holm, margin), note=note)
    return judged if noise.repeated else _without_intervals(judged)


def _without_intervals(level: LevelGap) -> LevelGap:
    """One run a level says how well its own line is known, and nothing of where another run would lie."""
    pairs = tuple(dataclasses.replace(pair, interval=None) for pair in level.pairs)
    outer = tuple(dataclasses.replace(end, interval=None) for end in level.outer)
    return dataclasses.replace(level, interval=None, method="", pairs=pairs, outer=outer)


def _verdict(level: LevelGap, item: FactorMeasurement, p_holm: float | None, margin: float) -> Verdict:
    noise = item.noise
    apart = any(_pair_moves(pair, len(level.pairs), noise, margin) for pair in level.pairs)
    if noise.repeated:
        rejected = p_holm is not None and p_holm < SIGNIFICANCE and not _contradicted(item.line)
        real = level.p is not None and level.p < SIGNIFICANCE and abs(level.gap) > noise.floor
        moves = rejected and (real or apart)
    else:
        moves = apart or _beyond(level.interval, margin)
    if moves:
        return "moves"
    if _crossing(level.outer, margin):
        return "crosses"
    if level.interval is None:
        return "cannot tell"
    within = all(abs(end) < margin for end in level.interval) and all(abs(pair.gap) < margin for pair in level.pairs)
    return "does not move" if within else "cannot tell"


def _pair_moves(pair: PairGap, num_pairs: int, noise: Noise, margin: float) -> bool:
    if not noise.repeated:
        return _beyond(pair.interval, margin)
    p = _student_p(pair.gap, pair.variance, noise)
    return abs(pair.gap) > margin and p is not None and p < SIGNIFICANCE / num_pairs


def _beyond(interval: tuple[float, float] | None, margin: float) -> bool:
    return interval is not None and (interval[0] > margin or interval[1] < -margin)


def _crossing(outer: Sequence[OuterGap], margin: float) -> str:
    """Describe a crossing: both ends lie surely beyond the margin, on either side of zero. Empty: no crossing."""
    if len(outer) < 2 or not all(_beyond(end.interval, margin) for end in outer) or outer[0].gap * outer[1].gap > 0:
        return ""
    ends = (f"{end.gap:+.3f} at x {end.support[0]:.3f}-{end.support[1]:.3f}" for end in outer)
    return f"the lines cross: {' and '.join(ends)}"


def _disagreement(pairs: Sequence[PairGap], margin: float) -> str:
    """How far the pairs differ, where that is more than the margin."""
    low, high = min(pairs, key=lambda pair: pair.gap), max(pairs, key=lambda pair: pair.gap)
    if len(pairs) < 2 or high.gap - low.gap < margin:
        return ""
    return f"from {low.gap:+.3f} ({low.matched_on}) to {high.gap:+.3f} ({high.matched_on})"


def _student_p(gap: float | None, variance: float, noise: Noise) -> float | None:
    """Of no gap, two-sided; None without repetitions."""
    if not noise.repeated or gap is None or not noise.floor > 0:
        return None
    return float(2 * scipy.special.stdtr(noise.degrees_of_freedom, -abs(gap) / (noise.floor * np.sqrt(variance))))


def _smallest_detectable(variance: float, noise: Noise, strict: float) -> float | None:
    """The gap that would be called a move in 90% of studies of this design, the strictest correction assumed."""
    if not (noise.repeated and noise.floor > 0 and np.isfinite(variance)):
        return None
    error = noise.floor * np.sqrt(variance)
    t_test, t_power = scipy.special.stdtrit(noise.degrees_of_freedom, [1 - strict / 2, POWER])
    return float(max(t_test * error, noise.floor) + t_power * error)


def _contradicted(line: PermutationTest) -> bool:
    """The exchange of runs could have shown a difference and did not."""
    return line.p is not None and 1 / line.num_arrangements < SIGNIFICANCE / 5 and line.p > SIGNIFICANCE


def _note(item: FactorMeasurement, p_holm: float | None, verdict: Verdict) -> str:
    """What a reader must know before believing the verdict."""
    notes = []
    if not item.runs_told_apart:
        notes.append("the table does not tell runs apart (name their column): each setting counts as one")
    if item.noise is not None and not item.noise.repeated:
        notes.append("one run a level: noise is the scatter along the lines, and another seed could lie elsewhere")
    elif item.noise is not None and not item.noise.floor > 0:
        notes.append("the repetitions are identical: they tell of no noise")
    elif item.noise is not None and item.noise.degrees_of_freedom <= ROUGH_FREEDOM:
        notes.append(f"the noise floor is rough: {item.noise.degrees_of_freedom} repetitions")
    if p_holm is not None and p_holm < SIGNIFICANCE and _contradicted(item.line):
        notes.append(f"exchanging runs between levels gives lines as different as these (p {item.line.p:.2g})")
    if verdict == "does not move" and item.line.p is not None and item.line.p < SIGNIFICANCE:
        notes.append(f"the lines do differ (p {item.line.p:.2g}), by less than the margin on average")
    return "; ".join(notes)
