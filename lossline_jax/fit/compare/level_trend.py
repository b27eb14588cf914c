"""Judge a factor whose levels are numbers as a trend: does the gap rise or fall with the level?

The gap of every level is zero at the reference level by definition. The trend is the slope of a straight line through
that point. It uses all levels at once, and therefore finds smaller effects than the gap of one level.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import scipy.special

from lossline_jax.fit.compare.gap_design import GapDesign, fit_gaps
from lossline_jax.fit.compare.noise import Noise
from lossline_jax.fit.result import INTERVAL_LEVEL
from lossline_jax.fit.tables.level_numbers import level_numbers

TrendVerdict = Literal["rises", "falls", "flat", "cannot tell"]

SIGNIFICANCE = 0.05  # probability, by convention
MIN_LEVELS = 3  # levels with the reference; two levels have a gap and no trend
LOG_SPAN = 4.0  # largest over smallest level from which the logarithm of the level counts. A convention
MIN_FREEDOM = 2  # gaps more than the slope, where the scatter of the gaps is the only noise. A convention
DOUBLING = "doubling"


@dataclass(frozen=True)
class LevelTrend:
    """The straight line of the gap over the levels of a factor, which are numbers.

    Slope, interval and change are in the unit of the comparison.
    """

    verdict: TrendVerdict
    note: str
    numbers: dict[str, float]  # by level, with the reference: the levels that have a gap
    per: str  # "doubling", or a step of the level: "100" or "10%"
    step: float  # 1 for a doubling; else the largest power of ten that is no larger than the range of the numbers
    slope: float  # of the gap, per doubling of the level or per step
    interval: tuple[float, float]  # 90%, of the slope
    change: float  # of the gap, from the smallest to the largest number
    p: float  # of "no slope", Student's t
    p_holm: float  # `p` corrected over the trends of the table (Holm 1979)
    p_bend: float | None  # of "a straight line holds", F test; None: two levels, or nothing was repeated
    noise_source: Literal["seeds", "scatter"]  # scatter: that of the gaps about the straight line

    @property
    def logarithmic(self) -> bool:
        """True: the gap is straight over the logarithm of the level."""
        return self.per == DOUBLING

    def position(self, number: float) -> float:
        """Return the coordinate of a level: its number of steps, or the logarithm of base 2.

        Args:
            number: the number of a level.
        """
        return float(np.log2(number)) if self.logarithmic else number / self.step


def measure_trend(factor: str, reference: str, design: GapDesign, noise: Noise) -> LevelTrend | None:
    """Fit the slope of the gap over the levels by generalised least squares, with whole runs as units.

    The logarithm of the level counts if all levels are positive and the largest is at least four times the smallest.
    Without repetitions, the noise is the scatter of the gaps about the straight line.

    Args:
        factor: the factor.
        reference: its reference level.
        design: the gaps of the factor.
        noise: the variation of a run's distance between seeds.

    Returns:
        The trend, with the verdict `cannot tell` until it is judged. None: the levels are not numbers, fewer than
        three levels have a gap or are the reference, or the noise is not known.
    """
    levels = list(dict.fromkeys((reference, *design.levels)))
    read = level_numbers(factor, levels)
    if read is None or len(levels) < MIN_LEVELS:
        return None
    numbers, unit = read
    ordered = sorted(numbers.values())
    logarithmic = ordered[0] > 0 and ordered[-1] >= LOG_SPAN * ordered[0]
    step = 1.0 if logarithmic else float(10 ** np.floor(np.log10(ordered[-1] - ordered[0])))
    positions = {level: float(np.log2(number)) if logarithmic else number / step for level, number in numbers.items()}
    distances_P = np.array([positions[level] - positions[reference] for level in design.levels])
    fit = fit_gaps(distances_P[:, None], design.gaps_P, design.covariance_PP)
    num_free = design.gaps_P.size - 1
    floor, freedom = noise.floor, noise.degrees_of_freedom
    if not noise.repeated:
        if num_free < MIN_FREEDOM:
            return None
        floor, freedom = float(np.sqrt(fit.squares / num_free)), num_free
    if not floor > 0:
        return None
    slope, error = float(fit.coefficients_K[0]), floor * float(np.sqrt(fit.covariance_KK[0, 0]))
    half = error * float(scipy.special.stdtrit(freedom, (1 + INTERVAL_LEVEL) / 2))
    p = float(2 * scipy.special.stdtr(freedom, -abs(slope) / error))
    return LevelTrend(
        verdict="cannot tell",
        note="",
        numbers=numbers,
        per=DOUBLING if logarithmic else _step_text(step, unit),
        step=step,
        slope=slope,
        interval=(slope - half, slope + half),
        change=float(slope * (max(positions.values()) - min(positions.values()))),
        p=p,
        p_holm=p,
        p_bend=_bend_p(design, fit.squares, noise) if noise.repeated else None,
        noise_source=noise.source,
    )


def _step_text(step: float, unit: str) -> str:
    """Return `10%`, `0.001` or `1 layers`."""
    return f"{step:g} {unit}" if len(unit) > 1 else f"{step:g}{unit}"


def _bend_p(design: GapDesign, squares: float, noise: Noise) -> float | None:
    """Return the p-value of "a straight line holds" against one mean gap for each level. None: one level."""
    levels = list(dict.fromkeys(design.levels))
    if len(levels) < MIN_LEVELS - 1:
        return None
    dummies_PL = np.array([[float(own == level) for level in levels] for own in design.levels])
    by_level = fit_gaps(dummies_PL, design.gaps_P, design.covariance_PP).squares
    num_more = len(levels) - 1
    ratio = max(squares - by_level, 0.0) / num_more / noise.floor**2
    return float(scipy.special.fdtrc(num_more, noise.degrees_of_freedom, ratio))


def judge_trend(trend: LevelTrend, p_holm: float, noise: Noise, margin: float) -> LevelTrend:
    """Return the trend with its verdict and note.

    - `rises` or `falls`: the Holm-corrected p is below 5%, and the change over the range of levels is larger than the
      noise floor.
    - `flat`: neither. The 90% interval of the change lies within the margin, and the gaps do not bend.
    - `cannot tell`: everything else.

    Args:
        trend: the measured trend.
        p_holm: its p-value, corrected over all trends of the table.
        noise: the noise of the factor.
        margin: the size below which a gap does not matter.
    """
    bent = trend.p_bend is not None and trend.p_bend < SIGNIFICANCE
    span = trend.change / trend.slope if trend.slope else 0.0
    verdict: TrendVerdict = "cannot tell"
    if p_holm < SIGNIFICANCE and (abs(trend.change) > noise.floor or not noise.repeated):
        verdict = "rises" if trend.slope > 0 else "falls"
    elif all(abs(end) * span < margin for end in trend.interval) and noise.repeated and not bent:
        verdict = "flat"
    notes = []
    if bent:
        notes.append(f"the gaps bend: they do not lie on a straight line (p {trend.p_bend:.2g})")
    if not noise.repeated:
        notes.append("one run a level: the noise is the scatter of the gaps about the straight line")
    return replace(trend, verdict=verdict, note="; ".join(notes), p_holm=p_holm)


def cautious_trend(trend: LevelTrend | None, without: Sequence[LevelTrend | None]) -> LevelTrend | None:
    """Withdraw the verdict of a trend if it does not hold without the runs that lie far off.

    Args:
        trend: the trend of all runs. None: there is none.
        without: the trends without the far runs, one for each set of runs that is left out.
    """
    if trend is None:
        return None
    changed = next((rest for rest in without if rest is not None and rest.verdict != trend.verdict), None)
    if changed is None:
        return trend
    note = f"with all runs: {trend.verdict}, without those far off: {changed.verdict}"
    return replace(trend, verdict="cannot tell", note="; ".join(part for part in (note, trend.note) if part))
