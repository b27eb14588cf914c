"""A plot: panels that the page shows as separate drawings and the files show on one sheet."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import matplotlib
import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.markers import MarkerStyle
from matplotlib.transforms import Affine2D

from lossline_jax.formatting import shortened
from lossline_jax.report.figures.style import RC, MarkStyle
from lossline_jax.report.figures.svg import inline_svg, new_figure

LEFT, RIGHT, BOTTOM, TOP = 0.62, 0.14, 0.5, 0.32  # margins of a panel in inches: space for labels of 8.5 points
LONGEST_IN_KEY = 40  # characters of a level's name
KEY_WIDTH = 3.2  # inches for one column of the key
KEY_LINE, KEY_MARGIN = 0.19, 0.2  # inches: height of one line of the key, and of the space around the key

# Columns of the table of the numbers behind a figure. `kind` is point, line, optimum or gap of a level.
TABLE_COLUMNS = ("panel", "x_axis", "y_axis", "kind", "runs", "step", "tokens_seen", "x", "y", "low", "high")


@dataclass(frozen=True, eq=False)
class Marks:
    """The runs, hover titles and numbers of one matplotlib artist.

    The page uses them to describe the artist, to hide it and to offer its numbers. Each point has one run and one hover
    title. A curve or a name has the runs it was drawn from and no titles.
    """

    run_ids: tuple[str, ...]
    titles: tuple[str, ...] = ()
    table: pd.DataFrame = field(default_factory=pd.DataFrame)  # columns x, y and the known ones of `TABLE_COLUMNS`
    by_run: bool = False  # points of one run share the mark of their run, which makes a large page smaller


Drawn = dict[str, Marks]  # by the gid of the artist


@dataclass(frozen=True)
class Panel:
    """One set of axes. `draw` draws into them and returns the marks of the runs."""

    heading: str
    label: str  # description of the drawing for screen readers
    draw: Callable[[Axes], Drawn]


@dataclass(frozen=True)
class KeyEntry:
    """One line of the key: a style, the factor and level that it stands for, and a remark."""

    style: MarkStyle
    factor: str
    level: str
    remark: str = ""

    @property
    def text(self) -> str:
        """The entry as text: `data: code   −0.399 nats/token`."""
        level = shortened(self.level, LONGEST_IN_KEY)
        name = level if self.factor == "base" else f"{self.factor}: {level}"
        return f"{name}   {self.remark}".rstrip()


@dataclass(frozen=True)
class Plot:
    """A figure of the report."""

    name: str  # stem of the file names
    title: str
    caption: str
    panels: tuple[Panel, ...]
    key: tuple[KeyEntry, ...]
    columns: int  # panels in a row
    width: float  # of one panel, inches
    height: float  # of one panel, inches
    left: float = LEFT  # margin of a panel for the names of its rows, inches


def handle(style: MarkStyle) -> Line2D:
    """Return the sample line that a key shows for `style`."""
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


@dataclass(frozen=True, eq=False)
class Sheet:
    """The figure with all panels of a plot, drawn once for the files and for the page."""

    plot: Plot
    figure: Figure
    axes: tuple[Axes, ...]  # of each panel
    drawn: tuple[Drawn, ...]  # of each panel

    @contextlib.contextmanager
    def alone(self, k: int) -> Iterator[Figure]:
        """Give the panel number k a figure of the size of one panel, while the context is open."""
        size = self.figure.get_size_inches()
        place = self.axes[k].get_position()
        is_shown = [legend.get_visible() for legend in self.figure.legends]
        try:
            for axes in self.axes:
                self.figure.delaxes(axes)
            self.figure.add_axes(self.axes[k])
            self.figure.set_size_inches(self.plot.width, self.plot.height)
            self.axes[k].set_position(_box_of_panel(self.plot, (0.0, 0.0), (self.plot.width, self.plot.height)))
            for legend in self.figure.legends:
                legend.set_visible(False)
            yield self.figure
        finally:
            self.figure.delaxes(self.axes[k])
            for axes in self.axes:
                self.figure.add_axes(axes)
            self.axes[k].set_position(place)
            self.figure.set_size_inches(*size)
            for legend, shown in zip(self.figure.legends, is_shown, strict=True):
                legend.set_visible(shown)


def draw_sheet(plot: Plot) -> Sheet:
    """Draw all panels on one sheet with the key below, for the PNG, PDF and SVG files and for the page."""
    columns = min(plot.columns, len(plot.panels))
    rows = -(-len(plot.panels) // columns)
    key_columns = max(1, min(len(plot.key), int(plot.width * columns / KEY_WIDTH)))
    foot = KEY_LINE * -(-len(plot.key) // key_columns) + KEY_MARGIN if plot.key else 0.0
    all_axes, drawn = [], []
    with matplotlib.rc_context(RC):
        figure = new_figure(plot.width * columns, plot.height * rows + foot)
        for k, panel in enumerate(plot.panels):
            corner = (k % columns * plot.width, foot + (rows - 1 - k // columns) * plot.height)
            axes = _panel_axes(figure, plot, panel, corner)
            all_axes.append(axes)
            drawn.append(panel.draw(axes))
        if plot.key:
            figure.legend(
                [handle(entry.style) for entry in plot.key],
                [entry.text for entry in plot.key],
                loc="lower left",
                ncols=key_columns,
                handlelength=3.2,
            )
    return Sheet(plot, figure, tuple(all_axes), tuple(drawn))


def whole_figure(plot: Plot) -> Figure:
    """Draw all panels on one sheet with the key below, for the PNG, PDF and SVG files."""
    return draw_sheet(plot).figure


def panel_svgs(plot: Plot, sheet: Sheet | None = None) -> tuple[list[str], pd.DataFrame]:
    """Return each panel as an inline `<svg>`, and a table of all their numbers.

    A narrow page can stack separate drawings. The table has the columns `TABLE_COLUMNS`.

    Args:
        plot: the plot.
        sheet: the sheet of this plot, if it is drawn already. None: it is drawn now.
    """
    sheet = draw_sheet(plot) if sheet is None else sheet
    drawings, tables = [], []
    for k, (panel, axes, drawn) in enumerate(zip(plot.panels, sheet.axes, sheet.drawn, strict=True)):
        with matplotlib.rc_context(RC), sheet.alone(k) as figure:
            drawings.append(inline_svg(figure, f"{plot.name}-{k}", drawn, panel.label))
        labels = {"panel": panel.heading, "x_axis": axes.get_xlabel(), "y_axis": axes.get_ylabel()}
        tables += [marks.table.assign(**labels) for marks in drawn.values() if len(marks.table)]
    return drawings, pd.concat(tables, ignore_index=True).reindex(columns=TABLE_COLUMNS)


def _panel_axes(figure: Figure, plot: Plot, panel: Panel, corner: tuple[float, float]) -> Axes:
    """Add axes with fixed margins. Panels then line up, and placing them needs no trial drawing."""
    width, height = figure.get_size_inches()
    axes = figure.add_axes(_box_of_panel(plot, corner, (width, height)))
    # Titles stand at the top edge. matplotlib would look for this place anew in each drawing.
    axes.set_title(panel.heading, fontweight="bold", y=1.0)
    return axes


def _box_of_panel(
    plot: Plot, corner: tuple[float, float], size: tuple[float, float]
) -> tuple[float, float, float, float]:
    """Return left, bottom, width and height of the axes of a panel, as shares of the size of the figure."""
    x, y = corner
    width, height = size
    box = (x + plot.left, y + BOTTOM, plot.width - plot.left - RIGHT, plot.height - BOTTOM - TOP)
    return box[0] / width, box[1] / height, box[2] / width, box[3] / height


def swatch(style: MarkStyle) -> Markup:
    """Return the line and marker of `style` as a small `<svg>` for tables and keys. It has no ids, so it may repeat."""
    marker = MarkerStyle(style.marker)
    place = Affine2D().scale(6.5, -6.5).translate(18, 6)  # in the 36 x 12 view box below; SVG's y axis points down
    outlines = map(np.asarray, marker.get_path().transformed(marker.get_transform() + place).to_polygons())
    shape = "".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in outline) + "Z" for outline in outlines)
    dashes = "" if style.dashes == "solid" else ",".join(f"{1.5 * length:g}" for length in style.dashes[1])
    colour = f"var(--c-{style.colour_name})"
    filling = colour if style.filling == style.colour else "var(--paper)"
    return Markup(
        '<svg class="swatch" viewBox="0 0 36 12" aria-hidden="true">'
        f'<path d="M1 6H35" style="stroke:{colour};stroke-width:1.6;stroke-dasharray:{dashes or "none"}"/>'
        f'<path d="{shape}" style="stroke:{colour};stroke-width:1;fill:{filling}"/></svg>'
    )
