"""Read the points of a law from the groups of a table. Read `read_law_groups` first."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.direction import ADVICE, wrong_way
from lossline_jax.fit.study.law_request import LawRequest
from lossline_jax.fit.tables.columns import group_label, names_of_runs, numeric_losses
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.other_unit import require_one_unit, runs_of_another_size
from lossline_jax.fit.tables.rows import WHERE
from lossline_jax.losses.cells import LARGEST, SMALLEST, as_numbers, beyond_range


@dataclass(frozen=True, eq=False)
class LawGroup:
    """The points of one output in one group of rows."""

    label: str
    output: str
    points: DataSet
    num_repeated: int  # rows that occur more than once
    budget: np.ndarray | None  # (n,) the budget of each row; None: the design shows the budgets
    other_sizes: tuple[str, ...] = ()  # a note for each input in which some runs are far from all others

    @property
    def has_checkpoints(self) -> bool:
        """True if the runs of the rows are known, and some run has several rows."""
        runs = self.points.clusters
        return runs is not None and len(set(runs)) < len(runs)


def read_law_groups(
    request: LawRequest, wide: pd.DataFrame, outputs: Sequence[str]
) -> tuple[list[LawGroup], list[str]]:
    """Return the groups that can be fitted, and a note for each that cannot.

    Args:
        request: the law, its columns and the choices of the fit.
        wide: the table, with one row for each checkpoint.
        outputs: columns to fit the law to.
    """
    law, columns, runs = request.law, request.columns, request.runs
    # A logarithmic objective asks of any output what is asked of a loss: a positive number.
    are_losses = law.predicts_losses or request.objective.logarithmic
    conventions = {name: f"{law.inputs[name]}: column {column}" for name, column in columns.items()}
    fixed, budget_column = request.options.fixed, request.options.budget
    groups: list[LawGroup] = []
    notes: list[str] = []
    for values, rows in row_groups(wide, request.by):
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
            points = DataSet(data, y, fixed, clusters=clusters, conventions={**conventions, law.output: output})
            num_repeated = int(rows.duplicated([*columns.values(), output]).sum())
            budget = None if budget_column is None else rows[budget_column].to_numpy()
            names = names_of_runs(rows, runs)
            sizes = [runs_of_another_size(data[name], names, columns[name]) for name in law.normalise]
            other_sizes = tuple(note for note in sizes if note)
            groups.append(LawGroup(label, output, points, num_repeated, budget, other_sizes))
    return groups, notes


def require_one_row_for_each_run(request: LawRequest, groups: Sequence[LawGroup]) -> None:
    """Raise ArgumentError where budgets are named and runs have several rows.

    Args:
        request: the law, its columns and the choices of the fit.
        groups: the points of each group.
    """
    if request.options.budget is not None and any(request.runs_are_named or group.has_checkpoints for group in groups):
        raise ArgumentError(
            "{budget}: intervals by budget need one row for each run; leave {cluster} out and keep the last row of "
            "each run, or leave {budget} out"
        )


def _held_above(request: LawRequest, y: np.ndarray) -> str:
    """Return why an irreducible value that is held contradicts a loss below it. Empty: it does not."""
    law, fixed, smallest = request.law, request.options.fixed, float(np.nanmin(y))
    for p in law.parameters:
        if p.below == law.output and fixed.get(p.name, -np.inf) >= smallest:
            held = f"{p.name} is held at {fixed[p.name]:g}"
            return f"{held}, not below the smallest value, {smallest:.4g}; give a smaller one"
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
