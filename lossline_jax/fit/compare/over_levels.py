"""Add to the comparison of each factor what its levels show together: trends over numbers, and interactions."""

from collections.abc import Sequence
from dataclasses import replace

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.fit.compare.gap_design import gap_design
from lossline_jax.fit.compare.holm import holm_all
from lossline_jax.fit.compare.interaction import (
    Interaction,
    cautious_interactions,
    judge_interactions,
    measure_interactions,
)
from lossline_jax.fit.compare.level_trend import cautious_trend, judge_trend, measure_trend
from lossline_jax.fit.compare.setting_line import SettingLine
from lossline_jax.fit.compare.verdict import FactorMeasurement, disagreement

Compared = tuple[FactorMeasurement, FactorComparison]


def with_trends_and_interactions(cells: Sequence[SettingLine], compared: Sequence[Compared]) -> list[Compared]:
    """Return the comparisons with the trend of each numeric factor and the interactions of each crossed factor.

    The tests of all trends are Holm-corrected together, and so are the tests of all interactions.

    Args:
        cells: every setting with its points and fitted line.
        compared: the measurement and the comparison of each factor.
    """
    designs = [gap_design(cells, item.factor, item.reference, item.gaps) for item, _ in compared]
    trends = [
        measure_trend(item.factor, item.reference, design, item.noise) if item.noise and design.levels else None
        for design, (item, _) in zip(designs, compared, strict=True)
    ]
    tested = [
        measure_interactions(item.factor, design, item.noise)
        for design, (item, _) in zip(designs, compared, strict=True)
    ]
    trend_ps = iter(holm_all([trend.p for trend in trends if trend is not None]))
    joint_ps = iter(holm_all([of_other[0].p_holm for of_factor in tested for of_other in of_factor]))
    result = []
    for trend, of_factor, (item, comparison) in zip(trends, tested, compared, strict=True):
        interactions: list[Interaction] = []
        if item.noise is not None:
            if trend is not None:
                trend = judge_trend(trend, next(trend_ps), item.noise, comparison.margin or 0.0)
            for of_other in of_factor:
                interactions += judge_interactions(of_other, next(joint_ps), item.noise)
        result.append((item, replace(comparison, trend=trend, interactions=tuple(interactions))))
    return result


def cautious_over_levels(comparison: FactorComparison, without: Sequence[FactorComparison]) -> FactorComparison:
    """Withdraw the trend and the interactions that do not hold without the runs that lie far off.

    Args:
        comparison: the comparison with all runs.
        without: the comparisons without the far runs, one for each set of runs that is left out.
    """
    return replace(
        comparison,
        trend=cautious_trend(comparison.trend, [rest.trend for rest in without]),
        interactions=cautious_interactions(comparison.interactions, [rest.interactions for rest in without]),
    )


def notes_on_level(comparison: FactorComparison, level: LevelGap) -> list[str]:
    """Return the interactions of a level and the rest of its note.

    An interaction takes the place of the lowest and the highest gap of the pairs in the note.

    Args:
        comparison: the comparison of the factor.
        level: one of its levels.
    """
    interactions = comparison.interactions_of(level.level)
    if not interactions or comparison.margin is None:
        return [level.note] if level.note else []
    replaced = disagreement(level.pairs, comparison.margin)
    note = "; ".join(part for part in level.note.split("; ") if part != replaced)
    return [*map(str, interactions), *([note] if note else [])]
