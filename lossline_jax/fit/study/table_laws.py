"""Fit one declared law to every group of a table. Read `fit_laws` first."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax import errors
from lossline_jax.config import serialise
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.direction import refuse_accuracy_unit
from lossline_jax.fit.given_parameters import require_fixed, require_shared
from lossline_jax.fit.group_intervals import RUNS, RowGroups, groups_of_rows, with_group_intervals
from lossline_jax.fit.law import OBJECTIVES, Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import INTERVAL_LEVEL, FitResult
from lossline_jax.fit.shared_fit import fit_law_sharing
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.study.agreement import with_disagreement
from lossline_jax.fit.study.law_groups import (
    LawGroup,
    LawRequest,
    columns_of_inputs,
    read_law_groups,
    require_groups_to_share,
)
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    loss_column,
    run_column,
)
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.rows import as_pandas, require_column
from lossline_jax.fit.tables.wide import wide_table

NUM_RESAMPLES = 500  # resamples of each bootstrap, by convention


@dataclass(frozen=True)
class LawFit:
    """The law of one output in one group of rows."""

    label: str
    output: str
    fit: FitResult


@dataclass(frozen=True)
class LawFits:
    """The law in all groups of a table, and one line for each group without a curve."""

    law: str
    formula: str
    inputs: dict[str, str]  # input of the law -> column
    runs: str | None  # column that names the run of a row; None: every row counts as a run
    fits: tuple[LawFit, ...]
    failures: tuple[str, ...]
    fixed: dict[str, float] = field(default_factory=dict)  # parameters held at given values
    shared: tuple[str, ...] = ()  # parameters with one value in all groups
    num_groups: int | None = None  # groups of the table, with those that cannot be fitted. None: not known

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return serialise.to_json(self)


def fit_laws(  # noqa: PLR0913 - four inputs; all the rest are options by keyword, as in the calls of the notebooks
    frame: pd.DataFrame,
    law: Law | str,
    inputs: Mapping[str, str],
    outputs: Sequence[str],
    *,
    by: Sequence[str] = (),
    cluster: str | None = None,
    budget: str | None = None,
    objective: str | None = None,
    unit: str | None = None,
    level: float | None = INTERVAL_LEVEL,
    fixed: Mapping[str, float] | None = None,
    shared: Sequence[str] = (),
    merge_copies: bool = False,
) -> LawFits:
    """Fit `law` to each output in each group. A group that cannot be fitted is reported and stops nothing.

    Args:
        frame: a wide table, or a long table that lossline wrote.
        law: a law, or the name of one in `laws.LAWS`.
        inputs: column of each input of the law. An input that is missing here is read from the column of its own name.
        outputs: columns, or evaluation sets of a long table.
        by: columns whose values divide the rows into groups. Empty: the whole table is one group.
        cluster: column of the run of each row. None: `run_id`, if the table has it. Where a run has several rows, or a
            column is named, intervals come from a bootstrap that draws whole runs. Profile intervals would treat rows
            as independent.
        budget: column of the compute budget of each row. None: rows of equal N D, if the law has both inputs and the
            design shows budgets (`budgets.budgets_of`). Intervals allow for an error that the rows of a budget share,
            and for noise that changes with the budget.
        objective: name of one of `law.OBJECTIVES`. None: the law's own.
        unit: loss column of a long table. None: nats_per_token. It must be None where outputs are columns.
        level: level of the intervals. None: no intervals.
        fixed: parameters held at given values in all groups, such as {"E": 1.6}. None: all parameters are fitted.
        shared: parameters with one value in all groups of `by`, such as ("alpha",). Each output has a joint fit of all
            groups, which minimises the sum of their objectives.
        merge_copies: True: count a run of one group that has two names once.

    Raises:
        LosslineError: an unknown law, input, objective or column, one run has two names, or no group has a curve.
    """
    law = find_law(law) if isinstance(law, str) else law
    _require_known_names(law, inputs, outputs, objective)
    fixed = dict(fixed or {})
    require_fixed(law, fixed)
    require_shared(law, shared, fixed)
    if shared and not by:
        raise ArgumentError("{shared}: a parameter is shared across the groups of {by}; name these columns with {by}")
    frame = as_pandas(frame)
    if law.falls and unit is not None and {"eval_set", unit} <= set(frame.columns):
        refuse_accuracy_unit(unit)
    unit = loss_column(frame, outputs, unit)
    wide = wide_table(frame, list(outputs), unit, by=by, run=cluster, arguments=dict.fromkeys(outputs, "outputs"))
    columns, runs = columns_of_inputs(wide, law, inputs), run_column(wide, cluster)
    for name in columns.values():
        require_column(wide, name, "inputs")
    for name in (*by, *([runs] if runs else [])):
        require_column(wide, name)
    if budget is not None:
        require_column(wide, budget, "budget")
        if missing := int(np.sum(pd.isna(wide[budget].to_numpy()))):
            raise ArgumentError(
                "{budget}: column {column} has no value in {missing} of {rows} rows; fill it, or leave these rows out",
                column=budget,
                missing=missing,
                rows=len(wide),
            )
    input_columns = tuple(columns.values())
    wide, merged = one_run_each(wide, runs, tuple(outputs), by, merge=merge_copies, sizes=input_columns)
    request = LawRequest(law, OBJECTIVES[objective] if objective else law.objective, columns, runs, budget, fixed)
    groups, left_out = read_law_groups(request, wide, outputs, by)
    if budget is not None and any(cluster or _has_checkpoints(group.points) for group in groups):
        raise ArgumentError(
            "{budget}: intervals by budget need one row for each run; leave {cluster} out and keep the last row of "
            "each run, or leave {budget} out"
        )
    num_groups = len(list(row_groups(wide, by)))
    fits: list[LawFit] = []
    for output in outputs if shared else (None,):
        together = [group for group in groups if output in (None, group.output)]
        if shared and together:
            require_groups_to_share([group.label for group in together], num_groups, output, left_out)
            results = _fit_together(request, together, shared, by_run=cluster is not None, level=level)
            sharing = [group.label for group, fit in zip(together, results, strict=True) if fit.has_curve]
            reasons = [f"{group.label}, {fit.note}" for group, fit in zip(together, results, strict=True)]
            require_groups_to_share(sharing, num_groups, output, [*left_out, *reasons])
        else:
            results = _fit_alone(request, together, by_run=cluster is not None, level=level)
        points = [group.points for group in together]
        results = with_disagreement(results, law, points, objective=request.objective, shared=shared, fixed=fixed)
        for group, fit in zip(together, results, strict=True):
            fits.append(LawFit(group.label, group.output, _with_notes(fit, law, group)))
    without_curve = [
        f"{item.label}, {item.output}: {item.fit.status}: {item.fit.note}" for item in fits if not item.fit.has_curve
    ]
    failures = (*merged, *left_out, *without_curve)
    if not any(item.fit.has_curve for item in fits):
        raise LosslineError(failures[0])
    return LawFits(law.name, law.formula, columns, runs, tuple(fits), failures, fixed, tuple(shared), num_groups)


def _fit_alone(
    request: LawRequest, groups: Sequence[LawGroup], *, by_run: bool, level: float | None
) -> list[FitResult]:
    """Fit each group by itself, with intervals for the groups of rows that its design shows."""
    law, fits = request.law, []
    results = fit_law_many(law, [group.points for group in groups], objective=request.objective, level=level)
    for group, fit in zip(groups, results, strict=True):
        if level is not None and fit.has_curve and (by_run or has_checkpoints(fit)):
            fits.append(_resampled(fit, law, group.points, level))
        else:
            rows = groups_of_rows(group.points.inputs, group.budget)
            fits.append(with_group_intervals(fit, group.points.inputs, group.points.y, rows, law=law))
    return fits


def _fit_together(
    request: LawRequest, groups: Sequence[LawGroup], shared: Sequence[str], *, by_run: bool, level: float | None
) -> list[FitResult]:
    """Fit all groups with one value of each shared parameter. Rows of a run or of a budget may share an error."""
    rows = []
    for group in groups:
        if by_run or _has_checkpoints(group.points):
            rows.append(RowGroups(np.asarray(group.points.clusters), RUNS, named=True))
        else:
            rows.append(groups_of_rows(group.points.inputs, group.budget))
    points = [group.points for group in groups]
    return fit_law_sharing(request.law, points, shared, objective=request.objective, level=level, groups=rows)


def _has_checkpoints(points: DataSet) -> bool:
    """Tell whether the runs of the rows are known and some run has several rows."""
    return points.clusters is not None and len(set(points.clusters)) < len(points.clusters)


def _require_known_names(law: Law, inputs: Mapping[str, str], outputs: Sequence[str], objective: str | None) -> None:
    """Raise ArgumentError where an output is missing, or an objective or an input is unknown."""
    if not outputs:
        raise ArgumentError("{outputs}: name at least one column to fit the law to")
    if objective is not None and objective not in OBJECTIVES:
        hint = errors.suggestion(objective, OBJECTIVES)
        raise ArgumentError(
            "{objective}: {word!r} is not one of {known}{hint}", word=objective, known=", ".join(OBJECTIVES), hint=hint
        )
    if unknown := [name for name in inputs if name not in law.inputs]:
        known = ", ".join(law.inputs)
        raise ArgumentError(
            "{inputs}: {law} has no input {name!r}; its inputs are {known}", law=law.name, name=unknown[0], known=known
        )


def _with_notes(fit: FitResult, law: Law, group: LawGroup) -> FitResult:
    """Add notes on repeated rows, on dropped rows and on inputs that do not vary."""
    if group.num_repeated:
        fit = fit.with_note(f"{group.num_repeated} rows {COUNT_EACH_TIME}")
    if fit.num_dropped:
        not_positive = f", or {' or '.join(law.normalise)} not positive" if law.normalise else ""
        fit = fit.with_note(f"{fit.num_dropped} rows dropped: a value is missing{not_positive}")
    constant = _constant_inputs(law, group.points)
    return fit.with_note(constant) if constant else fit


def _resampled(fit: FitResult, law: Law, points: DataSet, level: float) -> FitResult:
    """Replace the intervals by those of a bootstrap of runs. A parameter with an open interval is not identified."""
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
    """Return a note on the inputs that take only one value. Empty: all vary."""
    data = {name: np.asarray(points.inputs[name], float) for name in law.inputs}
    names = [name for name, values in data.items() if np.unique(values[np.isfinite(values)]).size == 1]
    return f"{', '.join(names)} takes one value: its terms cannot be told from a constant" if names else ""
