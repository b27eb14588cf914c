"""The sections of the page with the figures after Figure 1, in reading order."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from lossline_jax.fit.study import panels as kind
from lossline_jax.fit.study.panel_lines import comparing_unit
from lossline_jax.fit.study.panels import CELL, POOLED
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.report.content.run_names import Run
from lossline_jax.report.figures.compute_figures import compute_plots
from lossline_jax.report.figures.factor_figures import (
    Lines,
    lines_to_draw,
    matched_plots,
    own_plots,
    pair_plots,
    pool_plots,
)
from lossline_jax.report.figures.isoflop_figures import isoflop_plots
from lossline_jax.report.figures.plot import Plot


@dataclass(frozen=True)
class Exhibit:
    """One figure in one or several units. The reader switches between the units; the page opens with the first."""

    plots: tuple[Plot, ...]
    units: tuple[str, ...]  # the label of each plot's unit; empty for a figure without a switch


@dataclass(frozen=True)
class GallerySection:
    """A section of the page with its figures."""

    id: str  # of the HTML element
    title: str
    text: str
    exhibits: tuple[Exhibit, ...]

    @property
    def is_row(self) -> bool:
        """The figures of the section are shown side by side, because each has one panel."""
        return all(len(plot.panels) == 1 for exhibit in self.exhibits for plot in exhibit.plots)


def gallery(fits: StudyFits, long: pd.DataFrame, runs: Mapping[str, Run]) -> list[GallerySection]:
    """Return the sections: matched grids, pools, own validation, pairs of sets, compute.

    A section for which the table has no figure is left out.

    Args:
        fits: the fits of the table.
        long: the losses table as `as_long` gives it.
        runs: the runs by id, as `describe_runs` gives them.
    """
    lines = lines_to_draw(fits, long, runs)
    unit = comparing_unit(long, fits.units)
    sections = [
        GallerySection(
            "matched",
            "One factor at a time",
            "Runs that are equal in everything but one factor and the seed. Where lines of different colours part, the "
            "factor moves the line.",
            tuple(_switched(matched_plots(lines, factor), lines, unit, factor) for factor in CELL),
        ),
        GallerySection(
            "pools",
            "Does one line serve all?",
            "One line is fitted to all levels of a factor together. Runs of one panel share data and architecture.",
            _single(plot for factor in POOLED for plot in pool_plots(lines, factor)),
        ),
        GallerySection(
            "own",
            "From a model’s own validation loss",
            "Every model from the loss on held-out text of the corpus that it was trained on.",
            _single([*own_plots(lines, kind.OWN_VALIDATION), *own_plots(lines, kind.OWN_TASK)]),
        ),
        GallerySection(
            "pairs",
            "Between sets of one kind",
            "One validation set against another, one task against another.",
            _single([*pair_plots(lines, kind.TRAIN_TO_TRAIN), *pair_plots(lines, kind.TEST_TO_TEST)]),
        ),
        GallerySection(
            "compute",
            "Loss and compute",
            "What loss a budget buys, and at which size.",
            _single([*isoflop_plots(fits, long), *compute_plots(fits, long, unit)]),
        ),
    ]
    filled = ((section, tuple(exhibit for exhibit in section.exhibits if exhibit.plots)) for section in sections)
    return [replace(section, exhibits=exhibits) for section, exhibits in filled if exhibits]


def _single(plots: Iterable[Plot]) -> tuple[Exhibit, ...]:
    return tuple(Exhibit((plot,), ()) for plot in plots)


def _switched(plots: Sequence[Plot], lines: Lines, first: str, factor: str) -> Exhibit:
    """Return one figure with its plots in several units, the unit `first` before the other units."""
    units = list(lines.of(f"{kind.MATCHED} {factor}"))
    ordered = sorted(zip(plots, units, strict=True), key=lambda item: item[1] != first)
    return Exhibit(tuple(plot for plot, _ in ordered), tuple(unit_label(unit) for _, unit in ordered))
