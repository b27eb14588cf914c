"""The study's Figure 1: one loss against another, a line for each level."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.points import Unit, pair
from lossline_jax.report.content.run_names import BASE, SEVERAL, Run
from lossline_jax.report.content.wording import counted
from lossline_jax.report.figures.axes import curve, freeze, hover, label_axes, note_outside, scatter, split_by_support
from lossline_jax.report.figures.labels import LineName, place_names
from lossline_jax.report.figures.plot import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.figures.style import Style, factor_name
from lossline_jax.report.tables.verdicts import FactorVerdict


@dataclass(frozen=True)
class Curve:
    """A fitted curve with its band, all (n,)."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray
    meaning: str  # of the band


@dataclass(frozen=True, eq=False)
class Line:
    """One level of a factor in one unit."""

    factor: str
    name: str
    style: Style
    points: pd.DataFrame  # run_id, step, tokens_seen, x, y
    curve: Curve | None
    named_in_panel: bool  # its name is written beside it: its style alone does not tell it from its siblings

    @property
    def is_base(self) -> bool:
        return self.factor == BASE


def main_lines(fits: StudyFits, long: pd.DataFrame, runs: Mapping[str, Run], unit: Unit) -> list[Line]:
    """A line a level, the base first. Levels without a single point on both axes are left out, and so are settings
    that differ from the base in several factors."""
    curves = {(line.factor or BASE, line.level or BASE): _curve(line) for line in fits.lines_in(unit.key)}
    points = pair(long, fits.x, fits.y, unit)
    levels: dict[tuple[str, str], list[Run]] = {}
    for run in runs.values():
        if run.factor == SEVERAL and fits.base_label is not None:
            continue
        levels.setdefault((run.factor, run.level), []).append(run)
    siblings = [factor for factor, _ in levels]
    lines = []
    for (factor, level), members in levels.items():
        level_points = points[points["run_id"].isin([run.run_id for run in members])]
        if len(level_points):
            named = siblings.count(factor) > 1 and factor not in (BASE, "seed")
            lines.append(
                Line(factor, members[0].name, members[0].style, level_points, curves.get((factor, level)), named)
            )
    return lines


def _curve(line) -> Curve | None:
    band = line.band
    if band is None:
        return None
    meaning = f"{band.level:.0%}, {band.method}"
    return Curve(*(np.asarray(v) for v in (band.x, band.estimate, band.lower, band.upper)), meaning)


WIDE = (5.2, 3.9)  # inches of a panel, two in a row


def line_plot(
    panels: Sequence[tuple[Unit, Sequence[Line]]], key: Sequence[KeyEntry], x: str, y: str, counted_in: str
) -> Plot:
    """Loss on `y` against loss on `x`: a panel a unit, a line a level.

    Args:
        counted_in: "run", or "line" where the table does not tell runs apart.
    """
    lines = panels[0][1]
    points = pd.concat([line.points for line in lines])
    bands = [line.curve.meaning for line in lines if line.is_base and line.curve is not None]
    caption = (
        f"Each point is a checkpoint: its loss on {y} against its loss on {x}; n = {len(points)} checkpoints "
        f"of {counted(points['run_id'].nunique(), counted_in)}. Curves are the fitted lines. "
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


def _line_drawer(unit: Unit, lines: Sequence[Line], x: str, y: str):
    framed, outside = split_by_support(lines)

    def draw(axes: Axes) -> Drawn:
        drawn = {}
        for line in sorted(framed, key=lambda line: line.is_base):  # the base line lies on top
            k = framed.index(line)
            if line.curve is not None:
                drawn |= _draw_curve(axes, f"curve-{k}", line)
            drawn |= scatter(axes, f"points-{k}", line.points, line.style, hover(line.points, unit, x, y))
        label_axes(axes, unit.axis(x), unit.axis(y))
        freeze(axes)
        drawn |= note_outside(axes, outside)
        return drawn | place_names(axes, [_name_of(line) for line in framed if line.named_in_panel])

    return draw


def _name_of(line: Line) -> LineName:
    x, y = line.points[["x", "y"]].to_numpy().T
    return LineName(line.name, line.style.colour, x, y, tuple(line.points["run_id"].unique()))


def _draw_curve(axes: Axes, gid: str, line: Line) -> Drawn:
    fitted, run_ids = line.curve, line.points["run_id"].unique()
    band = (fitted.low, fitted.high) if line.is_base else None
    return curve(axes, gid, fitted.x, fitted.y, line.style, run_ids, band=band, width=1.8 if line.is_base else 1.0)


def key_of(runs: Mapping[str, Run], judged: Sequence[FactorVerdict]) -> list[KeyEntry]:
    """One entry a level, in the order of the runs, with the gap where one was measured."""
    gaps = {(item.factor, level.level): item.remark(level) for item in judged for level in item.levels}
    entries = {}
    for run in runs.values():
        level = run.factor, run.level
        entries.setdefault(level, KeyEntry(run.style, factor_name(run.factor), run.name, gaps.get(level, "")))
    return list(entries.values())
