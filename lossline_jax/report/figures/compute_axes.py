"""What the figures over parameters and compute share: their points, hover titles, axes and keys."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit
from lossline_jax.report.figures.axes import TICK_STEPS, position
from lossline_jax.report.figures.plot import KeyEntry, Panel, Plot
from lossline_jax.report.figures.style import MUTED

PANEL_SIZE = (3.4, 2.85)  # inches, three in a row


def compute_plot(name: str, title: str, caption: str, panels: Sequence[Panel], key: Sequence[KeyEntry]) -> Plot:
    """A plot of small panels."""
    columns = 2 if len(panels) in (1, 2, 4) else 3
    return Plot(name, title, caption, tuple(panels), tuple(key), columns, *PANEL_SIZE)


def losses_on(long: pd.DataFrame, eval_set: str, unit: Unit) -> pd.DataFrame:
    """The rows of an evaluation set by run and step, with the loss in column y."""
    rows = long[long["eval_set"] == eval_set]
    rows = rows.assign(y=pd.to_numeric(rows[unit.column], errors="coerce"))
    return rows[rows["y"].notna() & rows["params_total"].notna()].sort_values(["run_id", "step"])


def titles(points: pd.DataFrame, eval_set: str, unit: Unit) -> list[str]:
    """What a reader learns who points at a point."""
    texts = []
    for row in points.to_dict("records"):
        flops = row.get("train_flops")
        compute = f" · {flops:.2e} FLOPs" if flops is not None and flops > 0 else ""
        sizes = f"{human_count(row['params_total'])} parameters{compute}"
        where = position(row["step"], row["tokens_seen"])
        texts.append(f"{row['run_id']}\n{where}{sizes}\n{eval_set} {row['y']:.4f} {unit.label}")
    return texts


def log_axes(axes: Axes, x_label: str, eval_set: str, unit: Unit) -> None:
    """A logarithmic horizontal axis with few labels, whatever its range, and a vertical one of losses."""
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    subs = (1.0,) if high / low > 100 else (1.0, 3.0) if high / low > 8 else (1.0, 1.5, 2.0, 3.0, 5.0)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=8))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _tick(value)))
    axes.yaxis.set_major_locator(MaxNLocator(6, steps=TICK_STEPS))
    axes.set_xlabel(x_label)
    axes.set_ylabel(unit.short_axis(eval_set))


def note(axes: Axes, text: str) -> None:
    """Say something in the upper right corner, which falling losses leave free."""
    axes.text(0.985, 0.95, text, transform=axes.transAxes, ha="right", color=MUTED, fontsize=7)


def heading(values: Mapping[str, object], groups: Sequence[Mapping[str, object]]) -> str:
    """The levels that tell one group of runs from the others; empty for a single one."""
    varying = [name for name in values if len({str(other[name]) for other in groups}) > 1]
    return ", ".join(str(values[name]) for name in varying)


def _tick(value: float) -> str:
    return human_count(value) if value < 1e10 else f"{value:.0e}".replace("e+", "e")
