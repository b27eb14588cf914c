"""Loss against size at equal compute: the isoFLOP figure of arXiv 2203.15556 and 2411.12925."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.study.isoflop import SAME_BUDGET
from lossline_jax.fit.study.results import IsoFlop, StudyFits
from lossline_jax.formatting import counted
from lossline_jax.report.content.points import Unit, final_rows, units_of
from lossline_jax.report.figures.axes import curve, scatter
from lossline_jax.report.figures.compute_axes import compute_plot, heading, log_axes, losses_on, note, titles
from lossline_jax.report.figures.palette import LevelStyle, sequence_style, thinned
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Marks, Panel, Plot
from lossline_jax.report.figures.style import INK, PAPER

GRID = 60  # points of a curve
OPTIMUM = LevelStyle("base", marker="D", is_filled=False)
MIN_FOR_SLOPE = 3  # budgets with a minimum that a slope needs


def isoflop_plots(fits: StudyFits, long: pd.DataFrame) -> list[Plot]:
    """Return the figure with a panel for each group of runs and a parabola for each budget.

    The list is empty where no group has several sizes at equal budgets.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
    """
    groups: dict[tuple, list[IsoFlop]] = {}
    for item in fits.isoflops:
        groups.setdefault(tuple(item.panel.values()), []).append(item)
    if not groups:
        return []
    unit = {unit.key: unit for unit in units_of(fits)}[fits.isoflops[0].unit]
    styles = _styles(fits.isoflops)
    last = final_rows(long)
    panels = [
        Panel(
            heading(items[0].panel, [other[0].panel for other in groups.values()]) or items[0].eval_set,
            f"{items[0].eval_set} loss against parameters, a curve a budget of FLOPs",
            _drawer(items, losses_on(last, items[0].eval_set, unit), unit, styles),
        )
        for items in groups.values()
    ]
    caption = (
        "Each point is the last checkpoint of a run: its loss on the text that the vertical axis names against its "
        "parameters, embeddings included. Runs of one colour had equal training FLOPs; curves are parabolas in log N. "
        "A diamond is the least loss of a budget, left out where the parabola has its minimum beyond the sizes. The "
        "best size grows as FLOPs to the power a, a line through the diamonds in logarithms."
    )
    key = [KeyEntry(style, "FLOPs", f"{budget:.2g}") for budget, style in thinned(list(styles.items()))]
    key.append(KeyEntry(OPTIMUM, "base", "least loss"))
    return [compute_plot("isoflop", "Loss against size at equal compute", caption, panels=panels, key=key)]


def _drawer(
    items: Sequence[IsoFlop], points: pd.DataFrame, unit: Unit, styles: Mapping[float, LevelStyle]
) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, item in enumerate(items):
            budget_points = points.loc[points["run_id"].astype(str).isin(item.run_ids)]
            budget_points = budget_points.assign(x=budget_points["params_total"])
            style = _style(styles, item.budget)
            grid = np.geomspace(*item.params, GRID)
            y = np.polyval(item.coefficients, np.log(grid))
            drawn |= curve(axes, f"curve-{k}", grid, y, style=style, run_ids=item.run_ids, width=1.2)
            hover_titles = titles(budget_points, item.eval_set, unit)
            drawn |= scatter(axes, f"points-{k}", budget_points, style, titles=hover_titles, size=3.4)
        optima = [item for item in items if item.params_min is not None]
        drawn |= _draw_optima(axes, optima)
        log_axes(axes, "parameters", items[0].eval_set, unit)
        runs = {run for item in items for run in item.run_ids}
        note(axes, f"{counted(len(runs), 'run')}{_slope_text(optima)}")
        return drawn

    return draw


def _draw_optima(axes: Axes, optima: Sequence[IsoFlop]) -> Drawn:
    if not optima:
        return {}
    best_sizes = [item.params_min for item in optima if item.params_min is not None]
    lowest_losses = [item.loss_min for item in optima if item.loss_min is not None]
    axes.plot(
        best_sizes,
        lowest_losses,
        linestyle="none",
        marker=OPTIMUM.marker,
        markersize=4.6,
        markerfacecolor=PAPER,
        markeredgecolor=INK,
        gid="optima",
        zorder=4,
    )
    table = pd.DataFrame(
        {
            "x": best_sizes,
            "y": lowest_losses,
            "runs": [" ".join(item.run_ids) for item in optima],
            "kind": "optimum",
        }
    )
    return {"optima": Marks(tuple(run for item in optima for run in item.run_ids), (), table)}


def _slope_text(optima: Sequence[IsoFlop]) -> str:
    """Return `, a = 0.52`, where a is the exponent of the best size as a power of compute."""
    if len(optima) < MIN_FOR_SLOPE:
        return ""
    log_c, log_n = (np.log([getattr(item, name) for item in optima]) for name in ("budget", "params_min"))
    return f", a = {np.polyfit(log_c, log_n, 1)[0]:.2f}"


def _styles(items: Sequence[IsoFlop]) -> dict[float, LevelStyle]:
    """Return a style for each budget of the figure. Budgets of different groups within 5% count as one."""
    budgets = sorted({item.budget for item in items})
    distinct = [budgets[0], *(b for a, b in itertools.pairwise(budgets) if b > (1 + SAME_BUDGET) * a)]
    return {budget: sequence_style(k, len(distinct)) for k, budget in enumerate(distinct)}


def _style(styles: Mapping[float, LevelStyle], budget: float) -> LevelStyle:
    """Return the style of the budget nearest to `budget`."""
    return styles[min(styles, key=lambda known: abs(np.log(known / budget)))]
