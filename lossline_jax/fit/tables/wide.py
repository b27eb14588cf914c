"""Build the table that laws and forecasts read: one row for each checkpoint, one column for each loss."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.tables.columns import LONG_KEYS, name_checkpoints, require_one_kind, rows_of_set
from lossline_jax.fit.tables.rows import WHERE, open_rows, require_column
from lossline_jax.losses.cells import LARGEST, SMALLEST, as_numbers, beyond_range


def wide_table(
    frame: pd.DataFrame,
    losses: Sequence[str],
    unit: str = "nats_per_token",
    *,
    by: Sequence[str] = (),
    run: str | None = None,
    arguments: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return the table with a column for each of the losses, and `_where` for messages.

    A table that has the losses as columns is wide already. In a long table (`eval_set`, `run_id`, `step`) the losses
    are evaluation sets, and the column `unit` has their values.

    Args:
        frame: a table of any form.
        losses: names of columns or of evaluation sets.
        unit: the column of a long table that holds the losses.
        by: columns whose values divide the rows. Within each group, losses must have one unit and one definition.
        run: the column that names the run of a row. None: `run_id`, if the table has it.
        arguments: the argument of the caller that gave each loss, for messages. None: messages name no argument.

    Raises:
        LosslineError: `open_rows` refuses the table, a column or set is unknown, the losses of a set differ in unit or
            definition, or a checkpoint has a set twice.
    """
    frame = open_rows(frame, run)
    if set(losses) <= set(frame.columns) or "eval_set" not in frame.columns:
        for name in losses:
            require_column(frame, name, (arguments or {}).get(name))
        for name in by:
            require_column(frame, name, "by")
        require_one_kind(frame, losses, "the table", by)
        return frame
    for name in by:
        require_column(frame, name, "by")
    sets = {name: rows_of_set(frame, name, unit, by) for name in losses}
    wide = _facts(pd.concat(sets.values()))
    for name, rows in sets.items():
        part = rows[list(LONG_KEYS)].assign(**{name: rows[unit]})
        wide = wide.merge(part, on=list(LONG_KEYS), how="left")
    return name_checkpoints(wide.reset_index(drop=True))


def losses_as_rows(frame: pd.DataFrame, x: str, y: str, loss_column: str) -> pd.DataFrame:
    """Return a table that has two losses as columns with a row for each loss, in the form of a long table.

    The name of the loss is in `eval_set`. A table without `step` gets the number of the row.

    Args:
        frame: a table with the columns x and y.
        x: a loss.
        y: another loss.
        loss_column: the column of the result for the values. A column of this name in the table is left out.
    """
    frame = frame.drop(columns=[name for name in ("eval_set", loss_column) if name in frame])
    if "step" not in frame:
        frame = frame.assign(step=range(len(frame)))
    facts = [name for name in frame.columns if name not in (x, y)]
    return frame.melt(facts, [x, y], var_name="eval_set", value_name=loss_column)


def _facts(rows: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each checkpoint, with the columns that are equal for all its evaluation sets."""
    checkpoints = rows.groupby(list(LONG_KEYS), sort=False, dropna=False)
    num_values = checkpoints.nunique(dropna=False).max()
    equal_columns = [name for name, num in num_values.items() if num <= 1]
    return checkpoints[equal_columns].first().reset_index()


def positive(frame: pd.DataFrame, column: str) -> np.ndarray:
    """Return a column of sizes or counts as float64, NaN where missing.

    Args:
        frame: the table with the column `_where`.
        column: the column.

    Raises:
        LosslineError: the table does not have the column, or a value is not a positive number in range. The message
            names the first such row.
    """
    require_column(frame, column)
    numbers, faulty = as_numbers(frame.loc[:, column])
    bad = faulty | (numbers <= 0) | np.isinf(numbers) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = frame[WHERE].iloc[first], frame[column].iloc[first]
        raise LosslineError(
            f"{where}: {column} is {value}; it must be a positive number, from {SMALLEST:g} to {LARGEST:g}"
        )
    return numbers
