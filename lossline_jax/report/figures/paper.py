"""A figure of the page in the width and the letter size of a paper, and one panel in axes of the caller's own."""

import dataclasses
import math
import re

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import Collection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Annotation, Text

from lossline_jax.errors import ArgumentError
from lossline_jax.report.figures.plot import Plot, whole_figure
from lossline_jax.report.figures.style import RC

LETTERS = float(RC["font.size"])  # points: the size that figures are laid out with
TICK = float(RC["xtick.major.size"])  # points
NARROWEST = 2.4  # inches at that size: a panel that is narrower stands in a row of its own
INCHES = {"in": 1.0, "cm": 1 / 2.54, "mm": 1 / 25.4, "pt": 1 / 72.27}  # a point of TeX


def inches(text: str) -> float:
    """Return a width such as `3.3in`, `8.4cm`, `84mm` or `240pt` in inches. A number alone is in inches.

    Args:
        text: the width.

    Raises:
        ArgumentError: the text is not a width above zero.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(in|cm|mm|pt)?\s*", text)
    value = float(match[1]) * INCHES[match[2] or "in"] if match else 0.0
    if not 0.5 <= value <= 50:
        raise ArgumentError(
            "{width}: {text!r} is not a width between 0.5in and 50in; write 3.3in, 8.4cm or 240pt", text=text
        )
    return value


def check_letters(font: float) -> None:
    """Refuse a size of letters that nobody can read or print.

    Args:
        font: the size in points.

    Raises:
        ArgumentError: the size is out of range.
    """
    if not 4 <= font <= 24:
        raise ArgumentError("{font}: {size:g} is not a size of letters in points; give 4 to 24", size=font)


def paper_figure(plot: Plot, *, width: float | None = None, font: float | None = None, panel: int = 0) -> Figure:
    """Draw a figure for a paper. Letters, lines and markers have the same proportions as on the page.

    Args:
        plot: the figure.
        width: width of the whole figure in inches. None: as on the page.
        font: size of the letters in points. None: as on the page.
        panel: number of the only panel to draw, from 1; 0 for all panels.

    Raises:
        ArgumentError: the size of the letters is out of range, or there is no panel of that number.
    """
    if font is not None:
        check_letters(font)
    plot = _one_panel(plot, panel)
    scale = 1.0 if font is None else font / LETTERS
    columns = min(plot.columns, len(plot.panels))
    if width is not None:
        columns = max(1, min(columns, math.floor(width / scale / NARROWEST)))
        panel_width = width / scale / columns
        height = max(plot.height * min(panel_width / plot.width, 1.3), 0.45 * panel_width)
        plot = dataclasses.replace(plot, columns=columns, width=panel_width, height=height)
    figure = whole_figure(plot)
    if scale != 1.0:
        _scale(figure, scale)
    return figure


def draw_panel(plot: Plot, axes: Axes | None = None, panel: int = 1) -> Axes:
    """Draw one panel of a figure, and return its axes.

    Args:
        plot: the figure.
        axes: the axes to draw into. Their size must be final, because names are placed by it. None: new axes of the
            size of the page.
        panel: number of the panel, from 1.

    Raises:
        ArgumentError: there is no panel of that number.
    """
    plot = _one_panel(plot, panel)
    with matplotlib.rc_context(RC):
        if axes is None:
            return whole_figure(plot).axes[0]
        plot.panels[0].draw(axes)
        if plot.panels[0].heading:
            axes.set_title(plot.panels[0].heading)
    return axes


def _one_panel(plot: Plot, panel: int) -> Plot:
    if panel == 0:
        return plot
    if not 1 <= panel <= len(plot.panels):
        raise ArgumentError(
            "{panel}: the figure {name!r} has the panels 1 to {last}, not {number}",
            name=plot.name,
            last=len(plot.panels),
            number=panel,
        )
    return dataclasses.replace(plot, panels=(plot.panels[panel - 1],), columns=1)


def _scale(figure: Figure, scale: float) -> None:
    """Scale a drawn figure: its size, and all that is measured in points."""
    figure.set_size_inches(*(scale * size for size in figure.get_size_inches()))
    for artist in figure.findobj():
        if isinstance(artist, Text):
            artist.set_fontsize(scale * float(artist.get_fontsize()))
            if isinstance(artist, Annotation):
                x, y = artist.xyann
                artist.xyann = scale * x, scale * y
        elif isinstance(artist, Line2D):
            artist.set_linewidth(scale * artist.get_linewidth())
            artist.set_markersize(scale * artist.get_markersize())
            artist.set_markeredgewidth(scale * artist.get_markeredgewidth())
        elif isinstance(artist, Patch):
            artist.set_linewidth(scale * artist.get_linewidth())
        elif isinstance(artist, Collection):
            artist.set_linewidth([scale * width for width in np.atleast_1d(artist.get_linewidth())])
    for axes in figure.axes:  # ticks that do not exist yet
        axes.tick_params(labelsize=scale * LETTERS, length=scale * TICK)
