"""A plot: panels that are drawn apart in the page and together in a file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import matplotlib
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

from lossline_jax.formatting import shortened
from lossline_jax.report.figures.style import RC, Style
from lossline_jax.report.figures.svg import inline_svg, new_figure

LEFT, RIGHT, BOTTOM, TOP = (
    0.62,
    0.14,
    0.5,
    0.32,
)  # margins of a panel in inches: room for labels at 8.5 points
LONGEST_IN_KEY = 40  # characters of a level
KEY_WIDTH = 3.2  # inches that a column of the key takes


# of the numbers behind a figure; kind: point, line or optimum
TABLE_COLUMNS = ("panel", "x_axis", "y_axis", "kind", "runs", "step", "tokens_seen", "x", "y", "low", "high")


@dataclass(frozen=True, eq=False)
class Marks:
    """What one artist shows, so that the page can tell of it, hide it and give its numbers away.

    Points have a run and a hover title each; a curve or a name has the runs it was drawn from and no titles.
    """

    run_ids: tuple[str, ...]
    titles: tuple[str, ...] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame)  # x, y and what else is known of what was drawn


Drawn = Mapping[str, Marks]  # by gid of the artist


@dataclass(frozen=True)
class Panel:
    """One set of axes. `draw` returns what it drew of runs."""

    heading: str
    label: str  # what it shows, for those who do not see it
    draw: Callable[[Axes], Drawn]


@dataclass(frozen=True)
class KeyEntry:
    """One line of the key: how it is drawn, whose it is, and what is said of it."""

    style: Style
    factor: str
    level: str
    remark: str = ""

    @property
    def text(self) -> str:
        level = shortened(self.level, LONGEST_IN_KEY)
        name = level if self.factor == "base" else f"{self.factor}: {level}"
        return f"{name}   {self.remark}".rstrip()


@dataclass(frozen=True)
class Plot:
    """A figure of the report: `name` is the stem of its files; sizes are inches a panel."""

    name: str
    title: str
    caption: str
    panels: tuple[Panel, ...]
    key: tuple[KeyEntry, ...]
    columns: int
    width: float
    height: float


def handle(style: Style) -> Line2D:
    """A line as a key shows it."""
    return Line2D(
        [],
        [],
        color=style.colour,
        linestyle=style.dashes,
        linewidth=1.5,
        marker=style.marker,
        markersize=5,
        markerfacecolor=style.filling,
        markeredgecolor=style.colour,
    )


def whole_figure(plot: Plot) -> Figure:
    """All panels on one sheet with the key below: for PNG and PDF."""
    columns = min(plot.columns, len(plot.panels))
    rows = -(-len(plot.panels) // columns)
    key_columns = max(1, min(len(plot.key), int(plot.width * columns / KEY_WIDTH)))
    foot = 0.19 * -(-len(plot.key) // key_columns) + 0.2
    with matplotlib.rc_context(RC):
        figure = new_figure(plot.width * columns, plot.height * rows + foot)
        for k, panel in enumerate(plot.panels):
            corner = (k % columns * plot.width, foot + (rows - 1 - k // columns) * plot.height)
            panel.draw(_panel_axes(figure, plot, panel, corner))
        figure.legend(
            [handle(entry.style) for entry in plot.key],
            [entry.text for entry in plot.key],
            loc="lower left",
            ncols=key_columns,
            handlelength=3.2,
        )
    return figure


def panel_svgs(plot: Plot) -> tuple[list[str], pd.DataFrame]:
    """Each panel as an inline `<svg>`, so that a narrow page can stack them, and a table of all that they show."""
    drawings, tables = [], []
    for k, panel in enumerate(plot.panels):
        with matplotlib.rc_context(RC):
            figure = new_figure(plot.width, plot.height)
            axes = _panel_axes(figure, plot, panel, (0.0, 0.0))
            drawn = panel.draw(axes)
        drawings.append(inline_svg(figure, f"{plot.name}-{k}", drawn, panel.label))
        named = {"panel": panel.heading, "x_axis": axes.get_xlabel(), "y_axis": axes.get_ylabel()}
        tables += [marks.table.assign(**named) for marks in drawn.values() if len(marks.table)]
    return drawings, pd.concat(tables, ignore_index=True).reindex(columns=TABLE_COLUMNS)


def _panel_axes(figure: Figure, plot: Plot, panel: Panel, corner: tuple[float, float]) -> Axes:
    """Axes with fixed margins, so panels line up and nothing has to be drawn twice to be placed."""
    width, height = figure.get_size_inches()
    x, y = corner
    box = (x + LEFT, y + BOTTOM, plot.width - LEFT - RIGHT, plot.height - BOTTOM - TOP)
    axes = figure.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
    axes.set_title(panel.heading, fontweight="bold")
    return axes


def swatch(style: Style) -> Markup:
    """The line of `style` as a small `<svg>` for tables and keys. It has no ids, so it may repeat."""
    marker = MarkerStyle(style.marker)
    place = Affine2D().scale(6.5, -6.5).translate(18, 6)
    outlines = marker.get_path().transformed(marker.get_transform() + place).to_polygons()
    shape = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outline) + "Z" for outline in outlines)
    dashes = "" if style.dashes == "solid" else ",".join(f"{1.5 * length:g}" for length in style.dashes[1])
    colour = f"var(--c-{style.colour_name})"
    filling = colour if style.filling == style.colour else "var(--paper)"
    return Markup(
        '<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true">'
        f'<path d="M1 6H35" style="stroke:{colour};stroke-width:1.6;stroke-dasharray:{dashes or "none"}"/>'
        f'<path d="{shape}" style="stroke:{colour};stroke-width:1;fill:{filling}"/></svg>'
    )
