"""The speedup of each level against the compute that it uses, with bands: a panel for each factor."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from lossline_jax.fit.speedup.speedups import FactorSpeedup, PairSpeedup
from lossline_jax.fit.tables.rows import level_text
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.content.wording import capitalised, file_stem
from lossline_jax.report.figures.axes import curve
from lossline_jax.report.figures.compute_axes import PANEL_SIZE, columns_for, log_scale
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.figures.style import INK, MUTED, Style, factor_name, factor_rank

RATIO_STEPS = (1.0, 2.0, 5.0)  # ticks of the vertical axis in each power of ten
FEW = 4.0  # ratio of the largest to the smallest value of the axis below which it gets more ticks
MORE_STEPS = (0.6, 0.8, 1.0, 1.2, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0)


def speedup_plots(speedups: Sequence[FactorSpeedup], long: pd.DataFrame, runs: Mapping[str, Run]) -> list[Plot]:
    """Return a figure for each loss, with a panel for each factor that has a speedup.

    Args:
        speedups: one item for each factor and loss.
        long: the losses table as `as_long` gives it.
        runs: the runs by id, as `describe_runs` gives them.
    """
    styles = {(run.factor, run.level): run.style for run in runs.values()}
    names = {(run.factor, run.level): run.name for run in runs.values()}
    first = long.drop_duplicates("run_id")
    plots = []
    for loss in dict.fromkeys(item.loss for item in speedups):
        found = [item for item in speedups if item.loss == loss and any(level.pairs for level in item.levels)]
        if found:
            plots.append(
                _plot(loss, sorted(found, key=lambda item: factor_rank(item.factor)), first, styles=styles, names=names)
            )
    return plots


def _plot(
    loss: str,
    speedups: Sequence[FactorSpeedup],
    first: pd.DataFrame,
    *,
    styles: Mapping[tuple[str, str], Style],
    names: Mapping[tuple[str, str], str],
) -> Plot:
    keys = [(item.factor, level.level) for item in speedups for level in item.levels if level.pairs]
    return Plot(
        name=f"speedup_{file_stem(loss)}",
        title=f"Speedup at equal {loss}",
        caption=(
            f"The compute of the reference over that of the level at equal {loss} loss, against the compute of the "
            "level, with 90% bands. Above 1 the level saves compute. A level has one line for each setting that it is "
            "compared in."
        ),
        panels=tuple(
            Panel(
                capitalised(factor_name(item.factor)),
                f"speedup of each level of {item.factor} against compute; the reference is {item.reference}",
                _drawer(item, styles, _runs_by_level(first, item.factor)),
            )
            for item in speedups
        ),
        key=tuple(
            KeyEntry(styles.get(key, Style(key[0])), factor_name(key[0]), names.get(key, key[1])) for key in keys
        ),
        columns=columns_for(len(speedups)),
        width=PANEL_SIZE[0],
        height=PANEL_SIZE[1],
    )


def _runs_by_level(first: pd.DataFrame, factor: str) -> dict[str, tuple[str, ...]]:
    """Return the runs of each level of a factor, from one row of each run."""
    if factor not in first:
        return {}
    levels = first[factor].map(level_text)
    return {str(level): tuple(map(str, runs)) for level, runs in first["run_id"].groupby(levels)}


def _drawer(
    item: FactorSpeedup, styles: Mapping[tuple[str, str], Style], runs: Mapping[str, tuple[str, ...]]
) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        axes.axhspan(1 / item.margin, item.margin, color=MUTED, alpha=0.18, linewidth=0)
        axes.axhline(1.0, color=INK, linewidth=1.0)
        drawn: Drawn = {}
        for k, level in enumerate(item.levels):
            style = styles.get((item.factor, level.level), Style(item.factor))
            for n, pair in enumerate(level.pairs):
                drawn |= _line(axes, f"speedup-{k}-{n}", pair, style=style, run_ids=runs.get(level.level, ()))
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        axes.yaxis.set_major_locator(LogLocator(subs=MORE_STEPS if high < FEW * low else RATIO_STEPS, numticks=9))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        log_scale(axes)
        axes.set_xlabel("compute of the level, FLOPs")
        axes.set_ylabel("speedup")
        return drawn

    return draw


def _line(axes: Axes, gid: str, pair: PairSpeedup, *, style: Style, run_ids: tuple[str, ...]) -> Drawn:
    x = [at.level_compute for at in pair.by_loss]
    y = [at.speedup for at in pair.by_loss]
    ends = np.array([at.interval or (np.nan, np.nan) for at in pair.by_loss]).T
    band = (ends[0], ends[1]) if np.all(np.isfinite(ends)) else None
    return curve(axes, gid, x, y, style=style, run_ids=run_ids, band=band, width=1.3)
