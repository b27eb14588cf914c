"""Does a factor move the line? Curves are compared on their common support, all else equal; parameters never."""

import dataclasses
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.special

from lossline_jax.fit.cells import Cell, Pair, confounders, levels_of, matched_pairs
from lossline_jax.fit.gaps import Gap, PairGap, measure_gap
from lossline_jax.fit.line_test import LineTest, anova_p, permutation_test
from lossline_jax.fit.noise import Noise, noise_floor, pooled

Verdict = Literal["moves", "does not move", "cannot tell"]
MARGIN_IN_NOISE = 3.0  # a gap that is surely smaller does not move the line
SIGNIFICANCE = 0.05
POWER = 0.9  # of the smallest gap that a design is said to detect
ROUGH_FREEDOM = 4  # so few repetitions, or fewer, make a rough noise floor


@dataclass(frozen=True)
class LevelGap:
    """One level of a factor against the reference level: the mean signed gap between their lines.

    Gap and interval are in the unit of the comparison; None where there is none, and the note says why.
    """

    level: str
    verdict: Verdict
    note: str
    gap: float | None = None  # mean over runs and matched pairs of y - reference line(x), on the common support
    interval: tuple[float, float] | None = None  # 90%, by bootstrap
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


def compare_lines(
    cells: Sequence[Cell],
    base: Mapping[str, str],
    *,
    unit: str = "",
    seed: int = 0,
    margin_in_noise: float = MARGIN_IN_NOISE,
) -> tuple[FactorComparison, ...]:
    """Compare the lines of settings that differ in one factor alone, for each factor that has two levels.

    For each level, settings are paired with the reference level's that is equal in all other factors; the gap is the
    mean over pairs (weighted by how many runs they have) of the mean distance of a run from the reference line, over
    the range of x that both have. Runs are the units of all statistics.

    Verdict of a level. `moves`: no-gap is rejected at 5% for the factor (F test, Holm-corrected over factors), and the
    level's gap is larger than the noise floor and rejected too (t); or, where pairs disagree, that of a pair is beyond
    the margin of three noise floors and rejected (t, Bonferroni over pairs). `does not move`: not that, and the 90%
    interval of the gap lies within the margin, and the gap of every pair. Else `cannot tell`. Where nothing was
    repeated there is no p, noise is the scatter about the line, and a level moves where the whole interval, or that of
    a pair, lies beyond the margin. A factor moves if a level of it does, and does not if none of its levels does.

    Args:
        cells: every setting with its points and fitted line.
        base: level of each factor that the others are compared with.
        unit: of the losses, as it is noted in the result.
    """
    everywhere = noise_floor(cells)
    measured = []
    for factor in base:
        levels = [level for level in levels_of(cells, factor) if level != base[factor]]
        if levels and base[factor] in levels_of(cells, factor):
            measured.append(_measure(cells, factor, base[factor], levels, everywhere, _seed(seed, factor)))
    corrected = holm([item.p for item in measured])
    tested = sum(p is not None for p in corrected)
    return tuple(
        _judge(item, p_holm, tested, margin_in_noise, unit) for item, p_holm in zip(measured, corrected, strict=True)
    )


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979); None stays None and does not count."""
    order = sorted((k for k, p in enumerate(ps) if p is not None), key=lambda k: ps[k])
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[k]))
        corrected[k] = largest
    return corrected


@dataclass(frozen=True, eq=False)
class _Measured:
    """What was measured of a factor, before it is judged."""

    factor: str
    reference: str
    noise: Noise | None
    gaps: Mapping[str, Gap | str]  # by level; or why there is none
    p: float | None
    line: LineTest
    runs_told_apart: bool


def _measure(cells, factor: str, reference: str, levels, everywhere: Noise | None, seed: int) -> _Measured:
    pairs = {level: matched_pairs(cells, factor, level, reference) for level in levels}
    used = list({id(c): c for some in pairs.values() for pair in some for c in (pair.reference, pair.other)}.values())
    noise = pooled(noise_floor(used), everywhere)
    gaps: dict[str, Gap | str] = {}
    for level, some in pairs.items():
        if not some:
            gaps[level] = _unmatched(cells, factor, level, reference)
        elif not any(pair.reference.fit.has_curve for pair in some):
            gaps[level] = f"the line of {reference} could not be fitted"
        else:
            gaps[level] = measure_gap(some, noise, _seed(seed, level))
    groups = _groups([pair for some in pairs.values() for pair in some])
    p = None
    if noise is not None and noise.repeated:
        distances = _distances(groups, gaps)
        means, counts = [m for m, _ in distances], [n for _, n in distances]
        p = anova_p(means, counts, noise.floor, noise.degrees_of_freedom)
    told_apart = all(cell.runs is not None for cell in cells)
    return _Measured(factor, reference, noise, gaps, p, permutation_test(groups, seed), told_apart)


def _groups(pairs: Sequence[Pair]) -> list[list[Cell]]:
    """The reference setting of each matched group, then those paired with it."""
    groups: dict[int, list[Cell]] = {}
    for pair in pairs:
        groups.setdefault(id(pair.reference), [pair.reference]).append(pair.other)
    return list(groups.values())


def _distances(groups: Sequence[Sequence[Cell]], gaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """(levels,) mean distance from the reference line and number of runs, for each group."""
    by_cell = {
        id(cell): (pair.gap, pair.num_runs)
        for gap in gaps.values()
        if isinstance(gap, Gap)
        for cell, pair in zip(gap.cells, gap.pairs, strict=True)
    }
    found = []
    for reference, *others in groups:
        rows = [(0.0, reference.num_runs), *(by_cell[id(cell)] for cell in others if id(cell) in by_cell)]
        found.append(tuple(np.array(column, float) for column in zip(*rows, strict=True)))
    return found


def _unmatched(cells: Sequence[Cell], factor: str, level: str, reference: str) -> str:
    names = " and ".join(confounders(cells, factor, level, reference))
    return f"confounded with {names}: no two settings differ in {factor} alone ({reference} and {level})"


def _judge(item: _Measured, p_holm: float | None, num_tested: int, margin_in_noise: float, unit: str):
    noise = item.noise
    margin = None if noise is None else margin_in_noise * noise.floor
    strict = SIGNIFICANCE / max(num_tested, 1)
    levels = tuple(_judge_level(level, gap, item, p_holm, margin, strict) for level, gap in item.gaps.items())
    verdict: Verdict = "cannot tell"
    if any(level.verdict == "moves" for level in levels):
        verdict = "moves"
    elif all(level.verdict == "does not move" for level in levels):
        verdict = "does not move"
    return FactorComparison(
        factor=item.factor,
        reference=item.reference,
        unit=unit,
        verdict=verdict,
        note=_note(item, verdict),
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


def _judge_level(level: str, gap: Gap | str, item: _Measured, p_holm, margin, strict: float) -> LevelGap:
    if isinstance(gap, str):
        return LevelGap(level, "cannot tell", gap)
    noise = item.noise
    found = LevelGap(
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
    )
    if not gap.pairs:
        return found
    note = "; ".join(part for part in (_disagreement(gap.pairs, margin), gap.note) if part)
    return dataclasses.replace(found, verdict=_verdict(found, item, p_holm, margin), note=note)


def _verdict(found: LevelGap, item: _Measured, p_holm: float | None, margin: float) -> Verdict:
    noise = item.noise
    apart = any(_pair_moves(pair, len(found.pairs), noise, margin) for pair in found.pairs)
    if noise.repeated:
        rejected = p_holm is not None and p_holm < SIGNIFICANCE and not _contradicted(item.line)
        real = found.p is not None and found.p < SIGNIFICANCE and abs(found.gap) > noise.floor
        moves = rejected and (real or apart)
    else:
        moves = apart or _beyond(found.interval, margin)
    if moves:
        return "moves"
    within = all(abs(end) < margin for end in found.interval) and all(abs(pair.gap) < margin for pair in found.pairs)
    return "does not move" if within else "cannot tell"


def _pair_moves(pair: PairGap, num_pairs: int, noise: Noise, margin: float) -> bool:
    if not noise.repeated:
        return _beyond(pair.interval, margin)
    p = _student_p(pair.gap, pair.variance, noise)
    return abs(pair.gap) > margin and p is not None and p < SIGNIFICANCE / num_pairs


def _beyond(interval: tuple[float, float], margin: float) -> bool:
    return interval[0] > margin or interval[1] < -margin


def _disagreement(pairs: Sequence[PairGap], margin: float) -> str:
    """How far the pairs differ, where that is more than the margin."""
    low, high = min(pairs, key=lambda pair: pair.gap), max(pairs, key=lambda pair: pair.gap)
    if high.gap - low.gap < margin:
        return ""
    return f"from {low.gap:+.3f} ({low.matched_on}) to {high.gap:+.3f} ({high.matched_on})"


def _student_p(gap: float | None, variance: float, noise: Noise) -> float | None:
    """Of no gap, two-sided; None without repetitions."""
    if not noise.repeated or gap is None or not noise.floor > 0:
        return None
    return float(2 * scipy.special.stdtr(noise.degrees_of_freedom, -abs(gap) / (noise.floor * np.sqrt(variance))))


def _smallest_detectable(variance: float, noise: Noise, strict: float) -> float | None:
    """The gap that would be called a move in 90% of studies of this design, the strictest correction assumed."""
    if not noise.repeated or not np.isfinite(variance):
        return None
    error = noise.floor * np.sqrt(variance)
    t_test, t_power = scipy.special.stdtrit(noise.degrees_of_freedom, [1 - strict / 2, POWER])
    return float(max(t_test * error, noise.floor) + t_power * error)


def _contradicted(line: LineTest) -> bool:
    """The exchange of runs could have shown a difference and did not."""
    return line.p is not None and 1 / line.num_arrangements < SIGNIFICANCE / 5 and line.p > SIGNIFICANCE


def _note(item: _Measured, verdict: Verdict) -> str:
    """What a reader must know before believing the verdict."""
    notes = []
    if not item.runs_told_apart:
        notes.append("the table does not tell runs apart: each setting counts as one")
    if item.noise is not None and not item.noise.repeated:
        notes.append("one run a level: noise is the scatter along the lines, and another seed could lie elsewhere")
    elif item.noise is not None and item.noise.degrees_of_freedom <= ROUGH_FREEDOM:
        notes.append(f"the noise floor is rough: {item.noise.degrees_of_freedom} repetitions")
    if item.line.p is not None and _contradicted(item.line):
        notes.append(f"exchanging runs between levels gives lines as different as these (p {item.line.p:.2g})")
    if verdict == "does not move" and item.line.p is not None and item.line.p < SIGNIFICANCE:
        notes.append(f"the lines do differ (p {item.line.p:.2g}), by less than the margin on average")
    return "; ".join(notes)


def _seed(seed: int, name: str) -> int:
    """A generator seed of its own for each name, the same whatever other names there are."""
    return zlib.crc32(f"{seed} {name}".encode())
