"""All fits of one table: lines, their comparisons with the base, compute laws, and what failed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lossline_jax.config import serialise
from lossline_jax.errors import LosslineError, suggestion
from lossline_jax.fit.compare.comparison import FactorComparison
from lossline_jax.fit.resampling import Band
from lossline_jax.fit.result import FitResult
from lossline_jax.formatting import shown_tree


@dataclass(frozen=True)
class LineFit:
    """The line of one group of runs in one unit."""

    label: str  # "base", "data=code", "series=tokenizer", or "all"
    factor: str  # what sets the group apart from the base; "" for the base itself
    level: str
    group: dict[str, str | int | float]  # values of the columns that define the group
    unit: str
    fit: FitResult
    band: Band | None  # over the range of x fitted; None where there is no curve
    run_ids: tuple[str, ...]  # empty where the table names no runs
    uncertainty_note: str = ""  # what the band does not cover


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

    figure: str  # `panels.MATCHED` and its siblings
    panel: dict[str, str]  # the levels that all runs of the panel have
    factor: str  # what the lines (of a pool: the colours) of the panel differ in
    level: str  # of that factor; "" for one line that serves all levels
    x: str
    y: str
    unit: str
    run_ids: tuple[str, ...]
    fit: FitResult
    band: Band | None  # over the range of x fitted; None where there is no curve


@dataclass(frozen=True)
class IsoFlop:
    """The runs of one budget: loss = loss_min + curvature (ln N - ln params_min)^2."""

    panel: dict[str, str]  # levels of data, tokenizer and architecture
    eval_set: str
    unit: str
    budget: float  # training FLOPs, geometric mean of the runs
    run_ids: tuple[str, ...]
    params: tuple[float, float]  # range of N, total parameters
    coefficients: tuple[float, float, float]  # of the parabola in ln N, the highest power first
    params_min: float | None  # where it is least; None: it opens downwards, or is least outside the range of N
    loss_min: float | None


@dataclass(frozen=True)
class StudyFits:
    """What `lossline-jax fit` writes and `lossline-jax report` reads."""

    x: str
    y: str
    by: tuple[str, ...]
    units: tuple[str, ...]  # keys of table_input.UNITS, or "" where the table has its own
    base_label: str | None  # the label of the line that others are compared with
    lines: tuple[LineFit, ...]
    comparisons: tuple[FactorComparison, ...] = ()
    compute_fits: tuple[ComputeFit, ...] = ()
    panel_lines: tuple[PanelLine, ...] = field(default=(), metadata={"formerly": "figure_lines"})  # of other figures
    isoflops: tuple[IsoFlop, ...] = ()
    failures: tuple[str, ...] = ()  # one line each: what was not fitted or not compared, and why
    conventions: dict[str, str] = field(default_factory=dict)

    @property
    def run_ids(self) -> set[str]:
        """Every run that a line was fitted to."""
        return {run_id for line in self.lines for run_id in line.run_ids}

    def lines_in(self, unit: str) -> tuple[LineFit, ...]:
        return tuple(line for line in self.lines if line.unit == unit)

    def comparisons_in(self, unit: str) -> tuple[FactorComparison, ...]:
        return tuple(comparison for comparison in self.comparisons if comparison.unit == unit)

    def comparison(self, factor: str, unit: str | None = None) -> FactorComparison:
        """Return the comparison of a factor.

        Args:
            factor: name of the factor, such as "data".
            unit: key of the unit. None: the first unit in which the factor is compared.

        Raises:
            LosslineError: the factor is not compared.
        """
        comparisons = [each for each in self.comparisons if each.factor == factor and unit in (None, each.unit)]
        if not comparisons:
            known = [each.factor for each in self.comparisons]
            names = ", ".join(dict.fromkeys(known)) or "none"
            raise LosslineError(f"factor {factor!r} is not compared{suggestion(factor, known)}; compared are: {names}")
        return comparisons[0]

    def as_shown(self) -> "StudyFits":
        """The same with every name as it may be shown (`formatting.shown`); itself where nothing needs that."""
        plain = self.to_json()
        shown_json = shown_tree(plain)
        return self if shown_json == plain else StudyFits.from_json(shown_json)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values without NaN or infinity."""
        return serialise.to_json(self)

    @classmethod
    def from_json(cls, value: Mapping[str, Any], where: str = "fits.json") -> "StudyFits":
        """The inverse of `to_json`.

        Raises:
            LosslineError: a field is missing, unknown or of the wrong type.
        """
        return serialise.from_json(cls, value, where)


@dataclass(frozen=True)
class Comparisons:
    """The answer of some fits alone: which factor moves the line."""

    fits: StudyFits

    def comparison(self, factor: str, unit: str | None = None) -> FactorComparison:
        """Return the comparison of a factor; see `StudyFits.comparison`."""
        return self.fits.comparison(factor, unit)
