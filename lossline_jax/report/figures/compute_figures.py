"""Loss against compute with the fitted L(N, D): a curve a size, and the least loss at each budget."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.laws import find_law
from lossline_jax.fit.study.results import ComputeFit, StudyFits
from lossline_jax.fit.tables.columns import plain
from lossline_jax.formatting import human_count
from lossline_jax.report.content.points import Unit, units_of
from lossline_jax.report.content.wording import counted, file_stem, number
from lossline_jax.report.figures.axes import curve, scatter
from lossline_jax.report.figures.compute_axes import compute_plot, heading, log_axes, losses_on, note, titles
from lossline_jax.report.figures.palette import LevelStyle, sequence_style, thinned
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot

GRID = 60  # points of a curve
SIZES = 200  # that the frontier chooses among
FRONTIER = LevelStyle("base", marker="None", dashes=(0, (5, 2)))


def compute_plots(fits: StudyFits, long: pd.DataFrame, unit: str) -> list[Plot]:
    """A figure an evaluation set with compute laws in `unit`, a panel a group of runs."""
    usable = [item for item in fits.compute_fits if item.fit.has_curve and item.unit == unit]
    known = {known.key: known for known in units_of(fits)}
    return [
        _figure([item for item in usable if item.eval_set == eval_set], known[unit], long)
        for eval_set in dict.fromkeys(item.eval_set for item in usable)
    ]


def _figure(items: Sequence[ComputeFit], unit: Unit, long: pd.DataFrame) -> Plot:
    eval_set = items[0].eval_set
    points = losses_on(long[long["tokens_seen"].notna()], eval_set, unit)
    has_flops = "train_flops" in points and bool((points["train_flops"] > 0).all())
    column, axis = ("train_flops", "training FLOPs") if has_flops else ("tokens_seen", "training tokens")
    points = points.assign(x=points[column].astype(float))
    chosen = [points[_in_group(points, item.group)] for item in items]
    sizes = sorted({size for rows in chosen for size in rows["params_total"].unique()})
    styles = {size: sequence_style(k, len(sizes)) for k, size in enumerate(sizes)}
    panels = [
        Panel(
            heading(item.group, [other.group for other in items]) or eval_set,
            f"{eval_set} loss against {axis} with the fitted law",
            _drawer(item, rows, axis, unit, styles, has_flops),
        )
        for item, rows in zip(items, chosen, strict=True)
    ]
    caption = (
        f"Each point is a checkpoint: its loss on {eval_set} against its {axis}, coloured by parameters, embeddings "
        f"included. Curves are the fitted law, {find_law(items[0].fit.law).formula}, at each size with several budgets"
        + ("; the dashed line is its least loss at each budget, over sizes within the table" if has_flops else "")
        + ". R² is that of the law on all points of the panel."
    )
    key = [KeyEntry(style, "size", human_count(size)) for size, style in thinned(list(styles.items()))]
    key += [KeyEntry(FRONTIER, "base", "compute-optimal")] if has_flops else []
    name = f"compute_law_{file_stem(eval_set)}"
    return compute_plot(name, f"Loss on {eval_set} against compute", caption, panels, key)


def _drawer(
    item: ComputeFit,
    points: pd.DataFrame,
    axis: str,
    unit: Unit,
    styles: Mapping[float, LevelStyle],
    has_flops: bool,
) -> Callable[[Axes], Drawn]:
    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for k, (size, rows) in enumerate(points.groupby("params_total")):
            if rows["x"].nunique() > 1:
                x = np.geomspace(rows["x"].min(), rows["x"].max(), GRID)
                y = item.fit.predict(N=np.full(GRID, float(size)), D=x / _per_token(rows))
                drawn |= curve(axes, f"curve-{k}", x, y, styles[size], rows["run_id"].unique(), width=0.9)
            drawn |= scatter(axes, f"points-{k}", rows, styles[size], titles(rows, item.eval_set, unit), size=3.0)
        if has_flops:
            drawn |= curve(axes, "frontier", *_frontier(item, points), FRONTIER, points["run_id"].unique(), width=1.6)
        log_axes(axes, axis, item.eval_set, unit)
        note(
            axes,
            f"{counted(len(points), 'checkpoint')}, {counted(points['run_id'].nunique(), 'run')}, "
            f"R² {number(item.fit.r_squared)}",
        )
        return drawn

    return draw


def _per_token(rows: pd.DataFrame) -> float:
    """Of the horizontal axis: FLOPs a token, or 1 where it shows tokens."""
    return float((rows["x"] / rows["tokens_seen"]).median())


def _frontier(item: ComputeFit, points: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Budgets and the least loss of the law there. FLOPs a token between two sizes follow a power law through them."""
    known = {float(size): _per_token(rows) for size, rows in points.groupby("params_total")}
    sizes = np.geomspace(min(known), max(known), SIZES)
    per_token = np.exp(np.interp(np.log(sizes), np.log(list(known)), np.log(list(known.values()))))
    budgets = np.geomspace(points["x"].min(), points["x"].max(), GRID)
    tokens = budgets / per_token[:, None]
    losses = item.fit.predict(N=np.broadcast_to(sizes[:, None], tokens.shape), D=tokens)
    return budgets, losses.min(axis=0)


def _in_group(points: pd.DataFrame, group: Mapping[str, object]) -> pd.Series:
    """Mask of the rows that have the levels of a group, an empty cell among them."""
    return pd.concat([points[name].map(plain).map(str) == str(level) for name, level in group.items()], axis=1).all(
        axis=1
    )
