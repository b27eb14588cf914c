"""Fit one declared law to every group of a table."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax import errors
from lossline_jax.config import serialise
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.direction import ADVICE, refuse_accuracy_unit, wrong_way
from lossline_jax.fit.law import OBJECTIVES, Law, Objective
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.solve import DataSet, fit_law_many
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    group_label,
    loss_column,
    names_of_runs,
    numeric_losses,
    run_column,
)
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.other_unit import require_one_unit
from lossline_jax.fit.tables.rows import WHERE, as_pandas, require_column
from lossline_jax.fit.tables.wide import wide_table
from lossline_jax.losses.cells import LARGEST, SMALLEST, as_numbers, beyond_range

NUM_RESAMPLES = 500
OUTPUTS_THAT_ARE_LOSSES = ("L", "L_u")  # of another law what a logarithmic objective asks of it


@dataclass(frozen=True)
class LawFit:
    """The law of one output in one group of rows."""

    label: str
    output: str
    fit: FitResult


@dataclass(frozen=True)
class LawFits:
    """All groups, and a line each on those that have no curve."""

    law: str
    formula: str
    inputs: dict[str, str]  # input of the law -> column
    runs: str | None  # column that names the run of a row; None: every row counts as a run
    fits: tuple[LawFit, ...]
    failures: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return serialise.to_json(self)


def fit_laws(
    frame: pd.DataFrame,
    law: Law | str,
    inputs: Mapping[str, str],
    outputs: Sequence[str],
    by: Sequence[str] = (),
    *,
    cluster: str | None = None,
    objective: str | None = None,
    unit: str | None = None,
    level: float | None = INTERVAL_LEVEL,
    merge_copies: bool = False,
) -> LawFits:
    """Fit `law` to each output in each group; a group that cannot be fitted is reported, not fatal.

    Args:
        inputs: column of each input of the law; an input left out is the column of its own name.
        outputs: columns, or evaluation sets of a long table.
        cluster: column naming the run of each row; None: `run_id`, where there is one. Where a run has several rows, or
            a column is named, intervals are those of a bootstrap that draws whole runs, as profiles take rows for
            independent.
        objective: name of one of `law.OBJECTIVES`; None: the law's own.
        unit: loss column of a long table; None: nats_per_token. Outputs that are columns take none.
        level: of the intervals; None: none.
        merge_copies: count a run of one group that stands under two names once.

    Raises:
        LosslineError: an unknown law, input, objective or column, two names of one run, or not one group has a curve.
    """
    law = find_law(law) if isinstance(law, str) else law
    _require_known_names(law, inputs, outputs, objective)
    frame = as_pandas(frame)
    if law.falls and "eval_set" in frame.columns and unit in frame.columns:
        refuse_accuracy_unit(unit)
    unit = loss_column(frame, outputs, unit)
    wide = wide_table(frame, list(outputs), unit, by=by, run=cluster)
    columns, runs = _columns_of_inputs(wide, law, inputs), run_column(wide, cluster)
    for name in (*columns.values(), *by, *([runs] if runs else [])):
        require_column(wide, name)
    wide, merged = one_run_each(wide, runs, tuple(outputs), by, merge=merge_copies, sizes=tuple(columns.values()))
    question = _Question(law, OBJECTIVES[objective] if objective else law.objective, columns, runs)
    posed, left_out = _pose(question, wide, outputs, by)
    results = fit_law_many(law, [group.points for group in posed], objective=question.objective, level=level)
    fits = []
    for group, fit in zip(posed, results, strict=True):
        if level is not None and fit.has_curve and (cluster or has_checkpoints(fit)):
            fit = _resampled(fit, law, group.points, level)
        fits.append(LawFit(group.label, group.output, _with_notes(fit, law, group)))
    without_curve = [
        f"{each.label}, {each.output}: {each.fit.status}: {each.fit.note}" for each in fits if not each.fit.has_curve
    ]
    failures = (*merged, *left_out, *without_curve)
    if not any(each.fit.has_curve for each in fits):
        raise LosslineError(failures[0])
    return LawFits(law.name, law.formula, columns, runs, tuple(fits), failures)


@dataclass(frozen=True, eq=False)
class _Question:
    """What is fitted, and where a table keeps its inputs."""

    law: Law
    objective: Objective
    columns: dict[str, str]  # input of the law -> column
    runs: str | None  # column that names the run of a row


@dataclass(frozen=True, eq=False)
class _Group:
    """The points of one output in one group of rows."""

    label: str
    output: str
    points: DataSet
    num_repeated: int


def _require_known_names(law: Law, inputs: Mapping[str, str], outputs: Sequence[str], objective: str | None) -> None:
    if not outputs:
        raise ArgumentError("{outputs}: name at least one column to fit the law to")
    if objective is not None and objective not in OBJECTIVES:
        hint = errors.suggestion(objective, OBJECTIVES)
        raise ArgumentError(
            "{objective}: {word!r} is not one of {known}{hint}", word=objective, known=", ".join(OBJECTIVES), hint=hint
        )
    if foreign := [name for name in inputs if name not in law.inputs]:
        known = ", ".join(law.inputs)
        raise ArgumentError(
            "{inputs}: {law} has no input {name!r}; its inputs are {known}", law=law.name, name=foreign[0], known=known
        )


def _columns_of_inputs(wide: pd.DataFrame, law: Law, inputs: Mapping[str, str]) -> dict[str, str]:
    if unknown := [name for name in law.inputs if name not in inputs and name not in wide.columns]:
        raise ArgumentError(
            "say which column is {name} ({meaning}): {inputs} {name}=COLUMN",
            name=unknown[0],
            meaning=law.inputs[unknown[0]],
        )
    return {name: inputs.get(name, name) for name in law.inputs}


def _pose(
    question: _Question, wide: pd.DataFrame, outputs: Sequence[str], by: Sequence[str]
) -> tuple[list[_Group], list[str]]:
    """The groups that can be fitted, and a note for each that cannot."""
    law, columns, runs = question.law, question.columns, question.runs
    are_losses = law.output in OUTPUTS_THAT_ARE_LOSSES or question.objective.logarithmic
    conventions = {name: f"{law.inputs[name]}: column {column}" for name, column in columns.items()}
    posed, notes = [], []
    for key, rows in wide.groupby(list(by), sort=True, dropna=False) if by else [((), wide)]:
        label = group_label(dict(zip(by, key, strict=True))) or "all"
        for output in outputs:
            try:
                data = {name: _numbers(rows, column) for name, column in columns.items()}
                y = numeric_losses(rows, output, output) if are_losses else _numbers(rows, output)
            except LosslineError as error:
                notes.append(f"{label}, {output}: {error}")
                continue
            require_one_unit(y, list(data.values()), names_of_runs(rows, runs), output)
            if against := wrong_way(law, data, y, output):
                notes.append(f"{label}, {against}; {ADVICE}")
                continue
            clusters = rows[runs].astype(str).to_numpy() if runs else None
            points = DataSet(data, y, clusters=clusters, conventions={**conventions, law.output: output})
            num_repeated = int(rows.duplicated([*columns.values(), output]).sum())
            posed.append(_Group(label, output, points, num_repeated))
    return posed, notes


def _with_notes(fit: FitResult, law: Law, group: _Group) -> FitResult:
    """The fit with notes on repeated rows, on dropped rows and on inputs that do not vary."""
    if group.num_repeated:
        fit = fit.with_note(f"{group.num_repeated} rows {COUNT_EACH_TIME}")
    if fit.num_dropped:
        or_not = f", or {' or '.join(law.normalise)} not positive" if law.normalise else ""
        fit = fit.with_note(f"{fit.num_dropped} rows dropped: a value is missing{or_not}")
    constant = _constant_inputs(law, group.points)
    return fit.with_note(constant) if constant else fit


def _resampled(fit: FitResult, law: Law, points: DataSet, level: float) -> FitResult:
    """The same fit with intervals by bootstrap of its runs; a parameter whose interval is open is not identified."""
    resamples = bootstrap(fit, points.inputs, points.y, clusters=points.clusters, num_resamples=NUM_RESAMPLES, law=law)
    fit = with_run_intervals(fit, resamples, level)
    if not fit.intervals:
        return fit.with_note("one run only: no intervals")
    intervals = fit.intervals
    open_ended = [
        p.name
        for p in law.parameters
        if p.scale is None and p.name in intervals
        if intervals[p.name][0] <= p.lower * (1 + 1e-6) or intervals[p.name][1] >= p.upper * 0.999
    ]
    if open_ended:
        fit = dataclasses.replace(fit, status="not identified", not_identified=tuple(open_ended))
    method = f"intervals by bootstrap of {resamples.num_clusters} runs"
    return fit.with_note(f"{method}; {resamples.note}".rstrip("; "))


def _constant_inputs(law: Law, points: DataSet) -> str:
    data = {name: np.asarray(points.inputs[name], float) for name in law.inputs}
    names = [name for name, values in data.items() if np.unique(values[np.isfinite(values)]).size == 1]
    return f"{', '.join(names)} takes one value: its terms cannot be told from a constant" if names else ""


def _numbers(rows: pd.DataFrame, column: str) -> np.ndarray:
    numbers, faulty = as_numbers(rows[column])
    bad = faulty | np.isinf(numbers) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        reason = "which is not a number" + (
            f" from {SMALLEST:g} to {LARGEST:g}" if beyond_range(numbers[[first]])[0] else ""
        )
        raise LosslineError(f"{rows[WHERE].iloc[first]}: {column} is {rows[column].iloc[first]}, {reason}")
    return numbers
