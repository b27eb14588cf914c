"""Panels of loss against loss: a line a level with its band, or one line for all levels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.study.results import PanelLine
from lossline_jax.report.content.points import Unit, pair
from lossline_jax.report.content.wording import counted
from lossline_jax.report.figures.axes import curve, hover, label_axes, scatter
from lossline_jax.report.figures.palette import COMMON, LevelStyle
from lossline_jax.report.figures.plot import Drawn, Panel
from lossline_jax.report.figures.style import MUTED

MARGIN = 0.05  # of the range of the points, around them
Limits = tuple[float, float]


@dataclass(frozen=True, eq=False)
class Cloud:
    """The points of one level: columns run_id, step, tokens_seen, x, y."""

    level: str
    style: LevelStyle
    points: pd.DataFrame


@dataclass(frozen=True, eq=False)
class LinePanel:
    """What one panel shows."""

    values: dict[str, str]  # the levels that all of its runs have
    x: str
    y: str  # "" where the lines have losses of their own
    clouds: tuple[Cloud, ...]
    lines: tuple[tuple[PanelLine, LevelStyle], ...]

    @property
    def points(self) -> pd.DataFrame:
        return pd.concat([cloud.points for cloud in self.clouds])

    @property
    def count(self) -> str:
        """`120 points, 8 runs`: a checkpoint that several lines share counts once."""
        points = self.points
        checkpoints = len(points.drop_duplicates(["run_id", "step"]))
        return f"{counted(checkpoints, 'checkpoint')}, {counted(points['run_id'].nunique(), 'run')}"


@dataclass
class PointsOf:
    """Points of figure lines, each pair of evaluation sets paired once."""

    long: pd.DataFrame
    units: Mapping[str, Unit]
    _pairs: dict[tuple[str, str, str], pd.DataFrame] = field(default_factory=dict)

    def __call__(self, line: PanelLine) -> pd.DataFrame:
        key = line.x, line.y, line.unit
        if key not in self._pairs:
            self._pairs[key] = pair(self.long, line.x, line.y, self.units[line.unit])
        points = self._pairs[key]
        return points[points["run_id"].astype(str).isin(line.run_ids)]


def by_level(lines: Sequence[PanelLine], styles: Mapping, points_of: PointsOf) -> LinePanel:
    """A panel with a line a level."""
    drawn = [(line, styles[line.factor, line.level]) for line in lines]
    clouds = tuple(Cloud(line.level, style, points_of(line)) for line, style in drawn)
    same_y = len({line.y for line in lines}) == 1
    return LinePanel(lines[0].panel, lines[0].x, lines[0].y if same_y else "", clouds, tuple(drawn))


def pooled_panel(line: PanelLine, styles: Mapping, points_of: PointsOf, levels: Mapping[str, str]) -> LinePanel:
    """A panel with one line for all levels; `levels` has the level of each run."""
    points = points_of(line)
    point_levels = points["run_id"].map(levels)
    clouds = tuple(
        Cloud(level, style, points[point_levels == level])
        for (factor, level), style in styles.items()
        if factor == line.factor and (point_levels == level).any()
    )
    return LinePanel(line.panel, line.x, line.y, clouds, ((line, COMMON),))


def limits_of(panels: Sequence[LinePanel], axis: str) -> Limits:
    """Limits that hold all points of some panels."""
    values = pd.concat([panel.points[axis] for panel in panels])
    low, high = float(values.min()), float(values.max())
    margin = MARGIN * (high - low) or MARGIN * abs(high) or 1.0
    return low - margin, high + margin


def as_panel(
    panel: LinePanel, heading: str, unit: Unit, labels: tuple[str, str], limits: tuple[Limits, Limits]
) -> Panel:
    """The panel as a plot takes it. `labels` and `limits` are those of x and y."""

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, cloud in enumerate(panel.clouds):
            name = cloud.level if not panel.y else panel.y
            hover_texts = hover(cloud.points, unit, panel.x, name)
            drawn |= scatter(axes, f"points-{k}", cloud.points, cloud.style, hover_texts, size=3.4)
        for k, (line, style) in enumerate(panel.lines):
            if line.band is not None:
                ends = line.band.lower, line.band.upper
                drawn |= curve(
                    axes, f"curve-{k}", line.band.x, line.band.estimate, style, line.run_ids, band=ends, width=1.3
                )
        axes.set_xlim(limits[0])
        axes.set_ylim(limits[1])
        label_axes(axes, *labels)
        axes.text(0.985, 0.025, panel.count, transform=axes.transAxes, ha="right", color=MUTED, fontsize=7)
        return drawn

    setting = ", ".join(panel.values.values())
    return Panel(heading, f"{panel.y or 'other losses'} against {panel.x} in {unit.label}: {setting}", draw)


def headings(panels: Sequence[LinePanel]) -> list[str]:
    """What tells each panel from the others; of a single one all that is stated of it."""
    names = list(panels[0].values)
    if len(panels) > 1:
        names = [name for name in names if len({panel.values[name] for panel in panels}) > 1]
    return [", ".join(v for name in names if (v := panel.values[name]) not in ("", "nan")) for panel in panels]
