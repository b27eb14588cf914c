"""Read the points of a law from the groups of a table. Read `read_law_groups` first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.direction import ADVICE, wrong_way
from lossline_jax.fit.law import Law, Objective
from lossline_jax.fit.tables.columns import group_label, names_of_runs, numeric_losses
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.other_unit import require_one_unit
from lossline_jax.fit.tables.rows import WHERE
from lossline_jax.losses.cells import LARGEST, SMALLEST, as_numbers, beyond_range

# Outputs of laws that are losses: positive numbers. A logarithmic objective asks the same of the output of any law.
OUTPUTS_THAT_ARE_LOSSES = ("L", "L_u")


@dataclass(frozen=True, eq=False)
class LawRequest:
    """A law to fit, and the columns of its inputs."""

    law: Law
    objective: Objective
    columns: dict[str, str]  # input of the law -> column
    runs: str | None  # column that names the run of a row; None: every row counts as a run
    budget: str | None  # column of the budget of a row; None: the design shows the budgets
    fixed: Mapping[str, float]  # parameters held at given values


@dataclass(frozen=True, eq=False)
class LawGroup:
    """The points of one output in one group of rows."""

    label: str
    output: str
    points: DataSet
    num_repeated: int  # rows that occur more than once
    budget: np.ndarray | None  # (n,) the budget of each row; None: the design shows the budgets


def columns_of_inputs(wide: pd.DataFrame, law: Law, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each input of the law, by the name of the input."""
    if unknown := [name for name in law.inputs if name not in inputs and name not in wide.columns]:
        raise ArgumentError(
            "say which column is {name} ({meaning}): {inputs} {name}=COLUMN",
            name=unknown[0],
            meaning=law.inputs[unknown[0]],
        )
    return {name: inputs.get(name, name) for name in law.inputs}


def read_law_groups(
    request: LawRequest, wide: pd.DataFrame, outputs: Sequence[str], by: Sequence[str]
) -> tuple[list[LawGroup], list[str]]:
    """Return the groups that can be fitted, and a note for each that cannot."""
    law, columns, runs = request.law, request.columns, request.runs
    are_losses = law.output in OUTPUTS_THAT_ARE_LOSSES or request.objective.logarithmic
    conventions = {name: f"{law.inputs[name]}: column {column}" for name, column in columns.items()}
    groups: list[LawGroup] = []
    notes: list[str] = []
    for values, rows in row_groups(wide, by):
        label = group_label(values) or "all"
        for output in outputs:
            try:
                data = {name: _numbers(rows, column) for name, column in columns.items()}
                y = numeric_losses(rows, output, output) if are_losses else _numbers(rows, output)
            except LosslineError as error:
                notes.append(f"{label}, {output}: {error}")
                continue
            require_one_unit(y, list(data.values()), names_of_runs(rows, runs), output)
            if reason := wrong_way(law, data, y, output):
                notes.append(f"{label}, {reason}; {ADVICE}")
                continue
            if reason := _held_above(request, y):
                notes.append(f"{label}, {output}: {reason}")
                continue
            clusters = rows.loc[:, runs].astype(str).to_numpy() if runs else None
            points = DataSet(data, y, request.fixed, clusters=clusters, conventions={**conventions, law.output: output})
            num_repeated = int(rows.duplicated([*columns.values(), output]).sum())
            budget = None if request.budget is None else rows[request.budget].to_numpy()
            groups.append(LawGroup(label, output, points, num_repeated, budget))
    return groups, notes


def require_groups_to_share(labels: Sequence[str], num_groups: int, output: str | None, reasons: Sequence[str]) -> None:
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


def _held_above(request: LawRequest, y: np.ndarray) -> str:
    """Return why an irreducible value that is held leaves no room for the law. Empty: it does not."""
    law, largest = request.law, float(np.nanmax(y))
    for p in law.parameters:
        if p.below == law.output and request.fixed.get(p.name, -np.inf) >= largest:
            return f"{p.name} is held at {request.fixed[p.name]:g}, not below the largest value, {largest:.4g}"
    return ""


def _numbers(rows: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column as float64, NaN where missing. Raise LosslineError for another value that is not a number."""
    numbers, faulty = as_numbers(rows.loc[:, column])
    bad = faulty | np.isinf(numbers) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        reason = "which is not a number" + (
            f" from {SMALLEST:g} to {LARGEST:g}" if beyond_range(numbers[[first]])[0] else ""
        )
        raise LosslineError(f"{rows[WHERE].iloc[first]}: {column} is {rows[column].iloc[first]}, {reason}")
    return numbers
