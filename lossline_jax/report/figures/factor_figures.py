"""The figures of "LLMs on the Line" (arXiv 2502.12120) after its Figure 1.

They are matched grids, pools, own validation and pairs of sets. Read `lines_to_draw` first, then one of the `*_plots`
functions, then `_plot`, which they share.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.study import panels as kind
from lossline_jax.fit.study.panels import CELL, runs_of
from lossline_jax.fit.study.results import PanelLine, StudyFits
from lossline_jax.report.content.points import Unit, units_of
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.content.wording import file_stem, listed
from lossline_jax.report.figures.compute_axes import PANEL_SIZE, columns_for
from lossline_jax.report.figures.factor_panels import (
    Limits,
    LinePanel,
    PointsOf,
    as_panel,
    by_level,
    headings,
    limits_of,
    pooled_panel,
)
from lossline_jax.report.figures.palette import COMMON, keyed, level_styles
from lossline_jax.report.figures.plot import KeyEntry, Plot
from lossline_jax.report.figures.style import MarkStyle, factor_name

MAX_LABEL_LENGTHS = (38, 31)  # characters that fit along the x and the y axis of such a panel
MOST_PANELS = 18  # of one figure


@dataclass(frozen=True, eq=False)
class Lines:
    """The fitted lines of all figures of a table, with their units, styles and points."""

    fitted: tuple[PanelLine, ...]
    units: Mapping[str, Unit]  # by key
    styles: Mapping[tuple[str, str], MarkStyle]  # by (factor, level)
    points_of: PointsOf
    runs: pd.DataFrame  # as `runs_of` gives them, indexed by run id; empty where no lines were fitted

    def of(self, figure: str) -> dict[str, list[PanelLine]]:
        """Return the lines of a figure by unit.

        Args:
            figure: the figure's name in `fit.study.panels`.
        """
        lines_of_unit: dict[str, list[PanelLine]] = {}
        for line in self.fitted:
            if line.figure == figure:
                lines_of_unit.setdefault(line.unit, []).append(line)
        return lines_of_unit


def lines_to_draw(fits: StudyFits, long: pd.DataFrame, described: Mapping[str, Run]) -> Lines:
    """Return the fitted lines of all figures with the points that they were fitted to.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        described: the runs by id, as `describe_runs` gives them.
    """
    base = next((line.group for line in fits.lines if line.label == fits.base_label), {})
    units = {unit.key: unit for unit in units_of(fits)}
    styles = level_styles(long, base, described) if fits.panel_lines else {}
    runs = runs_of(long).set_index("run_id") if fits.panel_lines else pd.DataFrame()
    return Lines(fits.panel_lines, units, styles, PointsOf(long, units), runs)


def matched_plots(lines: Lines, factor: str) -> list[Plot]:
    """Return the figures that compare the levels of one factor with all else equal, one figure for each unit.

    A panel shows one combination of the other factors of `CELL`.

    Args:
        lines: the lines of all figures.
        factor: the factor, one of `CELL`.
    """
    other_factors = listed([factor_name(name) for name in CELL if name != factor])
    return [
        _plot(
            lines,
            fitted,
            name="_".join(part for part in ("matched", file_stem(factor), file_stem(unit)) if part),
            title=f"{factor_name(factor).capitalize()}, all else equal",
            description=f"A panel for every {other_factors} with several levels of {factor_name(factor)}. Only runs "
            "are shown whose like, equal in everything else but the seed, was trained at another level.",
            shared=next(name for name in CELL if name != factor),
        )
        for unit, fitted in lines.of(f"{kind.MATCHED} {factor}").items()
    ]


def pool_plots(lines: Lines, factor: str) -> list[Plot]:
    """Return the figure with one line for all levels of a factor.

    A panel shows one combination of data, tokenizer and architecture.

    Args:
        lines: the lines of all figures.
        factor: the factor, one of `POOLED`.
    """
    levels = dict(zip(lines.runs.index, lines.runs[factor], strict=True)) if len(lines.runs) else {}
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
    """Return the figure of own validation loss against other validation sets, or against tasks.

    A panel shows one combination of data, tokenizer and architecture.

    Args:
        lines: the lines of all figures.
        figure: `OWN_VALIDATION` or `OWN_TASK`.
    """
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
    """Return the figure of one validation set against another, or of one task against another.

    A panel shows one set on the vertical axis, with a line for each pretraining data.

    Args:
        lines: the lines of all figures.
        figure: `TRAIN_TO_TRAIN` or `TEST_TO_TEST`.
    """
    set_kind = "validation set" if figure == kind.TRAIN_TO_TRAIN else "task"
    return [
        _plot(
            lines,
            fitted,
            name=figure.replace("-", "_"),
            title=figure.capitalize(),
            description=f"Loss on each other {set_kind} against that on {fitted[0].x}, a line for each pretraining "
            "data. All runs are equal in all but data, seed, and what every data was trained with.",
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
    """Return one figure in one unit. Panels with an equal level of the factor `shared` have equal limits.

    Args:
        lines: the lines of all figures.
        fitted: the lines of this figure.
        name: stem of the file names.
        title: the title of the figure.
        description: the first sentences of the caption.
        shared: a factor. None: every panel has limits of its own.
        labels: the axis labels, with `{x}` and `{y}` for the evaluation sets.
        panel_of: the function that makes a panel of its lines. None: one line for each level.
    """
    by_panel: dict[tuple, list[PanelLine]] = {}
    for line in fitted:
        by_panel.setdefault(tuple(line.panel.values()), []).append(line)
    make = panel_of or (lambda of_panel: by_level(of_panel, lines.styles, lines.points_of))
    panels = [make(of_panel) for of_panel in by_panel.values()][:MOST_PANELS]
    order = list(lines.styles)
    panels.sort(key=lambda panel: [order.index(level) for level in panel.values.items()])
    unit = lines.units[fitted[0].unit]
    left_out = len(by_panel) - len(panels)
    return Plot(
        name=name,
        title=title,
        caption=" ".join(
            [description, _curves_sentence(fitted), f"{left_out} panels are left out." if left_out else ""]
        ).strip(),
        panels=tuple(
            as_panel(
                panel,
                heading,
                unit=unit,
                labels=_labels(panel, unit, labels),
                limits=_limits(panel, panels, shared),
            )
            for panel, heading in zip(panels, headings(panels), strict=True)
        ),
        key=tuple(_key(lines, panels)),
        columns=_columns(panels, shared),
        width=PANEL_SIZE[0],
        height=PANEL_SIZE[1],
    )


def _curves_sentence(fitted: Sequence[PanelLine]) -> str:
    bands = [line.band for line in fitted if line.band is not None]
    if not bands:
        return "No line could be fitted."
    return f"Curves are fitted lines, each with its {bands[0].level:.0%} band ({bands[0].method})."


def _labels(panel: LinePanel, unit: Unit, labels: tuple[str, str]) -> tuple[str, str]:
    """Return the labels of the x and the y axis, shortened to the length of the axis."""
    (x, y), (x_length, y_length) = (label.format(x=panel.x, y=panel.y) for label in labels), MAX_LABEL_LENGTHS
    return unit.short_axis(x, x_length), unit.short_axis(y, y_length)


def _columns(panels: Sequence[LinePanel], shared: str | None) -> int:
    """Return the number of panels in a row. Two or three panels that share limits stand in one row."""
    if shared and 2 <= (longest := Counter(panel.values[shared] for panel in panels).most_common(1)[0][1]) <= 3:
        return longest
    return columns_for(len(panels))


def _limits(panel: LinePanel, panels: Sequence[LinePanel], shared: str | None) -> tuple[Limits, Limits]:
    alike = [other for other in panels if shared and other.values[shared] == panel.values[shared]] or [panel]
    return limits_of(alike, "x"), limits_of(alike, "y")


def _key(lines: Lines, panels: Sequence[LinePanel]) -> list[KeyEntry]:
    """Return an entry for each level, and one for the common curve where there is one."""
    factor = panels[0].lines[0][0].factor
    levels = list(dict.fromkeys(cloud.level for panel in panels for cloud in panel.clouds))
    prefix = "set" if factor == kind.EVAL_SET else factor_name(factor)
    entries = [KeyEntry(lines.styles[factor, level], prefix, level) for level in keyed(levels, lines.styles, factor)]
    common = any(style is COMMON for panel in panels for _, style in panel.lines)
    return entries + ([KeyEntry(COMMON, "base", "one line for all")] if common else [])
