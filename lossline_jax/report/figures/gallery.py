"""The figures of the page after the first, in the order that they are read in."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.study import panels as kind
from lossline_jax.fit.study.panel_lines import comparing_unit
from lossline_jax.fit.study.panels import CELL, POOLED
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.report.content.points import unit_label
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
    """One figure, in one unit or in several that the reader switches between: the first is shown first."""

    plots: tuple[Plot, ...]
    units: tuple[str, ...]  # as they are written, one a plot; empty for a single plot


@dataclass(frozen=True)
class GallerySection:
    """A section of the page."""

    id: str
    title: str
    text: str
    exhibits: tuple[Exhibit, ...]

    @property
    def is_row(self) -> bool:
        """Whether its figures stand side by side: all have one panel."""
        return all(len(plot.panels) == 1 for exhibit in self.exhibits for plot in exhibit.plots)


def gallery(fits: StudyFits, long: pd.DataFrame) -> list[GallerySection]:
    """Matched grids, pools, own validation, pairs of sets, compute; rooms that the table cannot fill are left out."""
    lines = lines_to_draw(fits, long)
    unit = comparing_unit(long, fits.units)
    rooms = [
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
            "Size, context and optimiser: one line fitted to all levels together.",
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
    filled = ((room, tuple(exhibit for exhibit in room.exhibits if exhibit.plots)) for room in rooms)
    return [GallerySection(room.id, room.title, room.text, exhibits) for room, exhibits in filled if exhibits]


def _single(plots: Sequence[Plot]) -> tuple[Exhibit, ...]:
    return tuple(Exhibit((plot,), ()) for plot in plots)


def _switched(plots: Sequence[Plot], lines: Lines, first: str, factor: str) -> Exhibit:
    """Plots of one figure in several units, the one that compares before the others."""
    units = list(lines.of(f"{kind.MATCHED} {factor}"))
    ordered = sorted(zip(plots, units, strict=True), key=lambda item: item[1] != first)
    return Exhibit(tuple(plot for plot, _ in ordered), tuple(unit_label(unit) for _, unit in ordered))
