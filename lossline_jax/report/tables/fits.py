"""The fits as tables, and the conventions of the fits as sentences."""

from collections.abc import Mapping, Sequence

from lossline_jax.fit.laws import find_law
from lossline_jax.fit.resampling import MiddleOfLine
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import INTERVALS
from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import unit_label
from lossline_jax.formatting import counted
from lossline_jax.report.content.wording import (
    NONE,
    capitalised,
    listed,
    number,
    plain_interval,
    significant,
)
from lossline_jax.report.figures.style import factor_name
from lossline_jax.report.tables.table import Cell, Column, Table

CURVE_ONLY = "curve only"  # the status of a fit whose curve may be used and whose parameters may not


def lines_table(fits: StudyFits, names: Mapping[tuple[str, str], str]) -> Table:
    """Return the table of fitted lines: a row for each line and unit.

    Args:
        fits: the fits of the table.
        names: the level as readers see it, by (factor, level).
    """
    rows, middles = [], []
    for line in fits.lines:
        level_name = names.get((line.factor, line.level), line.level)
        name = f"{factor_name(line.factor)}: {level_name}" if line.factor else line.label
        rows.append((Cell(name, unit_label(line.unit), title=line.label), line.fit, ""))
        middles.append(_middle_cells(line.middle))
    columns = [Column(name, "at mid-range", numeric=True) for name in ("height", "slope")]
    return _table("Fitted lines", "line", rows, more=(columns, middles))


def _middle_cells(middle: MiddleOfLine | None) -> list[Cell]:
    """Return the height and the slope of a line in the middle of its range, each with its interval."""
    if middle is None:
        return [Cell(NONE), Cell(NONE)]
    title = f"at x = {middle.x:.4g}"
    return [
        Cell(significant(middle.height), plain_interval(*middle.height_interval), title=title),
        Cell(significant(middle.slope), plain_interval(*middle.slope_interval), title=title),
    ]


def compute_table(fits: StudyFits) -> Table:
    """Return the table of compute laws: a row for each law that has a curve."""
    rows = [
        (Cell(item.eval_set, unit_label(item.unit)), item.fit, f"runs of {item.label}{_kind_of_intervals(item.fit)}")
        for item in fits.compute_fits
        if item.fit.has_curve
    ]
    return _table("Compute laws", "loss on", rows)


def _kind_of_intervals(fit: FitResult) -> str:
    """Return the kind of the intervals of a law, or nothing for a fit of an older version."""
    kind = fit.conventions.get(INTERVALS)
    return f". Intervals: {kind}" if kind else ""


def laws_without_curve(fits: StudyFits) -> list[str]:
    """Return one line for each group of runs and unit whose compute laws could not be fitted, with the reason."""
    sets_of: dict[tuple[str, str, str], list[str]] = {}
    for item in fits.compute_fits:
        if not item.fit.has_curve:
            reason = item.fit.note or item.fit.status
            sets_of.setdefault((item.label, unit_label(item.unit), reason), []).append(item.eval_set)
    return [
        f"no compute law for runs of {label} on {listed(sets)} in {unit}: {reason}"
        for (label, unit, reason), sets in sets_of.items()
    ]


def _table(
    title: str,
    head: str,
    fits: Sequence[tuple[Cell, FitResult, str]],
    *,
    more: tuple[Sequence[Column], Sequence[Sequence[Cell]]] | None = None,
) -> Table:
    """Return a table with every parameter and its interval, and with the quality of each fit.

    `fits` has the first cell, the fit and the note of each row, and `head` stands above the first cells. `more` has
    columns that stand after the status, with their cells in each row.
    """
    more_columns, more_cells = more or ([], [[] for _ in fits])
    names = list(dict.fromkeys(name for _, fit, _ in fits for name in find_law(fit.law).names))
    columns = [
        Column(head),
        Column("status", "starts that agree"),
        *more_columns,
        *(Column(name, "interval", numeric=True) for name in names),
        Column("R²", "RMSE", numeric=True),
        Column("points", "runs", numeric=True),
    ]
    rows = [
        [
            first,
            _status_cell(fit),
            *more_cells[k],
            *(_parameter_cell(fit, name) for name in names),
            Cell(number(fit.r_squared, 4), number(fit.rmse, 4)),
            Cell(_points(fit), "" if fit.num_runs is None else counted(fit.num_runs, "run")),
        ]
        for k, (first, fit, _) in enumerate(fits)
    ]
    notes = [". ".join(capitalised(part) for part in (about, fit.note) if part) for _, fit, about in fits]
    return Table(title, columns, rows, notes)


def _status_cell(fit: FitResult) -> Cell:
    usable = fit.status in ("converged", "not identified")
    text = CURVE_ONLY if fit.status == "not identified" else fit.status
    return Cell(text, _agreeing_starts(fit), tone="whole" if usable else "whole strong")


def _agreeing_starts(fit: FitResult) -> str:
    return "" if fit.share_of_starts is None else f"{fit.share_of_starts:.0%} of {fit.num_starts}"


def _points(fit: FitResult) -> str:
    return f"{fit.num_points}, {fit.num_dropped} dropped" if fit.num_dropped else str(fit.num_points)


def _parameter_cell(fit: FitResult, name: str) -> Cell:
    if name not in fit.parameters:
        return Cell(NONE)
    value = significant(fit.parameters[name])
    if name in fit.fixed:
        return Cell(value, "given")
    if name in fit.bounds_hit:
        return Cell(value, "on its bound", tone="quiet")
    ends = plain_interval(*fit.intervals[name]) if name in fit.intervals else ""
    if name in fit.not_identified:
        return Cell(value, title=f"not identified: {ends}" if ends else "not identified", tone="quiet")
    return Cell(value, ends)


def conventions(fits: StudyFits) -> list[str]:
    """Return the facts that a reader needs to repeat the fits, one text for each convention."""
    sentences = []
    results = [line.fit for line in fits.lines] + [item.fit for item in fits.compute_fits]
    for law in dict.fromkeys(fit.law for fit in results):
        first = next(fit for fit in results if fit.law == law)
        definition = find_law(law)
        has_compute = {"N", "D"} <= set(definition.inputs)
        by_budget = ", which allows for errors that a compute budget shares" if has_compute else ""
        delta = f" (delta {first.delta:g})" if first.delta is not None else ""
        sentences.append(
            f"{capitalised(law)}: {definition.formula}, by {first.objective_name}{delta} summed over points, "
            f"in float64, from many starts. Parameter intervals at {first.interval_level:.0%}: bootstrap of whole runs "
            f"where a run has several points, none of one run alone, else profile likelihood{by_budget}. "
            f"Source: {definition.source}."
        )
    sentences += [
        f"{name[0].upper()}{name[1:]}: {text}." for name, text in fits.conventions.items() if name not in "xy"
    ]
    sentences += [
        "“Curve only” means that the points determine the line on their range, but not every parameter. A grey "
        "parameter may not be read as a number; a short range does not fix E_x and E_y. Curves are compared, "
        "parameters never.",
        "A factor moves the line when no gap is rejected at 5% (runs are the units, Holm-corrected over factors) and a "
        "level’s gap is larger than the noise, or differs between settings by more than the margin of three times the "
        "noise. Else it crosses the line when the gaps over the lowest and over the highest third of the common range "
        "lie surely beyond the margin, on either side of zero, or those at both ends of the course do. It does not "
        "move the line when the 90% interval of every gap lies within the margin, and neither an end nor the middle "
        "of the course surely lies beyond. Otherwise the study cannot tell. Runs that lie far from the line of their "
        "own setting are set aside, and so is a checkpoint at which all runs of a setting lie off their line. "
        "Where it is in doubt which run is the bad one, the verdict must hold without each.",
        "The course of a gap goes from the highest common x to the lowest one, the far end. A parabola through the gap "
        "of each run gives its two ends. The gap fades or grows when its size surely changes, crosses when its ends "
        "surely have opposite signs, and stays when the 90% interval of its change lies within the margin, unless it "
        "surely differs by more in the middle. No word means that the course is unclear.",
    ]
    return sentences
