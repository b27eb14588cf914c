"""State what a law is fitted to: the law, the columns of a table, and the choices of the fit."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, suggestion
from lossline_jax.fit.given_parameters import require_fixed, require_shared
from lossline_jax.fit.law import OBJECTIVES, Law, Objective, in_range
from lossline_jax.fit.option_types import require_field_types
from lossline_jax.fit.result import INTERVAL_LEVEL
from lossline_jax.fit.tables.rows import require_column, require_different_columns
from lossline_jax.losses.cells import beyond_range


@dataclass(frozen=True)
class LawOptions:
    """The choices of a fit of a law to a table.

    Args:
        fixed: parameters held at given values in all groups, such as {"E": 1.6}.
        shared: parameters with one value in all groups of `by`, such as ("alpha",). Each output has a joint fit of all
            groups, which minimises the sum of their objectives.
        objective: name of one of `law.OBJECTIVES`. None: the law's own.
        level: level of the intervals. None: no intervals.
        budget: column of the compute budget of each row. None: rows of equal N D, if the law has both inputs and the
            design shows budgets (`budgets.budgets_of`). Intervals allow for an error that the rows of a budget share,
            and for noise that changes with the budget.
        merge_copies: True: count a run of one group that has two names once.

    Raises:
        ArgumentError: a field has a value of a wrong type.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    shared: Sequence[str] = ()
    objective: str | None = None
    level: float | None = INTERVAL_LEVEL
    budget: str | None = None
    merge_copies: bool = False

    def __post_init__(self) -> None:
        require_field_types(self)


@dataclass(frozen=True, eq=False)
class LawRequest:
    """A law to fit, the columns that it needs, and the choices of the fit."""

    law: Law
    columns: dict[str, str]  # input of the law -> column
    by: Sequence[str]  # columns whose values divide the rows into groups
    runs: str | None  # column that names the run of a row; None: every row counts as a run
    runs_are_named: bool  # the user named the column of the runs
    options: LawOptions

    @property
    def objective(self) -> Objective:
        """The objective that the fit minimises."""
        name = self.options.objective
        return self.law.objective if name is None else OBJECTIVES[name]

    def require_columns(self, wide: pd.DataFrame) -> None:
        """Raise ArgumentError where the table lacks a column, or a row has no budget.

        Args:
            wide: the table, with one row for each checkpoint.
        """
        for name in self.columns.values():
            require_column(wide, name, "inputs")
        for name in (*self.by, *([self.runs] if self.runs else [])):
            require_column(wide, name)
        budget = self.options.budget
        if budget is None:
            return
        require_column(wide, budget, "budget")
        if missing := int(np.sum(pd.isna(wide[budget].to_numpy()))):
            raise ArgumentError(
                "{budget}: column {column} has no value in {missing} of {rows} rows; fill it, or leave these rows out",
                column=budget,
                missing=missing,
                rows=len(wide),
            )


def require_choices(law: Law, inputs: Mapping[str, str], options: LawOptions, by: Sequence[str]) -> None:
    """Raise ArgumentError where an input, the objective or a parameter is unknown or cannot be chosen so.

    Args:
        law: the law.
        inputs: column of each input.
        options: the choices of the fit.
        by: columns whose values divide the rows into groups.
    """
    if (name := options.objective) is not None and name not in OBJECTIVES:
        hint = suggestion(name, OBJECTIVES)
        raise ArgumentError(
            "{objective}: {word!r} is not one of {known}{hint}", word=name, known=", ".join(OBJECTIVES), hint=hint
        )
    if unknown := [name for name in inputs if name not in law.inputs]:
        known = ", ".join(law.inputs)
        raise ArgumentError(
            "{inputs}: {law} has no input {name!r}; its inputs are {known}", law=law.name, name=unknown[0], known=known
        )
    require_fixed(law, options.fixed)
    require_shared(law, options.shared, options.fixed)
    if options.shared and not by:
        raise ArgumentError("{shared}: a parameter is shared across the groups of {by}; name these columns with {by}")


def with_constants(wide: pd.DataFrame, law: Law, inputs: Mapping[str, str]) -> pd.DataFrame:
    """Return the table with a column for each input that is given as a number, such as P_a=16.

    Args:
        wide: the table.
        law: the law.
        inputs: column of each input, or the number that the input has in every row.

    Raises:
        ArgumentError: a number is outside the range of its input, or it is the name of a column too.
    """
    numbers = {name: (word, number) for name, word in inputs.items() if (number := _number(word)) is not None}
    for name, (word, number) in numbers.items():
        if word in wide.columns:
            raise ArgumentError(
                "{inputs}: {name}={word}: a column of the table has this number as its name; rename the column",
                name=name,
                word=word,
            )
        span = law.ranges.get(name, "(0, inf)")
        if not in_range(span, np.asarray(number)) or beyond_range(np.asarray([number]))[0]:
            raise ArgumentError(
                "{inputs}: {name}={word} is outside {span} ({meaning})",
                name=name,
                word=word,
                span=span,
                meaning=law.inputs[name],
            )
    return wide.assign(**dict(numbers.values())) if numbers else wide


def measured_columns(columns: Mapping[str, str]) -> dict[str, str]:
    """Return the columns of inputs without those that are a number, which several inputs may share.

    Args:
        columns: column or number of each input.
    """
    return {name: column for name, column in columns.items() if _number(column) is None}


def _number(word: str) -> float | None:
    """Return the finite number that a word is. None: it is none."""
    try:
        number = float("" if "_" in word else word)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def columns_of_inputs(wide: pd.DataFrame, law: Law, inputs: Mapping[str, str]) -> dict[str, str]:
    """Return the column of each input of the law, by the name of the input.

    Args:
        wide: the table. An input that is missing in `inputs` is read from the column of its own name.
        law: the law.
        inputs: column of each input, or the number that the input has in every row.

    Raises:
        ArgumentError: an input has no column, or two inputs have one column.
    """
    if unknown := [name for name in law.inputs if name not in inputs and name not in wide.columns]:
        raise ArgumentError(
            "say which column is {name} ({meaning}): {inputs} {name}=COLUMN, or a number for all rows",
            name=unknown[0],
            meaning=law.inputs[unknown[0]],
        )
    columns = {name: inputs.get(name, name) for name in law.inputs}
    require_different_columns(measured_columns(columns), "{inputs}: ")
    return columns
