"""Figure 1 of a study: one loss against another, with a line for each level."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.study.results import LineFit, StudyFits
from lossline_jax.formatting import counted
from lossline_jax.report.content.points import Unit, pair, run_ids_of
from lossline_jax.report.content.run_names import BASE, SEED, SEVERAL, Run
from lossline_jax.report.figures.axes import curve, hover, label_axes, scatter
from lossline_jax.report.figures.emphasis import GREY, OPEN, emphasised
from lossline_jax.report.figures.labels import LineName, place_names
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Marks, Panel, Plot
from lossline_jax.report.figures.style import Style
from lossline_jax.report.figures.thinning import drawn_sentence, most_of_run, to_draw
from lossline_jax.report.tables.verdicts import FactorVerdict

WIDE = (5.2, 3.9)  # width and height of a panel in inches; two panels in a row


@dataclass(frozen=True)
class Curve:
    """A fitted curve with its band. All arrays have shape (n,)."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    meaning: str  # what the band is: its level and method


@dataclass(frozen=True, eq=False)
class Line:
    """One level of a factor in one unit: its points and its fitted curve."""

    factor: str
    name: str
    style: Style
    points: pd.DataFrame  # columns run_id, step, tokens_seen, x, y
    drawn: pd.DataFrame  # the rows of `points` that are drawn
    curve: Curve | None  # None: no curve could be fitted
    named_in_panel: bool  # the name is written beside the line, because other levels of the factor look similar

    @property
    def is_base(self) -> bool:
        """The line is that of the base runs."""
        return self.factor == BASE

    @property
    def is_grey(self) -> bool:
        """The level is not seen to move the line, or is another seed of the base."""
        return self.style in (GREY, OPEN)


def main_lines(
    fits: StudyFits, long: pd.DataFrame, runs: Mapping[str, Run], judged: Sequence[FactorVerdict], *, unit: Unit
) -> list[Line]:
    """Return one line for each level, the base first.

    A level without a single point on both axes is left out. A setting that differs from the base in several factors is
    left out too, where the table has a base.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        runs: the runs by id, as `describe_runs` gives them.
        judged: the factors, as `group_by_factor` gives them. A level that does not move the line is grey.
        unit: the unit of both losses.
    """
    styles = emphasised(runs, judged)
    curves = {(line.factor or BASE, line.level or BASE): _curve(line) for line in fits.lines_in(unit.key)}
    points = pair(long, fits.x, fits.y, unit)
    most = most_of_run(long)
    levels: dict[tuple[str, str], list[Run]] = {}
    for run in runs.values():
        if run.factor == SEVERAL and fits.base_label is not None:
            continue
        levels.setdefault((run.factor, run.level), []).append(run)
    factors = [factor for factor, _ in levels]
    lines = []
    for (factor, level), members in levels.items():
        level_points = points.loc[points["run_id"].isin([run.run_id for run in members])]
        if len(level_points):
            style = styles[factor, level]
            named = factors.count(factor) > 1 and factor not in (BASE, SEED) and style != GREY
            drawn = to_draw(level_points, most)
            lines.append(Line(factor, members[0].name, style, level_points, drawn, curves.get((factor, level)), named))
    return lines


def _curve(line: LineFit) -> Curve | None:
    band = line.band
    if band is None:
        return None
    meaning = f"{band.level:.0%}, {band.method}"
    return Curve(*(np.asarray(values) for values in (band.x, band.estimate, band.lower, band.upper)), meaning=meaning)


def line_plot(
    panels: Sequence[tuple[Unit, Sequence[Line]]], key: Sequence[KeyEntry], *, x: str, y: str, counted_in: str
) -> Plot:
    """Plot the loss on `y` against the loss on `x`, with a panel for each unit and a line for each level.

    Args:
        panels: each unit with its lines, as `main_lines` gives them.
        key: the entries of the key.
        x: the evaluation set of the horizontal axis.
        y: the evaluation set of the vertical axis.
        counted_in: "run", or "line" where the table does not tell runs apart.
    """
    lines = panels[0][1]
    points = pd.concat([line.points for line in lines])
    bands = [line.curve.meaning for line in lines if line.is_base and line.curve is not None]
    caption = (
        f"Each point is a checkpoint: its loss on {y} against its loss on {x}; n = {len(points)} checkpoints "
        f"of {counted(len(run_ids_of(points)), counted_in)}. "
        + drawn_sentence(sum(len(line.drawn) for line in lines), len(points))
        + "Curves are the fitted lines. "
        "Levels without a move are grey. "
        + (f"The band about the base line is its interval ({bands[0]}). " if bands else "")
        + "A run on the base line trades one loss for the other as the base does, however far it got."
    )
    return Plot(
        name="line",
        title=f"The line: {y} against {x}",
        caption=caption,
        panels=tuple(
            Panel(
                unit.label if unit.key else "",
                f"{y} loss against {x} loss in {unit.label}",
                _line_drawer(unit, lines, x, y),
            )
            for unit, lines in panels
        ),
        key=tuple(key),
        columns=2,
        width=WIDE[0],
        height=WIDE[1],
    )


def _line_drawer(unit: Unit, lines: Sequence[Line], x: str, y: str) -> Callable[[Axes], Drawn]:
    framed, outside = near_the_base(lines)

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for line in sorted(framed, key=lambda line: (line.is_base, not line.is_grey)):  # grey below, the base on top
            k = framed.index(line)
            if line.curve is not None:
                drawn |= _draw_curve(axes, f"curve-{k}", line, line.curve)
            titles = hover(line.drawn, unit, x, y)
            size = 3.0 if line.is_grey else 4.6
            by_run = len(line.drawn) < len(line.points)
            drawn |= scatter(axes, f"points-{k}", line.drawn, line.style, titles=titles, size=size, by_run=by_run)
        label_axes(axes, unit.axis(x), unit.axis(y))
        _fix_limits(axes)
        drawn |= _note_outside(axes, outside)
        return drawn | place_names(axes, [_name_of(line) for line in framed if line.named_in_panel])

    return draw


def near_the_base(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """Split lines into those that share a frame with the base line and those that are too far away.

    A line is too far away when no point of it is within one base-line length of the base line's range of x. It would
    flatten the base line. A byte tokenizer in nats/token is such a line, because its unit itself differs. Without a
    base line all lines share the frame.
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


def _fix_limits(axes: Axes) -> None:
    """Fix the limits at the data drawn until now, with a margin."""
    axes.margins(0.05)
    axes.autoscale_view()
    axes.set_xlim(axes.get_xlim())
    axes.set_ylim(axes.get_ylim())


def _note_outside(axes: Axes, outside: Sequence[Line]) -> Drawn:
    """Name the lines outside the frame, in the upper left corner, which the lines leave free."""
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
        drawn[f"outside-{k}"] = Marks(run_ids_of(line.points))
    return drawn


def _name_of(line: Line) -> LineName:
    x, y = line.drawn[["x", "y"]].to_numpy().T
    return LineName(line.name, line.style.colour, x, y, run_ids_of(line.points))


def _draw_curve(axes: Axes, gid: str, line: Line, fitted: Curve) -> Drawn:
    return curve(
        axes,
        gid,
        fitted.x,
        fitted.y,
        style=line.style,
        run_ids=run_ids_of(line.points),
        band=(fitted.low, fitted.high) if line.is_base else None,
        width=1.8 if line.is_base else 0.6 if line.is_grey else 1.0,
    )
