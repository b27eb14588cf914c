"""Does a factor move the line? Curves are compared on their common support, all else equal; parameters never."""

from collections.abc import Mapping, Sequence, Set

import numpy as np

from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.far_runs import far_runs, runs_left_out
from lossline_jax.fit.compare.gap import LineGap, measure_gap
from lossline_jax.fit.compare.noise import Noise, noise_floor, pool_noise
from lossline_jax.fit.compare.permutation import anova_p, permutation_test
from lossline_jax.fit.compare.setting_line import MatchedPair, SettingLine, confounders, matched_pairs, settings_of
from lossline_jax.fit.compare.verdict import FactorMeasurement, cautious, decide_verdict
from lossline_jax.fit.resampling import derive_seed
from lossline_jax.fit.tables.settings import differences

MARGIN_IN_NOISE = 3.0  # a gap that is surely smaller does not move the line


def compare_setting_lines(
    cells: Sequence[SettingLine],
    base: Mapping[str, str],
    *,
    absent: Sequence[Mapping[str, str]] = (),
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
    the margin of three noise floors and rejected (t, Bonferroni over pairs). `crosses`: not that, and the 90% intervals
    over the lowest and over the highest third of the support lie beyond the margin on either side of zero. `does not
    move`: neither, and the 90% interval of the gap lies within the margin, and the gap of every pair. Else `cannot
    tell`. Where nothing was repeated there is no p, noise is the scatter about the line, and a level moves where the
    whole interval of its points, or that of a pair, lies beyond the margin; no interval is given. A factor moves or
    crosses if a level of it does, and does not move if none of its levels does.

    Runs far from the line of their own setting (`far_runs`) are named, and a verdict that does not hold without them
    is `cannot tell`.

    Args:
        cells: every setting with its points and fitted line.
        base: level of each factor that the others are compared with.
        absent: settings of the table that have no usable losses; what would be held against them says so.
        unit: of the losses, as it is noted in the result.
    """
    options = {"absent": absent, "unit": unit, "seed": seed, "margin_in_noise": margin_in_noise}
    comparisons = _compared(cells, base, **options)
    far = far_runs(cells)
    if not far:
        return tuple(comparison for _, comparison in comparisons)
    others = [_compared(_without(cells, runs), base, **options) for runs in runs_left_out(far)]
    return tuple(
        cautious(comparison, [other[k][1] for other in others], far, item.run_ids)
        for k, (item, comparison) in enumerate(comparisons)
    )


def _compared(cells: Sequence[SettingLine], base, *, absent, unit: str, seed: int, margin_in_noise: float):
    """Measure and judge each factor that has two levels; return both for each."""
    everywhere, settings = noise_floor(cells), settings_of(cells)
    measured = []
    for factor in base:
        levels = [level for level in settings.levels_of(factor) if level != base[factor]]
        known = {*settings.levels_of(factor), *(setting[factor] for setting in absent)}
        if levels and base[factor] in known:
            measured.append(_measure(cells, absent, factor, base[factor], levels, everywhere, _seed_of(seed, factor)))
    corrected = holm([item.p for item in measured])
    tested = sum(p is not None for p in corrected)
    return [
        (item, decide_verdict(item, p_holm, tested, margin_in_noise, unit))
        for item, p_holm in zip(measured, corrected, strict=True)
    ]


def _without(cells: Sequence[SettingLine], runs: Set[str]) -> list[SettingLine]:
    """The settings with the lines of those that lose a run fitted again."""
    return [cell.without(runs) if runs & {str(run) for run in cell.run_ids} else cell for cell in cells]


def holm(ps: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979); None stays None and does not count."""
    order = sorted((k for k, p in enumerate(ps) if p is not None), key=lambda k: ps[k])
    corrected: list[float | None] = [None] * len(ps)
    largest = 0.0
    for rank, k in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * ps[k]))
        corrected[k] = largest
    return corrected


def _measure(
    cells, absent, factor: str, reference: str, levels, everywhere: Noise | None, seed: int
) -> FactorMeasurement:
    pairs = {level: matched_pairs(cells, factor, level, reference) for level in levels}
    used = list(
        {
            id(c): c
            for pairs_of_level in pairs.values()
            for pair in pairs_of_level
            for c in (pair.reference, pair.other)
        }.values()
    )
    noise = noise_floor(used)
    if everywhere is not None and everywhere.repeated:  # else the scatter of the lines compared: others may fit worse
        noise = pool_noise(noise, everywhere)
    gaps: dict[str, LineGap | str] = {}
    for level, pairs_of_level in pairs.items():
        if not pairs_of_level:
            gaps[level] = _unmatched(cells, absent, factor, level, reference)
        elif all(pair.reference.why_no_line for pair in pairs_of_level):
            gaps[level] = f"no line of {reference}: {pairs_of_level[0].reference.why_no_line}"
        else:
            gaps[level] = measure_gap(pairs_of_level, noise, _seed_of(seed, level))
    groups = _groups(
        [pair for level, pairs_of_level in pairs.items() if isinstance(gaps[level], LineGap) for pair in pairs_of_level]
    )
    p = None
    if noise is not None and noise.repeated:
        distances = _distances(groups, gaps)
        means, counts = [m for m, _ in distances], [n for _, n in distances]
        p = anova_p(means, counts, noise.floor, noise.degrees_of_freedom)
    told_apart = all(cell.runs is not None for cell in cells)
    run_ids = frozenset(str(run) for cell in used for run in cell.run_ids)
    return FactorMeasurement(factor, reference, noise, gaps, p, permutation_test(groups, seed), told_apart, run_ids)


def _seed_of(seed: int, name: str) -> int:
    """The seed of a factor or level. Verdicts that were published took the seed above it as one of the names."""
    return derive_seed(0, str(seed), name)


def _groups(pairs: Sequence[MatchedPair]) -> list[list[SettingLine]]:
    """The reference setting of each matched group, then those paired with it."""
    groups: dict[int, list[SettingLine]] = {}
    for pair in pairs:
        groups.setdefault(id(pair.reference), [pair.reference]).append(pair.other)
    return list(groups.values())


def _distances(groups: Sequence[Sequence[SettingLine]], gaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """(levels,) mean distance from the reference line and number of runs, for each group."""
    by_cell = {
        id(cell): pair
        for gap in gaps.values()
        if isinstance(gap, LineGap)
        for cell, pair in zip(gap.cells, gap.pairs, strict=True)
    }
    distances = []
    for reference, *others in groups:
        pairs = [by_cell[id(cell)] for cell in others if id(cell) in by_cell]
        reached = min((pair.num_reference_runs for pair in pairs), default=reference.num_runs)
        means = np.array([0.0, *(pair.gap for pair in pairs)])
        distances.append((means, np.array([reached, *(pair.num_runs for pair in pairs)], float)))
    return distances


def _unmatched(cells: Sequence[SettingLine], absent, factor: str, level: str, reference: str) -> str:
    settings_of_level = [cell.levels for cell in cells if cell.levels[factor] == level]
    if any(
        differences(levels, lost) == [factor] and lost[factor] == reference
        for levels in settings_of_level
        for lost in absent
    ):
        return f"the setting of {reference} to hold it against has no usable losses"
    names = " and ".join(confounders(cells, factor, level, reference))
    return f"confounded with {names}: no two settings differ in {factor} alone ({reference} and {level})"
