"""The forest figure: the gap of every level to its reference line, with its interval and the margin of its factor."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from lossline_jax.fit.compare.comparison import FactorComparison, LevelGap
from lossline_jax.formatting import shortened
from lossline_jax.report.content.points import Unit
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.content.wording import interval, signed_text
from lossline_jax.report.figures.axes import label_axes
from lossline_jax.report.figures.emphasis import GREY, OPEN, Level, emphasised
from lossline_jax.report.figures.plot import Drawn, Marks, Panel, Plot
from lossline_jax.report.figures.style import INK, MUTED, PAPER, MarkStyle, factor_name
from lossline_jax.report.tables.verdicts import FactorVerdict

WIDTH, LEFT = 4.8, 1.75  # inches: the panel, and the space for the names at its left
ROW, FRAME = 0.23, 0.85  # inches: the height of a row, and of the axis with its label
LONGEST_NAME = 26  # characters


@dataclass(frozen=True)
class Row:
    """One level with its gap. `y` is its height in the figure: the first row is at 0, the next at -1."""

    y: float
    factor: str
    name: str
    value: float  # the gap, in the unit of the panel
    gap: LevelGap
    comparison: FactorComparison
    style: MarkStyle
    run_ids: tuple[str, ...]

    @property
    def is_open(self) -> bool:
        """The study cannot tell whether this level moves the line."""
        return self.gap.verdict == "cannot tell"


def forest_plot(judged: Sequence[FactorVerdict], runs: Mapping[str, Run], units: Sequence[Unit]) -> Plot | None:
    """Plot the gap of each level with its interval on one axis, with a panel for each unit that texts use.

    Args:
        judged: the factors, as `group_by_factor` gives them.
        runs: the runs by id, as `describe_runs` gives them.
        units: the units of the table, as `units_of` gives them.

    Returns:
        The plot. None: no level has a gap.
    """
    shown = {unit: rows for unit in units if (rows := _rows(judged, runs, unit))}
    if not shown:
        return None
    tallest = max(1 - rows[-1].y for rows in shown.values())
    return Plot(
        name="forest",
        title="Gap of each level",
        caption=(
            "Each large point is the mean gap between the line of a level and the reference line, with its 90% "
            "interval. Small points are the gaps of matched pairs. The grey band is the margin of the factor: three "
            "times its noise. Levels without a move are grey, and hollow where the study cannot tell."
        ),
        panels=tuple(
            Panel("", f"gap of each level to the reference line in {unit.label}", _drawer(rows, unit))
            for unit, rows in shown.items()
        ),
        key=(),
        columns=1,
        width=WIDTH,
        height=FRAME + ROW * tallest,
        left=LEFT,
    )


def _rows(judged: Sequence[FactorVerdict], runs: Mapping[str, Run], unit: Unit) -> list[Row]:
    """Return the levels that have a gap in this unit, with half a row between two factors."""
    styles = emphasised(runs, judged)
    members: dict[Level, list[str]] = {}
    for run in runs.values():
        members.setdefault((run.factor, run.level), []).append(run.run_id)
    rows, y = [], 0.0
    for item in judged:
        if item.unit != unit.key:
            continue
        for level in item.levels:
            gap, key = item.gap(level), (item.factor, level.level)
            if gap.gap is not None:
                style, ids = styles.get(key, GREY), tuple(members.get(key, ()))
                rows.append(Row(y, item.factor, level.name, gap.gap, gap, item.main, style=style, run_ids=ids))
                y -= 1.0
        y -= 0.5
    return rows


def _drawer(rows: Sequence[Row], unit: Unit) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        for row in rows:
            if margin := row.comparison.margin:
                band = Rectangle((-margin, row.y - 0.5), 2 * margin, 1.0, color=MUTED, alpha=0.18, linewidth=0)
                axes.add_patch(band)
        axes.axvline(0.0, color=INK, linewidth=1.0)
        drawn = {}
        for k, row in enumerate(rows):
            drawn |= _draw_row(axes, k, row, unit)
        axes.margins(x=0.06)
        axes.set_ylim(rows[-1].y - 0.7, 0.7)
        suffix = f" ({unit.label})" if unit.key else ""
        label_axes(axes, f"gap to the reference line{suffix}", "")
        axes.xaxis.label.set(x=1.0, horizontalalignment="right")  # it may be longer than a narrow axis
        axes.set_yticks([row.y for row in rows], [_name(row) for row in rows])
        axes.grid(visible=False, axis="y")
        for label, row in zip(axes.get_yticklabels(), rows, strict=True):
            label.set_color(INK if row.style in (GREY, OPEN) else row.style.colour)
            label.set_fontweight("normal" if row.style in (GREY, OPEN) else "bold")
        return drawn

    return draw


def _name(row: Row) -> str:
    return shortened(f"{factor_name(row.factor)} {row.name}", LONGEST_NAME)


def _draw_row(axes: Axes, k: int, row: Row, unit: Unit) -> Drawn:
    gap, colour = row.gap, row.style.colour
    pairs = [pair.gap for pair in gap.pairs] if len(gap.pairs) > 1 else []
    if pairs:
        axes.plot(pairs, [row.y] * len(pairs), "o", color=colour, markersize=2.2, alpha=0.5, gid=f"pairs-{k}")
    low, high = gap.interval or (np.nan, np.nan)
    if gap.interval is not None:
        axes.plot([low, high], [row.y, row.y], color=colour, linewidth=1.8, gid=f"interval-{k}")
    gid = f"gap-{k}"
    axes.plot(
        [row.value],
        [row.y],
        row.style.marker,
        markersize=5.0,
        markerfacecolor=PAPER if row.is_open else colour,
        markeredgecolor=colour,
        gid=gid,
    )
    suffix = f" {unit.label}" if unit.key else ""
    text = f"{_name(row)}\n{signed_text(row.value)} {interval(low, high)}{suffix}\n{gap.verdict}"
    table = pd.DataFrame(
        [{"x": row.value, "low": low, "high": high, "kind": f"gap of {_name(row)}", "runs": " ".join(row.run_ids)}]
    )
    return {gid: Marks((row.run_ids[0] if row.run_ids else "",), (text,), table)}
