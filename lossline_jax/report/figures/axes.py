"""Drawing helpers that several figures share: points with hover titles, curves with bands, and axis labels."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.figures.plot import Drawn, Marks
from lossline_jax.report.figures.style import PAPER, MarkStyle

TICK_STEPS = (1, 2, 2.5, 5, 10)  # allowed distances between ticks, times a power of ten

Values = Sequence[float] | np.ndarray | pd.Series  # (n,)


def scatter(
    axes: Axes,
    gid: str,
    points: pd.DataFrame,
    style: MarkStyle,
    *,
    titles: Sequence[str],
    size: float = 4.6,
    by_run: bool = False,
) -> Drawn:
    """Draw points with a thin rim in the paper's colour.

    Args:
        axes: the axes to draw into.
        gid: id of the artist in the SVG.
        points: columns run_id, x and y; also step and tokens_seen where they are known.
        style: colour and marker of the points.
        titles: the hover title of each point.
        size: diameter of a marker, points.
        by_run: True: points of one run share the mark of their run (`plot.Marks`).
    """
    filled = style.filling == style.colour
    axes.plot(
        points["x"],
        points["y"],
        linestyle="none",
        marker=style.marker,
        markersize=size,
        markerfacecolor=style.filling,
        markeredgecolor=PAPER if filled else style.colour,
        markeredgewidth=0.4 if filled else 1.0,
        gid=gid,
        clip_on=False,
        zorder=3,
    )
    known = {name: points.get(name, np.nan) for name in ("step", "tokens_seen", "x", "y")}
    table = pd.DataFrame(
        known | {"kind": "point", "runs": points["run_id"], "low": np.nan, "high": np.nan}, index=points.index
    )
    return {gid: Marks(tuple(points["run_id"]), tuple(titles), table, by_run)}


def curve(
    axes: Axes,
    gid: str,
    x: Values,
    y: Values,
    *,
    style: MarkStyle,
    run_ids: Sequence[str],
    band: tuple[Values, Values] | None = None,
    width: float = 1.0,
) -> Drawn:
    """Draw a line through the points (x, y), with its band below it.

    Args:
        axes: the axes to draw into.
        gid: id of the line in the SVG. The band has the id `{gid}-band`.
        x: horizontal coordinates, (n,).
        y: vertical coordinates, (n,).
        style: colour and dashes of the line.
        run_ids: the runs that the line belongs to.
        band: the lower and the upper end at each x. None: no band.
        width: width of the line, points.
    """
    low, high = (np.nan, np.nan) if band is None else band
    table = pd.DataFrame(
        {
            "x": x,
            "y": y,
            "low": low,
            "high": high,
            "kind": "line",
            "runs": " ".join(map(str, run_ids)),
            "step": np.nan,
            "tokens_seen": np.nan,
        }
    )
    drawn = {gid: Marks(tuple(run_ids), (), table)}
    if band is not None:
        axes.fill_between(x, *band, color=style.colour, alpha=0.15, linewidth=0, gid=f"{gid}-band")
        drawn[f"{gid}-band"] = Marks(tuple(run_ids))
    axes.plot(x, y, color=style.colour, linestyle=style.dashes, linewidth=width, gid=gid)
    return drawn


def hover(points: pd.DataFrame, unit: Unit, x: str, y: str) -> list[str]:
    """Return the hover title of each point: run, step, tokens, and the losses on the sets `x` and `y` in `unit`."""
    columns = (points[name] for name in ("run_id", "step", "tokens_seen", "x", "y"))
    return [
        f"{run_id}\n{position(step, tokens)}{x} {x_loss:.4f} · {y} {y_loss:.4f} {unit.label}"
        for run_id, step, tokens, x_loss, y_loss in zip(*columns, strict=True)
    ]


def position(step: float, tokens_seen: float) -> str:
    """Return `step 120 · 1.2M tokens` and a line break. A number that the table does not have is left out."""
    parts = [] if pd.isna(step) else [f"step {int(step):,}"]
    parts += [] if pd.isna(tokens_seen) else [f"{human_count(tokens_seen)} tokens"]
    return " · ".join(parts) + "\n" if parts else ""


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Set the axis labels, and few enough ticks that the tick labels never touch."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
