"""All figures of a table: what the page shows, and what `lossline-jax figure` writes one by one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.errors import ArgumentError, suggestion
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.points import units_of
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.figures.emphasis import key_of, unit_of_texts
from lossline_jax.report.figures.forest_figure import forest_plot
from lossline_jax.report.figures.gallery import GallerySection, gallery
from lossline_jax.report.figures.main_figure import line_plot, main_lines
from lossline_jax.report.figures.plot import Plot
from lossline_jax.report.figures.residual_figure import residual_plot
from lossline_jax.report.figures.speedup_figure import speedup_plots
from lossline_jax.report.figures.training_figure import training_plot
from lossline_jax.report.figures.trend_figure import trend_plot
from lossline_jax.report.tables.verdicts import FactorVerdict


@dataclass(frozen=True)
class Figures:
    """The figures of a table. A figure that the table has no numbers for is None."""

    residual: Plot | None
    forest: Plot | None
    trends: Plot | None
    line: Plot
    sections: tuple[GallerySection, ...]
    training: Plot | None
    speedups: tuple[Plot, ...] = ()

    @property
    def by_name(self) -> dict[str, Plot]:
        """The figures by the stem of their file names, in the order of the page."""
        gallery_plots = [plot for section in self.sections for exhibit in section.exhibits for plot in exhibit.plots]
        plots = (self.residual, self.forest, self.trends, *self.speedups, self.line, *gallery_plots, self.training)
        return {plot.name: plot for plot in plots if plot is not None}

    def named(self, names: Sequence[str]) -> list[Plot]:
        """Return the figures of these names; all figures for no name.

        Args:
            names: stems of file names, such as `residual`.

        Raises:
            ArgumentError: the table has no figure of a name.
        """
        known = self.by_name
        for name in names:
            if name not in known:
                raise ArgumentError(
                    "{only}: there is no figure {name!r}{hint}; the figures are {known}",
                    name=name,
                    hint=suggestion(name, known),
                    known=", ".join(known),
                )
        return [known[name] for name in names or known]


def all_figures(
    fits: StudyFits,
    long: pd.DataFrame,
    runs: Mapping[str, Run],
    judged: Sequence[FactorVerdict],
    *,
    steps: Mapping[str, Sequence[Mapping]],
) -> Figures:
    """Return all figures of a table.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        runs: the runs by id, as `describe_runs` gives them.
        judged: the factors, as `group_by_factor` gives them.
        steps: rows of steps.jsonl by run id; runs without rows may be missing.
    """
    units = units_of(fits)
    return Figures(
        residual=residual_plot(fits, long, runs, judged, unit=unit_of_texts(judged, units)),
        forest=forest_plot(judged, runs, units),
        trends=trend_plot(judged, runs, units),
        line=_main_plot(long, fits, runs, judged),
        sections=tuple(gallery(fits, long, runs)),
        speedups=tuple(speedup_plots(fits.speedups, long, runs)),
        training=training_plot(long, steps, runs, x=fits.x, unit=units[-1], key=key_of(runs, ())),
    )


def counted_in(fits: StudyFits) -> str:
    """Return "run", or "line" where the table does not tell runs apart."""
    return "run" if any(line.run_ids for line in fits.lines) else "line"


def _main_plot(long: pd.DataFrame, fits: StudyFits, runs: Mapping[str, Run], judged: Sequence[FactorVerdict]) -> Plot:
    """Return Figure 1. Its key has only levels that have a line."""
    lines = [(unit, main_lines(fits, long, runs, judged, unit=unit)) for unit in units_of(fits)]
    levels = {(line.factor, line.name) for _, lines_in_unit in lines for line in lines_in_unit}
    on_a_line = {run_id: run for run_id, run in runs.items() if (run.factor, run.name) in levels}
    return line_plot(lines, key_of(on_a_line, judged), x=fits.x, y=fits.y, counted_in=counted_in(fits))
