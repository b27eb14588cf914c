"""The trend figure: the gap of each level against the level, for factors whose levels are numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.compare.level_trend import LevelTrend
from lossline_jax.formatting import shortened
from lossline_jax.report.content.points import Unit
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.content.wording import interval, signed_text
from lossline_jax.report.figures.axes import curve, label_axes
from lossline_jax.report.figures.compute_axes import PANEL_SIZE, columns_for
from lossline_jax.report.figures.emphasis import GREY, OPEN
from lossline_jax.report.figures.plot import Drawn, Marks, Panel, Plot
from lossline_jax.report.figures.style import INK, MUTED, PAPER, Style, factor_name
from lossline_jax.report.tables.verdicts import FactorVerdict

LINE_POINTS = 40  # points of the drawn line, by convention
MOST_TICKS = 6  # labels of levels that fit below a panel
LONGEST_TICK = 8  # characters of such a label
SPACE = 0.06  # beside the outermost levels, as a share of their range


@dataclass(frozen=True)
class LevelPoint:
    """The gap of one level. The reference level has a gap of zero and no interval."""

    level: str
    number: float
    gap: float
    interval: tuple[float, float] | None
    verdict: str  # empty: the reference level
    run_ids: tuple[str, ...]


def trend_plot(judged: Sequence[FactorVerdict], runs: Mapping[str, Run], units: Sequence[Unit]) -> Plot | None:
    """Plot the gap of each level against the level, with a panel for each factor whose levels are numbers.

    Args:
        judged: the factors, as `group_by_factor` gives them.
        runs: the runs by id, as `describe_runs` gives them.
        units: the units of the table, as `units_of` gives them.

    Returns:
        The plot. None: no factor has a trend.
    """
    unit_of_key = {unit.key: unit for unit in units}
    panels = []
    for item in judged:
        if (trend := item.main.trend) is not None:
            points, unit = _points(item.main, trend, runs), unit_of_key[item.unit]
            label = f"gap to the reference line against {factor_name(item.factor)} in {unit.label}"
            panels.append(
                Panel(
                    _heading(item.factor, trend),
                    label,
                    _drawer(item.main, trend, points, unit=unit, style=_style(item, runs)),
                )
            )
    if not panels:
        return None
    return Plot(
        name="trends",
        title="Gap against the level",
        caption=(
            "Each point is the mean gap of a level with its 90% interval; the reference level is at zero. The line is "
            "the trend with its 90% band, and passes through the reference. The grey band is the margin of the "
            "factor. A trend that is not found is grey, and dashed where the study cannot tell."
        ),
        panels=tuple(panels),
        key=(),
        columns=columns_for(len(panels)),
        width=PANEL_SIZE[0],
        height=PANEL_SIZE[1],
    )


def _heading(factor: str, trend: LevelTrend) -> str:
    words = {"rises": "the gap rises", "falls": "the gap falls", "flat": "flat", "cannot tell": "cannot tell"}
    return f"{factor_name(factor)}: {words[trend.verdict]}"


def _style(item: FactorVerdict, runs: Mapping[str, Run]) -> Style:
    """Return the first style of the factor where the study finds a trend, else grey."""
    hue = next((run.style.factor for run in runs.values() if run.factor == item.factor), item.factor)
    verdict = item.main.trend.verdict if item.main.trend else ""
    return {"flat": GREY, "cannot tell": OPEN}.get(verdict, Style(hue))


def _points(comparison: FactorComparison, trend: LevelTrend, runs: Mapping[str, Run]) -> list[LevelPoint]:
    """Return the reference level and every level with a gap, the smallest number first."""
    members: dict[str, list[str]] = {}
    for run in runs.values():
        if run.factor == comparison.factor:
            members.setdefault(run.level, []).append(run.run_id)
    base_runs = tuple(run.run_id for run in runs.values() if run.is_base)
    reference = comparison.reference
    points = [LevelPoint(reference, trend.numbers[reference], 0.0, None, "", base_runs)]
    for level in comparison.levels:
        if level.gap is not None and level.level in trend.numbers:
            ids = tuple(members.get(level.level, ()))
            number = trend.numbers[level.level]
            points.append(LevelPoint(level.level, number, level.gap, level.interval, level.verdict, ids))
    return sorted(points, key=lambda point: point.number)


def _drawer(
    comparison: FactorComparison, trend: LevelTrend, points: Sequence[LevelPoint], *, unit: Unit, style: Style
) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        if comparison.margin:
            axes.axhspan(-comparison.margin, comparison.margin, color=MUTED, alpha=0.18, linewidth=0)
        axes.axhline(0.0, color=INK, linewidth=1.0)
        drawn = _draw_trend(axes, comparison, trend, points, style=style)
        for k, point in enumerate(points):
            drawn |= _draw_point(axes, k, point, comparison.factor, style=style, unit=unit)
        suffix = f" ({unit.label})" if unit.key else ""
        label_axes(axes, factor_name(comparison.factor), f"gap{suffix}")
        if trend.logarithmic:
            axes.set_xscale("log", base=2)
        _set_ticks(axes, trend, points)
        return drawn

    return draw


def _draw_trend(
    axes: Axes, comparison: FactorComparison, trend: LevelTrend, points: Sequence[LevelPoint], *, style: Style
) -> Drawn:
    ends = points[0].number, points[-1].number
    numbers = np.geomspace(*ends, LINE_POINTS) if trend.logarithmic else np.linspace(*ends, LINE_POINTS)
    start = trend.position(trend.numbers[comparison.reference])
    distances = np.array([trend.position(number) - start for number in numbers])
    low, high = (distances * end for end in trend.interval)
    run_ids = tuple(run_id for point in points for run_id in point.run_ids)
    band = (np.minimum(low, high), np.maximum(low, high))
    return curve(axes, "trend", numbers, trend.slope * distances, style=style, run_ids=run_ids, band=band, width=1.3)


def _draw_point(axes: Axes, k: int, point: LevelPoint, factor: str, *, style: Style, unit: Unit) -> Drawn:
    is_reference = not point.verdict
    colour = INK if is_reference else style.colour
    low, high = point.interval or (np.nan, np.nan)
    if point.interval is not None:
        axes.plot([point.number] * 2, [low, high], color=colour, linewidth=1.6, gid=f"interval-{k}")
    gid = f"gap-{k}"
    axes.plot(
        [point.number],
        [point.gap],
        "o" if is_reference else style.marker,
        markersize=5.0,
        markerfacecolor=PAPER if point.verdict == "cannot tell" else colour,
        markeredgecolor=colour,
        gid=gid,
        clip_on=False,
        zorder=3,
    )
    name = f"{factor_name(factor)} {point.level}"
    suffix = f" {unit.label}" if unit.key else ""
    title = f"{name}\n{signed_text(point.gap)} {interval(low, high)}{suffix}\n{point.verdict or 'the reference'}"
    row = {"x": point.number, "y": point.gap, "low": low, "high": high, "kind": f"gap of {name}"}
    table = pd.DataFrame([row | {"runs": " ".join(point.run_ids)}])
    return {gid: Marks((point.run_ids[0] if point.run_ids else "",), (title,), table)}


def _set_ticks(axes: Axes, trend: LevelTrend, points: Sequence[LevelPoint]) -> None:
    """Name the levels below the axis. Where they are many, only some of them have a name."""
    step = -(-len(points) // MOST_TICKS)
    shown = points[::step]
    axes.set_xticks([point.number for point in shown], [shortened(point.level, LONGEST_TICK) for point in shown])
    axes.minorticks_off()
    ends = np.array([points[0].number, points[-1].number])
    low, high = np.log(ends) if trend.logarithmic else ends
    space = SPACE * (high - low)
    limits = np.array([low - space, high + space])
    axes.set_xlim(*(np.exp(limits) if trend.logarithmic else limits))
