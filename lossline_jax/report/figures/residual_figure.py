"""The residual figure: the distance of every checkpoint from the base line, as training goes on.

A level that moves the line has its colour and its name, and leaves the band of the noise. All other levels are grey.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.result import FitResult
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.points import Unit, run_ids_of
from lossline_jax.report.content.run_names import BASE, Run
from lossline_jax.report.content.wording import number, signed_text
from lossline_jax.report.figures.axes import label_axes, position, scatter
from lossline_jax.report.figures.emphasis import GREY, OPEN, OPEN_TEXT
from lossline_jax.report.figures.labels import LineName, place_names
from lossline_jax.report.figures.main_figure import Line, main_lines, near_the_base
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Marks, Panel, Plot
from lossline_jax.report.figures.style import INK, MUTED, Style, factor_name
from lossline_jax.report.figures.thinning import drawn_sentence, most_of_run, to_draw
from lossline_jax.report.tables.verdicts import FactorVerdict

SIZE = (5.6, 3.5)  # width and height in inches


@dataclass(frozen=True, eq=False)
class Residuals:
    """The checkpoints of one level: columns run_id, step, tokens_seen, x and y, where y is the residual."""

    line: Line
    points: pd.DataFrame
    drawn: pd.DataFrame  # the rows of `points` that are drawn

    @property
    def moves(self) -> bool:
        """The level moves or crosses the line."""
        return not self.line.is_base and not self.line.is_grey

    @property
    def name(self) -> str:
        """`data code`, or `base`."""
        return self.line.name if self.line.is_base else f"{factor_name(self.line.factor)} {self.line.name}"

    @property
    def style(self) -> Style:
        """The style of the level; grey for the base."""
        return GREY if self.line.is_base else self.line.style

    @property
    def is_open(self) -> bool:
        """The study cannot tell whether the level moves the line."""
        return self.line.style == OPEN


def residual_plot(
    fits: StudyFits, long: pd.DataFrame, runs: Mapping[str, Run], judged: Sequence[FactorVerdict], *, unit: Unit
) -> Plot | None:
    """Plot y minus the base line at the same x, for every checkpoint, against x.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        runs: the runs by id, as `describe_runs` gives them.
        judged: the factors with their comparisons. A level that moves or crosses the line is coloured.
        unit: the unit of both losses.

    Returns:
        The plot. None: the table has no base line in this unit, or nothing was compared with it.
    """
    base_lines = [line for line in fits.lines_in(unit.key) if line.label == fits.base_label and line.band is not None]
    if not base_lines or not judged:
        return None
    base_fit = base_lines[0].fit
    lines, _ = near_the_base(main_lines(fits, long, runs, judged, unit=unit))
    most = most_of_run(long)
    residuals = [
        Residuals(line, points, to_draw(points, most)) for line in lines if len(points := _above(base_fit, line.points))
    ]
    if not any(not item.line.is_base for item in residuals):
        return None
    noise = max(
        (n for item in judged if unit.key in item.by_unit and (n := item.by_unit[unit.key].noise)), default=None
    )
    noise_text = f"The grey band is the largest noise of a factor, ±{number(noise)} {unit.label}. " if noise else ""
    return Plot(
        name="residual",
        title="Distance from the base line",
        caption=(
            f"Each point is a checkpoint, and each path is a run: its {fits.y} loss minus the loss of the base line at "
            f"the same {fits.x} loss, over the range of the base runs. Training goes to the right. "
            f"{_drawn_text(residuals)}{noise_text}"
            "Levels for which the study does not find a move are grey, and dashed where it cannot tell."
        ),
        panels=(
            Panel(
                unit.axis(fits.y).removesuffix(f" ({unit.label})") + " above the base line",
                f"{fits.y} loss above the base line against {fits.x} loss in {unit.label}",
                _drawer(residuals, unit, fits.x, noise=noise),
            ),
        ),
        key=_key(residuals),
        columns=1,
        width=SIZE[0],
        height=SIZE[1],
    )


def _drawn_text(residuals: Sequence[Residuals]) -> str:
    """Say how many of the checkpoints are drawn. Empty: all are."""
    num_drawn, num_points = (
        sum(map(len, tables)) for tables in zip(*[(r.drawn, r.points) for r in residuals], strict=True)
    )
    sentence = drawn_sentence(num_drawn, num_points)
    return f"There are {num_points:,} checkpoints. {sentence}" if sentence else ""


def _above(base_fit: FitResult, points: pd.DataFrame) -> pd.DataFrame:
    """Return the points within the fitted range of the base line, with y minus the base line."""
    x = points["x"].to_numpy()
    inside = points.loc[base_fit.defined(x) & ~base_fit.extrapolates(x)]
    return inside.assign(y=inside["y"] - base_fit.predict(inside["x"].to_numpy())) if len(inside) else inside


def _drawer(residuals: Sequence[Residuals], unit: Unit, x: str, *, noise: float | None) -> Callable[[Axes], Drawn]:

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        if noise:
            axes.axhspan(-noise, noise, color=MUTED, alpha=0.18, linewidth=0, gid="noise")
        axes.axhline(0.0, color=INK, linewidth=1.0)
        for k, item in enumerate(sorted(residuals, key=lambda item: item.moves)):  # the moving levels are on top
            drawn |= _draw_level(axes, k, item)
        label_axes(axes, unit.axis(x) + ", training goes right", unit.label)
        axes.margins(0.05)
        axes.autoscale_view()
        low, high = sorted(axes.get_xlim())
        axes.set_xlim(high, low)
        axes.set_ylim(axes.get_ylim())
        named = [item for item in residuals if item.moves or item.is_open]
        return drawn | place_names(axes, [_name_of(item) for item in named])

    return draw


def _draw_level(axes: Axes, k: int, item: Residuals) -> Drawn:
    drawn = {}
    for number_of_run, (run_id, path) in enumerate(item.points.groupby("run_id", sort=False)):
        gid = f"path-{k}-{number_of_run}"
        width = 1.2 if item.moves or item.is_open else 0.6
        dashes = item.style.dashes if item.is_open else "solid"
        axes.plot(path["x"], path["y"], color=item.style.colour, linewidth=width, linestyle=dashes, gid=gid)
        drawn[gid] = Marks((str(run_id),))
    titles = [
        f"{run_id}\n{item.name}\n{position(step, tokens)}{signed_text(y)} from the base line at {x:.4f}"
        for run_id, step, tokens, x, y in item.drawn.itertuples(index=False)
    ]
    size, by_run = 4.4 if item.moves else 2.8, len(item.drawn) < len(item.points)
    return drawn | scatter(axes, f"points-{k}", item.drawn, item.style, titles=titles, size=size, by_run=by_run)


def _name_of(item: Residuals) -> LineName:
    x, y = item.drawn[["x", "y"]].to_numpy().T
    return LineName(item.name, item.style.colour, x, y, run_ids_of(item.points))


def _key(residuals: Sequence[Residuals]) -> tuple[KeyEntry, ...]:
    """Return the entries of the levels that move the line, and one entry for all others."""
    moving = [KeyEntry(item.style, factor_name(item.line.factor), item.line.name) for item in residuals if item.moves]
    is_open = any(item.is_open for item in residuals)
    undecided = [KeyEntry(OPEN, BASE, OPEN_TEXT)] if is_open else []
    return (*moving, *undecided, KeyEntry(GREY, BASE, "base, and levels without a move"))
