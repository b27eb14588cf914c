"""Does a factor move the loss-to-loss line?

Curves are compared on their common range of x, with all other factors equal. Parameters are never compared.
Read `compare_setting_lines` first: its docstring has the rules of the verdicts.
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace

import numpy as np

from lossline_jax.fit.compare.absent import AbsentSetting, absent_levels, note_on_lost_pairs, why_no_pair
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.course import measure_course
from lossline_jax.fit.compare.far_run import runs_in_doubt, runs_set_aside
from lossline_jax.fit.compare.far_runs import far_runs
from lossline_jax.fit.compare.gap import LineGap, measure_gap
from lossline_jax.fit.compare.holm import holm
from lossline_jax.fit.compare.line_checkpoints import without_far_checkpoints
from lossline_jax.fit.compare.noise import Noise, noise_floor, pool_noise
from lossline_jax.fit.compare.over_levels import cautious_over_levels, with_trends_and_interactions
from lossline_jax.fit.compare.permutation import RunMoments, anova_p, moments_of, permutation_test
from lossline_jax.fit.compare.set_aside import without_far_runs
from lossline_jax.fit.compare.setting_line import MatchedPair, SettingLine, matched_pairs, settings_of
from lossline_jax.fit.compare.verdict import FactorMeasurement, decide_verdict
from lossline_jax.fit.resampling import derive_seed

MARGIN_IN_NOISE = 3.0  # noise floors, by convention of this package; a smaller gap does not move the line


def compare_setting_lines(
    cells: Sequence[SettingLine],
    base: Mapping[str, str],
    *,
    absent: Sequence[AbsentSetting] = (),
    unit: str = "",
    seed: int = 0,
    margin_in_noise: float = MARGIN_IN_NOISE,
) -> tuple[FactorComparison, ...]:
    """Compare the lines of settings that differ in one factor alone, for each factor that has two levels.

    Each setting of a level is paired with the setting of the reference level that is equal in all other factors.
    The distance of a run is its mean distance from the reference line, over the range of x that both settings have.
    The gap of a pair is the mean distance of its runs. The gap of a level is the mean over its pairs.
    A pair weighs more the more runs it has. Runs are the units of all statistics.

    These are the verdicts of a level where some setting was repeated with another seed:

    - `moves`: two tests reject "no gap". First, the F test of the factor rejects at 5%, Holm-corrected over factors.
      Second, the gap of the level is larger than the noise floor and its t test rejects.
      Where pairs disagree, one pair is enough for the second test. Its gap must be beyond the margin of
      `margin_in_noise` noise floors, and its t test must reject (Bonferroni over pairs).
    - `crosses`: the level does not move, but its line crosses the reference line. Two 90% intervals show it:
      those of the gap over the lowest and over the highest third of the common range of x.
      They lie beyond the margin, on opposite sides of zero.
      The gaps at both ends of the course may show it too (`course.measure_course`).
    - `does not move`: neither of these. The 90% interval of the gap and the gap of every pair lie within the margin.
      Neither an end nor the middle of the course surely lies beyond it.
    - `cannot tell`: everything else.

    Where no setting was repeated, there is no p-value and the noise is the scatter of points about the line.
    A level then moves where the 90% interval of its gap, or of one pair's gap, lies wholly beyond the margin.
    The result then has no interval.

    A factor moves or crosses if one of its levels does. A factor does not move if none of its levels does.

    Runs far from the line of their own setting (`far_runs`) are set aside: everything is measured without them. They
    are named in the note, with the verdict that holds with them. A far run is only in doubt where few other runs tell
    the noise, or where a setting has two runs and either may be off. Runs in doubt count, and a verdict that does not
    hold without them becomes `cannot tell`.

    A checkpoint at which all runs of a setting lie off their curve (`far_checkpoint`) is set aside too, and named.

    Args:
        cells: every setting with its points and fitted line.
        base: the reference level of each factor.
        absent: the settings of the table that have no usable losses. A level that has only such settings is `cannot
            tell`, and so its factor does not move only without it. A level that misses one says so in its note.
        unit: the unit of the losses, copied into the result.
        seed: seed of the bootstrap and of the permutation test.
        margin_in_noise: the margin, in noise floors.

    Returns:
        One comparison for each factor, in the order of `base`.
    """
    options = {"absent": absent, "unit": unit, "seed": seed, "margin_in_noise": margin_in_noise}
    moments: dict[tuple[int, ...], RunMoments | None] = {}  # statistics of groups without a changed setting
    usable, checkpoints = without_far_checkpoints(cells, base)
    far = far_runs(usable)
    kept = _without(usable, runs_set_aside(far))
    comparisons = with_trends_and_interactions(kept, _compared(kept, base, moments, **options))
    if not far and not checkpoints:
        return tuple(comparison for _, comparison in comparisons)
    with_all = _compared(cells, base, moments, **options)  # only its verdicts and gaps are told
    in_doubt = []
    for runs in runs_in_doubt(far):
        rest = _without(kept, runs)
        in_doubt.append(with_trends_and_interactions(rest, _compared(rest, base, moments, **options)))
    results = []
    for k, (_, comparison) in enumerate(comparisons):
        without_one = [rest[k][1] for rest in in_doubt]
        used = with_all[k][0].run_ids
        result = without_far_runs(comparison, with_all[k][1], without_one, (*checkpoints, *far), used=used)
        results.append(cautious_over_levels(result, without_one))
    return tuple(results)


def _compared(
    cells: Sequence[SettingLine],
    base: Mapping[str, str],
    moments: dict[tuple[int, ...], RunMoments | None],
    *,
    absent: Sequence[AbsentSetting],
    unit: str,
    seed: int,
    margin_in_noise: float,
) -> list[tuple[FactorMeasurement, FactorComparison]]:
    """Measure each factor that has two levels and decide its verdict; return both.

    `moments` holds the statistics of groups by the ids of their settings, and gets those that are new.
    """
    table_noise, settings = noise_floor(cells), settings_of(cells)
    measured: list[FactorMeasurement] = []
    for factor in base:
        known = [*settings.levels_of(factor), *absent_levels(cells, absent, factor)]
        levels = [level for level in known if level != base[factor]]
        if levels and base[factor] in known:
            measured.append(
                _measure(
                    cells,
                    factor,
                    base[factor],
                    levels=levels,
                    absent=absent,
                    table_noise=table_noise,
                    seed=_seed_of(seed, factor),
                )
            )
    measured = _with_permutation_tests(measured, moments, seed)
    measured = [_with_courses(item, margin_in_noise, seed) for item in measured]
    corrected = holm([item.p for item in measured])
    tested = sum(p is not None for p in corrected)
    return [
        (item, decide_verdict(item, p_holm, num_tested=tested, margin_in_noise=margin_in_noise, unit=unit))
        for item, p_holm in zip(measured, corrected, strict=True)
    ]


def _with_permutation_tests(
    measured: Sequence[FactorMeasurement], moments: dict[tuple[int, ...], RunMoments | None], seed: int
) -> list[FactorMeasurement]:
    """Add the test of "one line serves all levels" to each factor. Their lines are fitted together."""
    groups_of_factors = [_groups(item.pairs.values()) for item in measured]
    new = {
        tuple(map(id, group)): group
        for groups in groups_of_factors
        for group in groups
        if tuple(map(id, group)) not in moments
    }
    moments |= dict(zip(new, moments_of(list(new.values())), strict=True))
    return [
        replace(
            item,
            line=permutation_test([moments[tuple(map(id, group))] for group in groups], _seed_of(seed, item.factor)),
        )
        for item, groups in zip(measured, groups_of_factors, strict=True)
    ]


def _with_courses(item: FactorMeasurement, margin_in_noise: float, seed: int) -> FactorMeasurement:
    """Add the course of the gap of each level."""
    if item.noise is None:
        return item
    floor, courses = item.noise.floor, {}
    for level, gap in item.gaps.items():
        if isinstance(gap, LineGap):
            pairs = [pair for pair in item.pairs[level] if any(pair.other is cell for cell in gap.cells)]
            seed_of_level = _seed_of(_seed_of(seed, item.factor), level)
            course = measure_course(pairs, item.noise_cells, floor, margin_in_noise * floor, seed=seed_of_level)
            courses |= {} if course is None else {level: course}
    return replace(item, courses=courses)


def _without(cells: Sequence[SettingLine], runs: Set[str]) -> list[SettingLine]:
    """Return the settings without these runs. A setting that loses a run has its line fitted again."""
    return [cell.without(runs) if runs & {str(run) for run in cell.run_ids} else cell for cell in cells]


def _measure(
    cells: Sequence[SettingLine],
    factor: str,
    reference: str,
    *,
    levels: Sequence[str],
    absent: Sequence[AbsentSetting],
    table_noise: Noise | None,
    seed: int,
) -> FactorMeasurement:
    """Measure the gap of each level from the reference level, the noise and the p-values of one factor."""
    pairs = {level: matched_pairs(cells, factor, level, reference) for level in levels}
    compared = list(
        {
            id(cell): cell
            for pairs_of_level in pairs.values()
            for pair in pairs_of_level
            for cell in (pair.reference, pair.other)
        }.values()
    )
    noise = noise_floor(compared)
    # Without repetitions the noise stays the scatter of the compared lines: other lines may fit worse.
    if table_noise is not None and table_noise.repeated:
        noise = pool_noise(noise, table_noise)
    noise_cells = cells if noise is table_noise else compared
    gaps: dict[str, LineGap | str] = {}
    for level, pairs_of_level in pairs.items():
        if not pairs_of_level:
            gaps[level] = why_no_pair(cells, absent, factor=factor, level=level, reference=reference)
        elif noise is None or all(pair.reference.why_no_line for pair in pairs_of_level):
            gaps[level] = f"no line of {reference}: {pairs_of_level[0].reference.why_no_line}"
        else:
            gap = measure_gap(pairs_of_level, noise, _seed_of(seed, level))
            lost = note_on_lost_pairs(cells, absent, factor=factor, level=level, reference=reference)
            gaps[level] = replace(gap, note="; ".join(part for part in (lost, gap.note) if part))
    compared_pairs = {level: tuple(pairs[level]) for level, gap in gaps.items() if isinstance(gap, LineGap)}
    p = None
    if noise is not None and noise.repeated:
        distances = _distances(_groups(compared_pairs.values()), gaps)
        means, counts = [mean for mean, _ in distances], [count for _, count in distances]
        p = anova_p(means, counts, floor=noise.floor, freedom=noise.degrees_of_freedom)
    runs_told_apart = all(cell.runs is not None for cell in cells)
    run_ids = frozenset(str(run) for cell in compared for run in cell.run_ids)
    return FactorMeasurement(
        factor, reference, noise, tuple(noise_cells), gaps, p, compared_pairs, runs_told_apart, run_ids
    )


def _seed_of(seed: int, name: str) -> int:
    """Return the seed of a factor or level.

    The outer seed is one of the names, not the root seed: the published verdicts were made this way.
    """
    return derive_seed(0, str(seed), name)


def _groups(pairs: Iterable[Sequence[MatchedPair]]) -> list[list[SettingLine]]:
    """Return each matched group: its reference setting, then the settings paired with it. `pairs` is by level."""
    groups: dict[int, list[SettingLine]] = {}
    for pair in itertools.chain.from_iterable(pairs):
        groups.setdefault(id(pair.reference), [pair.reference]).append(pair.other)
    return list(groups.values())


def _distances(
    groups: Sequence[Sequence[SettingLine]], gaps: Mapping[str, LineGap | str]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return (levels,) mean distances from the reference line and (levels,) numbers of runs, for each group."""
    by_cell = {
        id(cell): pair
        for gap in gaps.values()
        if isinstance(gap, LineGap)
        for cell, pair in zip(gap.cells, gap.pairs, strict=True)
    }
    distances = []
    for reference, *others in groups:
        pairs = [by_cell[id(cell)] for cell in others if id(cell) in by_cell]
        num_reference_runs = min((pair.num_reference_runs for pair in pairs), default=reference.num_runs)
        means = np.array([0.0, *(pair.gap for pair in pairs)])
        counts = np.array([num_reference_runs, *(pair.num_runs for pair in pairs)], float)
        distances.append((means, counts))
    return distances
