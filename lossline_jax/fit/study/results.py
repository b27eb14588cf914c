"""Hold all fits of one table: lines, their comparisons with the base, compute laws, and the failures."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lossline_jax.config import serialise
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.resampling import Band, MiddleOfLine
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.speedup.speedups import FactorSpeedup
from lossline_jax.formatting import shown_tree


@dataclass(frozen=True)
class LineFit:
    """The line of one group of runs in one unit."""

    label: str  # "base", "data=code", "series=tokenizer", or "all"
    factor: str  # factors that distinguish the group from the base; "": the base itself
    level: str
    group: dict[str, str | int | float]  # values of the columns that define the group
    unit: str
    fit: FitResult
    band: Band | None  # over the range of x that was fitted; None: there is no curve
    run_ids: tuple[str, ...]  # empty: the table names no runs
    uncertainty_note: str = ""  # the part of the uncertainty that the band does not cover
    middle: MiddleOfLine | None = None  # None: there is no curve, or its range is one point, or an older file


@dataclass(frozen=True)
class ComputeFit:
    """The compute law of one group of runs that differ in size, on one evaluation set in one unit."""

    label: str
    group: dict[str, str | int | float]
    eval_set: str
    unit: str
    fit: FitResult


@dataclass(frozen=True)
class PanelLine:
    """One line of a figure. Its points are the checkpoints of `run_ids` on both evaluation sets."""

    figure: str  # name of the figure, such as `panels.MATCHED` with a factor
    panel: dict[str, str]  # the levels that all runs of the panel have
    factor: str  # factor that distinguishes the lines of the panel (in a pool: the colours)
    level: str  # level of that factor; "": one line serves all levels
    x: str
    y: str
    unit: str
    run_ids: tuple[str, ...]
    fit: FitResult
    band: Band | None  # over the range of x that was fitted; None: there is no curve


@dataclass(frozen=True)
class IsoFlop:
    """The parabola through the runs of one budget: loss = loss_min + curvature (ln N - ln params_min)^2."""

    panel: dict[str, str]  # levels of data, tokenizer and architecture
    eval_set: str
    unit: str
    budget: float  # training FLOPs, geometric mean of the runs
    run_ids: tuple[str, ...]
    params: tuple[float, float]  # range of N, total parameters
    coefficients: tuple[float, float, float]  # of the parabola in ln N, the highest power first
    params_min: float | None  # N of least loss; None: the parabola opens downwards, or its minimum is outside the range
    loss_min: float | None  # loss at `params_min`; None: as for `params_min`


@dataclass(frozen=True)
class StudyFits:
    """All fits of one table: the result that `lossline-jax fit` writes and `lossline-jax report` reads."""

    x: str
    y: str
    by: tuple[str, ...]
    units: tuple[str, ...]  # keys of `fit.tables.columns.UNITS`; "": the table's own unit
    base_label: str | None  # label of the line that all other lines are compared with; None: no lines are compared
    lines: tuple[LineFit, ...]
    comparisons: tuple[FactorComparison, ...] = ()
    compute_fits: tuple[ComputeFit, ...] = ()
    panel_lines: tuple[PanelLine, ...] = field(default=(), metadata={"formerly": "figure_lines"})  # lines of figures
    isoflops: tuple[IsoFlop, ...] = ()
    failures: tuple[str, ...] = ()  # one line for each thing that was not fitted or not compared, with the reason
    conventions: dict[str, str] = field(default_factory=dict)
    speedups: tuple[FactorSpeedup, ...] = ()  # of every factor on x and on y; empty: no compute, or an older file

    def __repr__(self) -> str:
        compared = dict.fromkeys(item.factor for item in self.comparisons)
        factors = f", compared: {', '.join(compared)}" if compared else ""
        return f"<StudyFits of {self.y} against {self.x}: {len(self.lines)} lines{factors}; show() prints it>"

    @property
    def run_ids(self) -> set[str]:
        """Every run that a line was fitted to."""
        return {run_id for line in self.lines for run_id in line.run_ids}

    def lines_in(self, unit: str) -> tuple[LineFit, ...]:
        """Return the lines in one unit."""
        return tuple(line for line in self.lines if line.unit == unit)

    def comparisons_in(self, unit: str) -> tuple[FactorComparison, ...]:
        """Return the comparisons in one unit."""
        return tuple(comparison for comparison in self.comparisons if comparison.unit == unit)

    def comparison(self, factor: str, unit: str | None = None) -> FactorComparison:
        """Return the comparison of a factor.

        Args:
            factor: name of the factor, such as "data".
            unit: key of the unit. None: the first unit in which the factor is compared.

        Raises:
            LosslineError: the factor is not compared.
        """
        comparisons = [item for item in self.comparisons if item.factor == factor and unit in (None, item.unit)]
        if not comparisons:
            known = [item.factor for item in self.comparisons]
            names = ", ".join(dict.fromkeys(known)) or "none"
            raise LosslineError(f"factor {factor!r} is not compared{suggestion(factor, known)}; compared are: {names}")
        return comparisons[0]

    def as_shown(self) -> "StudyFits":
        """Return the fits with every name as it may be shown (`formatting.shown`); the same object if none changes."""
        plain = self.to_json()
        shown_json = shown_tree(plain)
        return self if shown_json == plain else StudyFits.from_json(shown_json)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values without NaN or infinity."""
        return serialise.to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "fits.json") -> "StudyFits":
        """Read what `to_json` wrote.

        Args:
            value: the JSON object.
            where: name of its source, for errors.

        Raises:
            LosslineError: a field is missing, unknown or of the wrong type.
        """
        return serialise.from_json(cls, value, where)


@dataclass(frozen=True)
class Comparisons:
    """The comparisons of some fits without the lines: which factor moves the line."""

    fits: StudyFits

    def comparison(self, factor: str, unit: str | None = None) -> FactorComparison:
        """Return the comparison of a factor; see `StudyFits.comparison`."""
        return self.fits.comparison(factor, unit)
