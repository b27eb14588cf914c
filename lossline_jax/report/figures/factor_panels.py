"""Panels of loss against loss: one line with its band for each level, or one line for all levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.study.results import PanelLine
from lossline_jax.formatting import counted
from lossline_jax.report.content.points import Unit, pair, run_ids_of
from lossline_jax.report.figures.axes import curve, hover, label_axes, scatter
from lossline_jax.report.figures.palette import COMMON
from lossline_jax.report.figures.plot import Drawn, Panel
from lossline_jax.report.figures.style import MUTED, MarkStyle
from lossline_jax.report.figures.thinning import most_of_run, to_draw

MARGIN = 0.05  # space around the points, as a share of their range
Limits = tuple[float, float]  # the lower and the upper end of an axis
Styles = Mapping[tuple[str, str], MarkStyle]  # by (factor, level), as `palette.level_styles` gives them


@dataclass(frozen=True, eq=False)
class Cloud:
    """The points of one level: columns run_id, step, tokens_seen, x, y."""

    level: str
    style: MarkStyle
    points: pd.DataFrame
    drawn: pd.DataFrame  # the rows of `points` that are drawn


@dataclass(frozen=True, eq=False)
class LinePanel:
    """The points and lines of one panel."""

    values: dict[str, str]  # the factor levels that all runs of the panel have
    x: str  # the evaluation set of the horizontal axis
    y: str  # the evaluation set of the vertical axis; "" where each line has its own
    clouds: tuple[Cloud, ...]
    lines: tuple[tuple[PanelLine, MarkStyle], ...]

    @cached_property
    def points(self) -> pd.DataFrame:
        """The points of all levels."""
        return pd.concat([cloud.points for cloud in self.clouds])

    @cached_property
    def count(self) -> str:
        """`120 checkpoints, 8 runs`, and how many are drawn. A checkpoint that several lines share counts once."""
        points, drawn = self.points, pd.concat([cloud.drawn for cloud in self.clouds])
        checkpoints, num_drawn = (len(table.drop_duplicates(["run_id", "step"])) for table in (points, drawn))
        part = f" ({num_drawn} drawn)" if num_drawn < checkpoints else ""
        return f"{counted(checkpoints, 'checkpoint')}{part}, {counted(len(run_ids_of(points)), 'run')}"


@dataclass
class PointsOf:
    """A function from a figure line to its points. Each pair of evaluation sets is joined once."""

    long: pd.DataFrame
    units: Mapping[str, Unit]
    # By x, y and unit: the points, the number of the run of each point, and the names of the runs.
    _pairs: dict[tuple[str, str, str], tuple[pd.DataFrame, np.ndarray, pd.Index]] = field(default_factory=dict)

    def __call__(self, line: PanelLine) -> pd.DataFrame:
        """Return the points of `line`: columns run_id, step, tokens_seen, x, y."""
        key = line.x, line.y, line.unit
        if key not in self._pairs:
            points = pair(self.long, line.x, line.y, self.units[line.unit])
            codes, run_ids = pd.factorize(points["run_id"].astype(str))
            self._pairs[key] = points, codes, pd.Index(run_ids)
        points, codes, run_ids = self._pairs[key]
        return points.loc[run_ids.isin(line.run_ids)[codes]]

    def cloud(self, level: str, style: MarkStyle, points: pd.DataFrame) -> Cloud:
        """Return the points of one level, with those that are drawn."""
        return Cloud(level, style, points, to_draw(points, self._most))

    @cached_property
    def _most(self) -> int | None:
        return most_of_run(self.long)


def by_level(lines: Sequence[PanelLine], styles: Styles, points_of: PointsOf) -> LinePanel:
    """Return a panel with one line for each level.

    Args:
        lines: the lines of the panel.
        styles: the style of each level.
        points_of: the function that gives the points of a line.
    """
    drawn = [(line, styles[line.factor, line.level]) for line in lines]
    clouds = tuple(points_of.cloud(line.level, style, points_of(line)) for line, style in drawn)
    same_y = len({line.y for line in lines}) == 1
    return LinePanel(lines[0].panel, lines[0].x, lines[0].y if same_y else "", clouds, tuple(drawn))


def pooled_panel(line: PanelLine, styles: Styles, points_of: PointsOf, levels: Mapping[str, str]) -> LinePanel:
    """Return a panel with one line for all levels.

    Args:
        line: the line of the panel.
        styles: the style of each level.
        points_of: the function that gives the points of a line.
        levels: the level of each run, by run id.
    """
    points = points_of(line)
    point_levels = pd.Series([levels.get(run_id) for run_id in points["run_id"]], index=points.index, dtype=object)
    clouds = tuple(
        points_of.cloud(level, style, points.loc[point_levels == level])
        for (factor, level), style in styles.items()
        if factor == line.factor and (point_levels == level).any()
    )
    return LinePanel(line.panel, line.x, line.y, clouds, ((line, COMMON),))


def limits_of(panels: Sequence[LinePanel], axis: str) -> Limits:
    """Return limits that contain all points of the panels.

    Args:
        panels: the panels that share the limits.
        axis: "x" or "y".
    """
    values = np.concatenate([panel.points[axis].to_numpy(float) for panel in panels])
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    return low - margin, high + margin


def as_panel(
    panel: LinePanel, heading: str, *, unit: Unit, labels: tuple[str, str], limits: tuple[Limits, Limits]
) -> Panel:
    """Return the panel in the form that a plot draws.

    Args:
        panel: the points and lines.
        heading: the text above the panel.
        unit: the unit of both losses.
        labels: the labels of the x and the y axis.
        limits: the limits of the x and the y axis.
    """

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, cloud in enumerate(panel.clouds):
            y = panel.y or cloud.level
            hover_titles = hover(cloud.drawn, unit, panel.x, y)
            by_run = len(cloud.drawn) < len(cloud.points)
            gid = f"points-{k}"
            drawn |= scatter(axes, gid, cloud.drawn, cloud.style, titles=hover_titles, size=3.4, by_run=by_run)
        for k, (line, style) in enumerate(panel.lines):
            if (band := line.band) is not None:
                drawn |= curve(
                    axes,
                    f"curve-{k}",
                    band.x,
                    band.estimate,
                    style=style,
                    run_ids=line.run_ids,
                    band=(band.lower, band.upper),
                    width=1.3,
                )
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
        label_axes(axes, *labels)
        axes.text(0.985, 0.025, panel.count, transform=axes.transAxes, ha="right", color=MUTED, fontsize=7)
        return drawn

    setting = ", ".join(panel.values.values())
    return Panel(heading, f"{panel.y or 'other losses'} against {panel.x} in {unit.label}: {setting}", draw)


def headings(panels: Sequence[LinePanel]) -> list[str]:
    """Return the heading of each panel: the levels in which the panels differ. A single panel gets all its levels."""
    names = list(panels[0].values)
    if len(panels) > 1:
        names = [name for name in names if len({panel.values[name] for panel in panels}) > 1]
    return [", ".join(v for name in names if (v := panel.values[name]) not in ("", "nan")) for panel in panels]
