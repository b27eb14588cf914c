"""What the figures share: points with their hover titles, axes, limits."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.figures.plot import Drawn, Marks
from lossline_jax.report.figures.style import PAPER, Style

TICK_STEPS = (1, 2, 2.5, 5, 10)


class DrawnLine(Protocol):
    """Points (columns x, y) with a name and a style."""

    name: str
    style: Style
    points: pd.DataFrame
    is_base: bool


def scatter(
    axes: Axes, gid: str, points: pd.DataFrame, style: Style, titles: Sequence[str], size: float = 4.6
) -> Drawn:
    """Draw `points` (columns run_id, x, y) with a thin paper-coloured rim."""
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
    known = points.reindex(columns=["step", "tokens_seen", "x", "y"])
    table = known.assign(kind="point", runs=points["run_id"], low=np.nan, high=np.nan)
    return {gid: Marks(tuple(points["run_id"]), tuple(titles), table)}


def curve(
    axes: Axes,
    gid: str,
    x: Sequence[float],
    y: Sequence[float],
    style: Style,
    run_ids: Sequence[str],
    *,
    band: tuple[Sequence[float], Sequence[float]] | None = None,
    width: float = 1.0,
) -> Drawn:
    """Draw a line through (x, y) that belongs to `run_ids`, with its band (low, high) below it."""
    low, high = band or (np.nan, np.nan)
    table = pd.DataFrame({"x": x, "y": y, "low": low, "high": high})
    table = table.assign(kind="line", runs=" ".join(map(str, run_ids)), step=np.nan, tokens_seen=np.nan)
    drawn = {gid: Marks(tuple(run_ids), (), table)}
    if band is not None:
        axes.fill_between(x, low, high, color=style.colour, alpha=0.15, linewidth=0, gid=f"{gid}-band")
        drawn[f"{gid}-band"] = Marks(tuple(run_ids))
    axes.plot(x, y, color=style.colour, linestyle=style.dashes, linewidth=width, gid=gid)
    return drawn


def hover(points: pd.DataFrame, unit: Unit, x: str, y: str) -> list[str]:
    """What a reader learns who points at a point."""
    return [
        f"{row.run_id}\n{position(row.step, row.tokens_seen)}{x} {row.x:.4f} · {y} {row.y:.4f} {unit.label}"
        for row in points.itertuples()
    ]


def position(step: float, tokens_seen: float) -> str:
    """`step 120 · 1.2M tokens`, or what of it the table knows."""
    parts = [] if pd.isna(step) else [f"step {int(step):,}"]
    parts += [] if pd.isna(tokens_seen) else [f"{human_count(tokens_seen)} tokens"]
    return " · ".join(parts) + "\n" if parts else ""


def label_axes(axes: Axes, x_label: str, y_label: str) -> None:
    """Labels, and few enough ticks that their labels never touch."""
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))


def freeze(axes: Axes) -> None:
    """Fix the limits at what is drawn so far, with a margin."""
    axes.margins(0.05)
    axes.autoscale_view()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())


def split_by_support(lines: Sequence[DrawnLine]) -> tuple[list[DrawnLine], list[DrawnLine]]:
    """Lines that share a frame with the base line, and those so far away that they would flatten it.

    Far away: no point within one base-line length of the base line's range of x. That happens to a byte
    tokenizer in nats/token, where the unit itself differs. Without a base line all share the frame.
    """
    base = next((line for line in lines if line.is_base), None)
    if base is None:
        return list(lines), []
    low, high = base.points["x"].min(), base.points["x"].max()
    reach = max(high - low, 0.1 * high)
    near = [bool(line.points["x"].between(low - reach, high + reach).any()) for line in lines]
    return [line for line, is_near in zip(lines, near, strict=True) if is_near], [
        line for line, is_near in zip(lines, near, strict=True) if not is_near
    ]


def note_outside(axes: Axes, outside: Sequence[DrawnLine]) -> Drawn:
    """Say in the free corner above the line what was left out of the frame."""
    drawn = {}
    for k, line in enumerate(outside):
        x, y = line.points["x"], line.points["y"]
        axes.annotate(
            f"{line.name} lies outside the frame:\nx {x.min():.2f} to {x.max():.2f}, y {y.min():.2f} to {y.max():.2f}",
            xy=(0.02, 0.98),
            xycoords="axes fraction",
            xytext=(0, -25 * k),
            textcoords="offset points",
            color=line.style.colour,
            fontsize=7.5,
            va="top",
            gid=f"outside-{k}",
        )
        drawn[f"outside-{k}"] = Marks(tuple(line.points["run_id"].unique()))
    return drawn
