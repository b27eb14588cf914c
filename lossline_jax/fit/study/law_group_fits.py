"""Fit a law to the groups of a table, each group alone or all together, with intervals that fit its rows."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.group_intervals import RUNS, RowGroups, groups_of_rows, with_group_intervals
from lossline_jax.fit.law import Law
from lossline_jax.fit.resampling import bootstrap, has_checkpoints, with_run_intervals
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.shared_fit import fit_law_sharing
from lossline_jax.fit.solve import fit_law_many
from lossline_jax.fit.study.agreement import with_disagreement
from lossline_jax.fit.study.law_groups import LawGroup
from lossline_jax.fit.study.law_request import LawRequest
from lossline_jax.fit.tables.columns import COUNT_EACH_TIME

NUM_RESAMPLES = 500  # resamples of each bootstrap, by convention


def fit_alone(request: LawRequest, groups: Sequence[LawGroup]) -> list[FitResult]:
    """Fit each group by itself, with intervals for the groups of rows that its design shows.

    Args:
        request: the law, its columns and the choices of the fit.
        groups: the points of each group.
    """
    law, level, fits = request.law, request.options.level, []
    results = fit_law_many(law, [group.points for group in groups], objective=request.objective, level=level)
    for group, fit in zip(groups, results, strict=True):
        if level is not None and fit.has_curve and (request.runs_are_named or has_checkpoints(fit)):
            fits.append(_resampled(fit, law, group.points, level))
        else:
            rows = groups_of_rows(group.points.inputs, group.budget)
            fits.append(with_group_intervals(fit, group.points.inputs, group.points.y, rows, law=law))
    return _with_notes(fits, request, groups)


def fit_together(
    request: LawRequest, groups: Sequence[LawGroup], left_out: Sequence[str], num_groups: int
) -> list[FitResult]:
    """Fit all groups of one output with one value of each shared parameter.

    Rows of a run or of a budget may share an error.

    Args:
        request: the law, its columns and the choices of the fit.
        groups: the points of each group.
        left_out: notes on the groups that cannot be fitted.
        num_groups: the number of groups of the table.

    Raises:
        ArgumentError: only one group can be fitted, so it has nothing to share.
    """
    if not groups:
        return []
    output = groups[0].output
    _require_groups_to_share([group.label for group in groups], num_groups, output, left_out)
    options, rows = request.options, []
    for group in groups:
        if request.runs_are_named or group.has_checkpoints:
            rows.append(RowGroups(np.asarray(group.points.clusters), RUNS, named=True))
        else:
            rows.append(groups_of_rows(group.points.inputs, group.budget))
    points = [group.points for group in groups]
    fits = fit_law_sharing(
        request.law, points, options.shared, objective=request.objective, level=options.level, groups=rows
    )
    sharing = [group.label for group, fit in zip(groups, fits, strict=True) if fit.has_curve]
    reasons = [f"{group.label}, {fit.note}" for group, fit in zip(groups, fits, strict=True)]
    _require_groups_to_share(sharing, num_groups, output, [*left_out, *reasons])
    return _with_notes(fits, request, groups)


def _require_groups_to_share(
    labels: Sequence[str], num_groups: int, output: str | None, reasons: Sequence[str]
) -> None:
    """Raise ArgumentError where only one group of an output can be fitted, because it has nothing to share.

    Args:
        labels: the groups that can be fitted.
        num_groups: the number of groups of the table.
        output: the output that is fitted.
        reasons: notes on the groups that cannot be fitted.
    """
    if len(labels) != 1:
        return
    if num_groups == 1:
        raise ArgumentError(
            "{shared}: the columns of {by} give one group only, {label}; leave {shared} out, or name columns that "
            "divide the rows",
            label=labels[0],
        )
    others = [text for text in reasons if not text.startswith(f"{labels[0]}, ")]
    raise ArgumentError(
        "{shared}: only {label} of {num_groups} groups can be fitted to {output}, so nothing is shared; {reason}; "
        "correct these rows, or leave {shared} out",
        label=labels[0],
        num_groups=num_groups,
        output=output,
        reason="; ".join(others),
    )


def _with_notes(fits: Sequence[FitResult], request: LawRequest, groups: Sequence[LawGroup]) -> list[FitResult]:
    """Add notes on groups that do not agree with given values, on repeated rows, and on dropped rows."""
    options, points = request.options, [group.points for group in groups]
    agreeing = with_disagreement(
        fits, request.law, points, objective=request.objective, shared=options.shared, fixed=options.fixed
    )
    return [_with_notes_on_rows(fit, request.law, group) for group, fit in zip(groups, agreeing, strict=True)]


def _with_notes_on_rows(fit: FitResult, law: Law, group: LawGroup) -> FitResult:
    """Add notes on runs of another size, on repeated rows, on dropped rows and on inputs that do not vary."""
    for note in group.other_sizes:
        fit = fit.with_note(note)
    if group.num_repeated:
        fit = fit.with_note(f"{group.num_repeated} rows {COUNT_EACH_TIME}")
    if fit.num_dropped:
        not_positive = f", or {' or '.join(law.normalise)} not positive" if law.normalise else ""
        fit = fit.with_note(f"{fit.num_dropped} rows dropped: a value is missing{not_positive}")
    constant = _constant_inputs(law, group.points)
    return fit.with_note(constant) if constant else fit


def _constant_inputs(law: Law, points: DataSet) -> str:
    """Return a note on the inputs that take only one value. Empty: all vary."""
    data = {name: np.asarray(points.inputs[name], float) for name in law.inputs}
    names = [name for name, values in data.items() if np.unique(values[np.isfinite(values)]).size == 1]
    own = "takes one value: its terms" if len(names) == 1 else "take one value each: their terms"
    return f"{', '.join(names)} {own} cannot be told from a constant" if names else ""


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
