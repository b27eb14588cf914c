"""Fit one declared law to every group of a table. Read `fit_laws` first.

law_request (what is asked) -> law_groups (the points) -> law_group_fits (the fits and their intervals)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from lossline_jax.config import serialise
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.direction import refuse_accuracy_unit
from lossline_jax.fit.law import Law
from lossline_jax.fit.laws import find_law
from lossline_jax.fit.option_types import require_options
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.study.law_group_fits import fit_alone, fit_together
from lossline_jax.fit.study.law_groups import read_law_groups, require_one_row_for_each_run
from lossline_jax.fit.study.law_request import (
    LawOptions,
    LawRequest,
    columns_of_inputs,
    measured_columns,
    require_choices,
    with_constants,
)
from lossline_jax.fit.tables.columns import loss_column, run_column
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.rows import as_names, as_pandas, require_different_columns
from lossline_jax.fit.tables.wide import wide_table

DEFAULT_LAW_OPTIONS = LawOptions()


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


def fit_laws(
    frame: pd.DataFrame,
    law: Law | str,
    inputs: Mapping[str, str],
    outputs: Sequence[str],
    *,
    by: Sequence[str] = (),
    cluster: str | None = None,
    unit: str | None = None,
    options: LawOptions = DEFAULT_LAW_OPTIONS,
) -> LawFits:
    """Fit `law` to each output in each group. A group that cannot be fitted is reported and stops nothing.

    Args:
        frame: a wide table, or a long table that lossline wrote.
        law: a law, or the name of one in `laws.LAWS`.
        inputs: column of each input of the law, or "16" for an input that is 16 in every row. An input that is missing
            here is read from the column of its own name.
        outputs: columns, or evaluation sets of a long table.
        by: columns whose values divide the rows into groups. Empty: the whole table is one group.
        cluster: column of the run of each row. None: `run_id`, if the table has it. Where a run has several rows, or a
            column is named, intervals come from a bootstrap that draws whole runs. Profile intervals would treat rows
            as independent.
        unit: loss column of a long table. None: nats_per_token. It must be None where outputs are columns.
        options: given and shared parameters, the objective, the level of the intervals, and the column of budgets.

    Raises:
        LosslineError: an unknown law, input, objective or column, one run has two names, or no group has a curve.
    """
    law = find_law(law) if isinstance(law, str) else law
    outputs, by = as_names(outputs), as_names(by)
    require_options("options", options, LawOptions)
    options = replace(options, shared=as_names(options.shared))
    if not outputs:
        raise ArgumentError("{outputs}: name at least one column to fit the law to")
    require_choices(law, inputs, options, by)
    frame = as_pandas(frame)
    if law.falls and unit is not None and {"eval_set", unit} <= set(frame.columns):
        refuse_accuracy_unit(unit)
    unit = loss_column(frame, outputs, unit)
    wide = wide_table(frame, list(outputs), unit, by=by, run=cluster, arguments=dict.fromkeys(outputs, "outputs"))
    wide = with_constants(wide, law, inputs)
    columns, runs = columns_of_inputs(wide, law, inputs), run_column(wide, cluster)
    inputs_read = {f"input {name}": column for name, column in measured_columns(columns).items()}
    for output in outputs:
        require_different_columns({"{outputs}": output} | inputs_read)
    request = LawRequest(law, columns, by, runs, runs_are_named=cluster is not None, options=options)
    request.require_columns(wide)
    sizes = tuple(columns.values())
    wide, merged = one_run_each(wide, runs, tuple(outputs), by, merge=options.merge_copies, sizes=sizes)
    groups, left_out = read_law_groups(request, wide, outputs)
    require_one_row_for_each_run(request, groups)
    num_groups = len(list(row_groups(wide, by)))
    fits: list[LawFit] = []
    for output in outputs if options.shared else (None,):
        members = [group for group in groups if output in (None, group.output)]
        if options.shared:
            results = fit_together(request, members, left_out, num_groups)
        else:
            results = fit_alone(request, members)
        fits += [LawFit(group.label, group.output, fit) for group, fit in zip(members, results, strict=True)]
    failures = (*merged, *left_out, *_without_curve(fits))
    if not any(item.fit.has_curve for item in fits):
        raise LosslineError(failures[0].removeprefix("all, "))  # the whole table is one group: no name is needed
    fixed, shared = dict(options.fixed), tuple(options.shared)
    return LawFits(law.name, law.formula, columns, runs, tuple(fits), failures, fixed, shared, num_groups)


def _without_curve(fits: Sequence[LawFit]) -> list[str]:
    """Return a note on each group whose fit has no curve."""
    return [
        f"{item.label}, {item.output}: {item.fit.status}: {item.fit.note}" for item in fits if not item.fit.has_curve
    ]
