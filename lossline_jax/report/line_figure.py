"""The study's Figure 1: one loss against another, a line a level."""

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from lossline_jax.report.drawing import curve, freeze, hover, label_axes, note_outside, scatter, split_by_support
from lossline_jax.report.labels import LineName, place_names
from lossline_jax.report.lines import Line
from lossline_jax.report.plots import Drawn, KeyEntry, Panel, Plot
from lossline_jax.report.points import Unit
from lossline_jax.report.runs import Run
from lossline_jax.report.style import factor_name
from lossline_jax.report.verdicts import Judged
from lossline_jax.report.wording import counted

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


def key_of(runs: Mapping[str, Run], judged: Sequence[Judged]) -> list[KeyEntry]:
    """One entry a level, in the order of the runs, with the gap where one was measured."""
    gaps = {(item.factor, level.level): item.remark(level) for item in judged for level in item.levels}
    entries = {}
    for run in runs.values():
        level = run.factor, run.level
        entries.setdefault(level, KeyEntry(run.style, factor_name(run.factor), run.name, gaps.get(level, "")))
    return list(entries.values())
