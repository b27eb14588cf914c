"""Loss against compute with the fitted L(N, D): a curve for each size, and the lowest loss at each budget."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.laws import find_law
from lossline_jax.fit.study.results import ComputeFit, StudyFits
from lossline_jax.fit.tables.columns import plain
from lossline_jax.formatting import counted, human_count
from lossline_jax.report.content.points import Unit, run_ids_of, units_of
from lossline_jax.report.content.wording import file_stem, number
from lossline_jax.report.figures.axes import curve, scatter
from lossline_jax.report.figures.compute_axes import compute_plot, heading, log_axes, losses_on, note, titles
from lossline_jax.report.figures.palette import LevelStyle, sequence_style, thinned
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.figures.thinning import most_of_run, to_draw

GRID = 60  # points of a curve
SIZES = 200  # model sizes among which the frontier chooses
FRONTIER = LevelStyle("base", marker="None", dashes=(0, (5, 2)))


def compute_plots(fits: StudyFits, long: pd.DataFrame, unit: str) -> list[Plot]:
    """Return a figure for each evaluation set that has compute laws. A panel shows one group of runs.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        unit: the key of the unit whose laws are drawn.
    """
    usable = [law_fit for law_fit in fits.compute_fits if law_fit.fit.has_curve and law_fit.unit == unit]
    units = {known.key: known for known in units_of(fits)}
    return [
        _figure([law_fit for law_fit in usable if law_fit.eval_set == eval_set], units[unit], long)
        for eval_set in dict.fromkeys(law_fit.eval_set for law_fit in usable)
    ]


def _figure(law_fits: Sequence[ComputeFit], unit: Unit, long: pd.DataFrame) -> Plot:
    eval_set = law_fits[0].eval_set
    points = losses_on(long.loc[long["tokens_seen"].notna()], eval_set, unit)
    has_flops = "train_flops" in points and bool((points["train_flops"] > 0).all())
    column, axis = ("train_flops", "training FLOPs") if has_flops else ("tokens_seen", "training tokens")
    points = points.assign(x=points[column].astype(float))
    points_of_panel = [points.loc[_in_group(points, law_fit.group)] for law_fit in law_fits]
    sizes = sorted({float(size) for rows in points_of_panel for size in rows["params_total"]})
    styles = {size: sequence_style(k, len(sizes)) for k, size in enumerate(sizes)}
    panels = [
        Panel(
            heading(law_fit.group, [other.group for other in law_fits]) or eval_set,
            f"{eval_set} loss against {axis} with the fitted law",
            _drawer(law_fit, rows, axis, unit=unit, styles=styles, has_flops=has_flops, most=most_of_run(long)),
        )
        for law_fit, rows in zip(law_fits, points_of_panel, strict=True)
    ]
    law = find_law(law_fits[0].fit.law)
    caption = (
        f"Each point is a checkpoint: its loss on {eval_set} against its {axis}, coloured by parameters, embeddings "
        f"included. Curves are the fitted law, {law.formula}, at each size with several budgets"
        + ("; the dashed line is its least loss at each budget, over sizes within the table" if has_flops else "")
        + ". R² is that of the law on all points of the panel."
    )
    key = [KeyEntry(style, "size", human_count(size)) for size, style in thinned(list(styles.items()))]
    key += [KeyEntry(FRONTIER, "base", "compute-optimal")] if has_flops else []
    name = f"compute_law_{file_stem(eval_set)}"
    return compute_plot(name, f"Loss on {eval_set} against compute", caption, panels=panels, key=key)


def _drawer(
    law_fit: ComputeFit,
    points: pd.DataFrame,
    axis: str,
    *,
    unit: Unit,
    styles: Mapping[float, LevelStyle],
    has_flops: bool,
    most: int | None,
) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        drawn, num_drawn = {}, 0
        for k, (size, rows) in enumerate(_by_size(points).items()):
            if len(set(rows["x"])) > 1:
                x = np.geomspace(rows["x"].min(), rows["x"].max(), GRID)
                y = law_fit.fit.predict(N=np.full(GRID, size), D=x / _x_per_token(rows))
                drawn |= curve(axes, f"curve-{k}", x, y, style=styles[size], run_ids=run_ids_of(rows), width=0.9)
            shown = to_draw(rows, most)
            num_drawn += len(shown)
            by_run = len(shown) < len(rows)
            hover_titles = titles(shown, law_fit.eval_set, unit)
            drawn |= scatter(axes, f"points-{k}", shown, styles[size], titles=hover_titles, size=3.0, by_run=by_run)
        if has_flops:
            budgets, losses = _frontier(law_fit, points)
            drawn |= curve(axes, "frontier", budgets, losses, style=FRONTIER, run_ids=run_ids_of(points), width=1.6)
        log_axes(axes, axis, law_fit.eval_set, unit)
        note(
            axes,
            f"{counted(len(points), 'checkpoint')}{f' ({num_drawn} drawn)' if num_drawn < len(points) else ''}, "
            f"{counted(len(run_ids_of(points)), 'run')}, "
            f"R² {number(law_fit.fit.r_squared)}",
        )
        return drawn

    return draw


def _by_size(points: pd.DataFrame) -> dict[float, pd.DataFrame]:
    """Return the points of each number of parameters, the smallest first."""
    return {float(rows["params_total"].iloc[0]): rows for _, rows in points.groupby("params_total")}


def _x_per_token(rows: pd.DataFrame) -> float:
    """Return the distance on the horizontal axis per training token: FLOPs per token, or 1 for an axis of tokens."""
    return float(np.nanmedian((rows["x"] / rows["tokens_seen"]).to_numpy(float)))


def _frontier(law_fit: ComputeFit, points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return budgets in FLOPs and the law's lowest loss at each budget, over sizes within the table.

    FLOPs per token between two sizes follow a power law through both.
    """
    known = {size: _x_per_token(rows) for size, rows in _by_size(points).items()}
    sizes = np.geomspace(min(known), max(known), SIZES)
    per_token = np.exp(np.interp(np.log(sizes), np.log(list(known)), np.log(list(known.values()))))
    budgets = np.geomspace(points["x"].min(), points["x"].max(), GRID)
    tokens = budgets / per_token[:, None]
    losses = law_fit.fit.predict(N=np.broadcast_to(sizes[:, None], tokens.shape), D=tokens)
    return budgets, losses.min(axis=0)


def _in_group(points: pd.DataFrame, group: Mapping[str, object]) -> pd.Series:
    """Return the mask of the rows that have the levels of a group. An empty cell is a level too."""
    return pd.concat([points[name].map(plain).map(str) == str(level) for name, level in group.items()], axis=1).all(
        axis=1
    )
