"""Points, hover titles and axes that the figures over parameters and over compute share."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.figures.axes import TICK_STEPS, position
from lossline_jax.report.figures.plot import KeyEntry, Panel, Plot
from lossline_jax.report.figures.style import MUTED

PANEL_SIZE = (3.4, 2.85)  # width and height of a panel in inches; three panels in a row


def compute_plot(name: str, title: str, caption: str, *, panels: Sequence[Panel], key: Sequence[KeyEntry]) -> Plot:
    """Return a plot of small panels.

    Args:
        name: stem of the file names.
        title: the title of the figure.
        caption: the text below the figure.
        panels: the panels in the order of the page.
        key: the entries of the key.
    """
    columns = columns_for(len(panels))
    return Plot(name, title, caption, tuple(panels), tuple(key), columns, *PANEL_SIZE)


def columns_for(num_panels: int) -> int:
    """Return the number of small panels in a row that fills the rows best: two or three."""
    return 2 if num_panels in (1, 2, 4) else 3


def losses_on(long: pd.DataFrame, eval_set: str, unit: Unit) -> pd.DataFrame:
    """Return the rows of an evaluation set, sorted by run and step, with the loss in column y.

    Rows without a loss or without a number of parameters are left out.

    Args:
        long: the losses table as `as_long` gives it.
        eval_set: the evaluation set.
        unit: the unit of the loss.
    """
    rows = long.loc[long["eval_set"] == eval_set]
    rows = rows.assign(y=pd.to_numeric(rows[unit.column], errors="coerce"))
    return rows.loc[rows["y"].notna() & rows["params_total"].notna()].sort_values(["run_id", "step"])


def titles(points: pd.DataFrame, eval_set: str, unit: Unit) -> list[str]:
    """Return the hover title of each point: run, step, tokens, parameters, FLOPs, and the loss on `eval_set`."""
    texts = []
    for row in points.to_dict("records"):
        flops = row.get("train_flops")
        compute = f" · {flops:.2e} FLOPs" if flops is not None and flops > 0 else ""
        sizes = f"{human_count(row['params_total'])} parameters{compute}"
        progress = position(row["step"], row["tokens_seen"])
        texts.append(f"{row['run_id']}\n{progress}{sizes}\n{eval_set} {row['y']:.4f} {unit.label}")
    return texts


def log_axes(axes: Axes, x_label: str, eval_set: str, unit: Unit) -> None:
    """Set up a logarithmic horizontal axis and a linear vertical axis of losses."""
    log_scale(axes)
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set_xlabel(x_label)
    axes.set_ylabel(unit.short_axis(eval_set))


def log_scale(axes: Axes) -> None:
    """Make the horizontal axis logarithmic, with few labels, whatever its range."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 100 else (1.0, 3.0) if high / low > 8 else (1.0, 1.5, 2.0, 3.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))


def note(axes: Axes, text: str) -> None:
    """Write `text` into the upper right corner, which falling losses leave free."""
    axes.text(0.985, 0.95, text, transform=axes.transAxes, ha="right", color=MUTED, fontsize=7)


def heading(values: Mapping[str, object], groups: Sequence[Mapping[str, object]]) -> str:
    """Return the levels that distinguish one group of runs from the other groups.

    Args:
        values: the level of each factor in the group.
        groups: the levels of all groups, this one included. The heading of a single group is empty.
    """
    varying = [name for name in values if len({str(group[name]) for group in groups}) > 1]
    return ", ".join(str(values[name]) for name in varying)


def _tick(value: float) -> str:
    return human_count(value) if value < 1e10 else f"{value:.0e}".replace("e+", "e")
