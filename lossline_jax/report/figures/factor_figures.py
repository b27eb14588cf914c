"""The figures of "LLMs on the Line" (arXiv 2502.12120) after its first: matched grids, pools, own validation, pairs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.study import panels as kind
from lossline_jax.fit.study.panels import CELL, runs_of
from lossline_jax.fit.study.results import PanelLine, StudyFits
from lossline_jax.report.content.points import Unit, units_of
from lossline_jax.report.content.wording import file_stem, listed
from lossline_jax.report.figures.factor_panels import (
    LinePanel,
    PointsOf,
    as_panel,
    by_level,
    headings,
    limits_of,
    pooled_panel,
)
from lossline_jax.report.figures.palette import COMMON, LevelStyle, keyed, level_styles
from lossline_jax.report.figures.plot import KeyEntry, Plot
from lossline_jax.report.figures.style import factor_name

PANEL_SIZE = (3.4, 2.85)  # inches, three in a row
LABEL_ROOM = (38, 31)  # characters along the axes of such a panel
MOST_PANELS = 18  # of one figure


@dataclass(frozen=True, eq=False)
class Lines:
    """The figure lines of a table with what draws them."""

    fitted: tuple[PanelLine, ...]
    units: Mapping[str, Unit]
    styles: Mapping[tuple[str, str], LevelStyle]
    points_of: PointsOf
    runs: pd.DataFrame  # as `runs_of` gives them, by run id

    def of(self, figure: str) -> dict[str, list[PanelLine]]:
        """The lines of a figure by unit."""
        lines_of_unit: dict[str, list[PanelLine]] = {}
        for line in self.fitted:
            if line.figure == figure:
                lines_of_unit.setdefault(line.unit, []).append(line)
        return lines_of_unit


def lines_to_draw(fits: StudyFits, long: pd.DataFrame) -> Lines:
    """The lines of the fits with the points of the table that they were fitted to."""
    base = next((line.group for line in fits.lines if line.label == fits.base_label), {})
    units = {unit.key: unit for unit in units_of(fits)}
    styles = level_styles(long, base) if fits.panel_lines else {}
    runs = runs_of(long).set_index("run_id") if fits.panel_lines else pd.DataFrame()
    return Lines(fits.panel_lines, units, styles, PointsOf(long, units), runs)


def matched_plots(lines: Lines, factor: str) -> list[Plot]:
    """Levels of one factor with all else equal, a panel a combination of the others; the unit that compares last."""
    others = listed([factor_name(name) for name in CELL if name != factor])
    return [
        _plot(
            lines,
            fitted,
            name=f"matched_{file_stem(factor)}_{file_stem(unit)}",
            title=f"{factor_name(factor).capitalize()}, all else equal",
            description=f"A panel for every {others} with several levels of {factor_name(factor)}. Only runs are "
            "shown whose like, equal in everything else but the seed, was trained at another level.",
            shared=next(name for name in CELL if name != factor),
        )
        for unit, fitted in lines.of(f"{kind.MATCHED} {factor}").items()
    ]


def pool_plots(lines: Lines, factor: str) -> list[Plot]:
    """One line for all levels of a factor, a panel for every data, tokenizer and architecture."""
    levels = lines.runs[factor] if len(lines.runs) else None
    return [
        _plot(
            lines,
            fitted,
            name=f"pool_{file_stem(factor)}",
            title=f"{factor_name(factor).capitalize()}: one line for all?",
            description=f"Runs that differ in {factor_name(factor)} alone, and one line fitted to all of them. Where "
            "the factor does not move the line, every colour lies along it.",
            shared=None,
            panel_of=lambda of_panel: pooled_panel(of_panel[0], lines.styles, lines.points_of, levels),
        )
        for fitted in lines.of(f"{kind.POOL} {factor}").values()
    ]


def own_plots(lines: Lines, figure: str) -> list[Plot]:
    """Own validation loss against other validation sets, or against tasks, a panel for each cell of the design."""
    to_tasks = figure == kind.OWN_TASK
    return [
        _plot(
            lines,
            fitted,
            name="own_validation_to_tasks" if to_tasks else "own_validation_to_validation",
            title=f"From own validation loss to {'tasks' if to_tasks else 'other validation sets'}",
            description="A panel for every data, tokenizer and architecture with all of its runs, whatever their size, "
            "context, optimiser and seed. Horizontal: loss on held-out text of the corpus that they were trained on.",
            shared=None,
            labels=("own validation: {x}", "each task" if to_tasks else "each other set"),
        )
        for fitted in lines.of(figure).values()
    ]


def pair_plots(lines: Lines, figure: str) -> list[Plot]:
    """Train-to-train or test-to-test: a panel for each other set, a line for each data."""
    what = "validation set" if figure == kind.TRAIN_TO_TRAIN else "task"
    return [
        _plot(
            lines,
            fitted,
            name=figure.replace("-", "_"),
            title=figure.capitalize(),
            description=f"Loss on each other {what} against that on {fitted[0].x}, a line for each pretraining data. "
            "All runs are equal in all but data, seed, and what every data was trained with.",
            shared=None,
        )
        for fitted in lines.of(figure).values()
    ]


def _plot(
    lines: Lines,
    fitted: Sequence[PanelLine],
    *,
    name: str,
    title: str,
    description: str,
    shared: str | None,
    labels: tuple[str, str] = ("{x}", "{y}"),
    panel_of: Callable[[list[PanelLine]], LinePanel] | None = None,
) -> Plot:
    """The panels of one figure in one unit; those with equal `shared` have equal limits."""
    by_panel: dict[tuple, list[PanelLine]] = {}
    for line in fitted:
        by_panel.setdefault(tuple(line.panel.values()), []).append(line)
    make = panel_of or (lambda of_panel: by_level(of_panel, lines.styles, lines.points_of))
    panels = [make(of_panel) for of_panel in by_panel.values()][:MOST_PANELS]
    panels.sort(key=lambda panel: [_place(lines, name, level) for name, level in panel.values.items()])
    unit = lines.units[fitted[0].unit]
    left_out = len(by_panel) - len(panels)
    return Plot(
        name=name,
        title=title,
        caption=" ".join(
            [description, _said_of_curves(fitted), f"{left_out} panels are left out." if left_out else ""]
        ).strip(),
        panels=tuple(
            as_panel(panel, heading, unit, _labels(panel, unit, labels), _limits(panel, panels, shared))
            for panel, heading in zip(panels, headings(panels), strict=True)
        ),
        key=tuple(_key(lines, panels)),
        columns=_columns(panels, shared),
        width=PANEL_SIZE[0],
        height=PANEL_SIZE[1],
    )


def _place(lines: Lines, factor: str, level: str) -> int:
    return list(lines.styles).index((factor, level))


def _said_of_curves(fitted: Sequence[PanelLine]) -> str:
    bands = [line.band for line in fitted if line.band is not None]
    if not bands:
        return "No line could be fitted."
    return f"Curves are fitted lines, each with its {bands[0].level:.0%} band ({bands[0].method})."


def _labels(panel: LinePanel, unit: Unit, labels: tuple[str, str]) -> tuple[str, str]:
    """Of both axes, as much as there is room for."""
    names = [label.format(x=panel.x, y=panel.y) for label in labels]
    return tuple(unit.short_axis(name, room) for name, room in zip(names, LABEL_ROOM, strict=True))


def _columns(panels: Sequence[LinePanel], shared: str | None) -> int:
    """As many as panels share limits, so that those stand in a row; else those that fill the rows best."""
    if shared and 2 <= (longest := Counter(panel.values[shared] for panel in panels).most_common(1)[0][1]) <= 3:
        return longest
    return 2 if len(panels) in (1, 2, 4) else 3


def _limits(panel: LinePanel, panels: Sequence[LinePanel], shared: str | None):
    alike = [other for other in panels if shared and other.values[shared] == panel.values[shared]] or [panel]
    return limits_of(alike, "x"), limits_of(alike, "y")


def _key(lines: Lines, panels: Sequence[LinePanel]) -> list[KeyEntry]:
    """A level an entry with its number of runs, and the common curve where there is one."""
    factor = panels[0].lines[0][0].factor
    runs: dict[str, set[str]] = {}
    for panel in panels:
        for cloud in panel.clouds:
            runs.setdefault(cloud.level, set()).update(cloud.points["run_id"])
    prefix = "set" if factor == kind.EVAL_SET else factor_name(factor)
    entries = [
        KeyEntry(lines.styles[factor, level], prefix, level) for level in keyed(list(runs), lines.styles, factor)
    ]
    common = any(style is COMMON for panel in panels for _, style in panel.lines)
    return entries + ([KeyEntry(COMMON, "base", "one line for all")] if common else [])
