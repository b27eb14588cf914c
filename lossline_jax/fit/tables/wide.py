"""One row a checkpoint, one column a loss: the form of table that laws and forecasts read."""

from collections.abc import Sequence

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
) -> pd.DataFrame:
    """The table with a column for each of `losses`, and `_where` for messages.

    A table that has them as columns is taken as it is. In a long table (`eval_set`, `run_id`, `step`) they are
    evaluation sets, and column `unit` has their values.

    Args:
        by: columns whose values divide the rows: losses of one unit and definition are asked for within each.
        run: column that names the run of a row; None: `run_id`, where there is one.

    Raises:
        LosslineError: what `open_rows` refuses, an unknown column or set, rows of a set that are defined differently or
            in several units, or a checkpoint that has a set twice.
    """
    frame = open_rows(frame, run)
    if set(losses) <= set(frame.columns) or "eval_set" not in frame.columns:
        for name in (*losses, *by):
            require_column(frame, name)
        require_one_kind(frame, losses, "the table", by)
        return frame
    for name in by:
        require_column(frame, name)
    sets = {name: rows_of_set(frame, name, unit, by) for name in losses}
    wide = _facts(pd.concat(sets.values()))
    for name, rows in sets.items():
        part = rows[list(LONG_KEYS)].assign(**{name: rows[unit]})
        wide = wide.merge(part, on=list(LONG_KEYS), how="left")
    return name_checkpoints(wide.reset_index(drop=True))


def _facts(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a checkpoint, with the columns that are the same for all its evaluation sets."""
    checkpoints = rows.groupby(list(LONG_KEYS), sort=False, dropna=False)
    same = checkpoints.nunique(dropna=False).max() <= 1
    return checkpoints[list(same.index[same])].first().reset_index()


def positive(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column of sizes or counts as float64, NaN where missing.

    Raises:
        LosslineError: no such column, or naming the row of the first that is not a positive number.
    """
    require_column(frame, column)
    numbers, faulty = as_numbers(frame[column])
    bad = faulty | (numbers <= 0) | np.isinf(numbers) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = frame[WHERE].iloc[first], frame[column].iloc[first]
        raise LosslineError(
            f"{where}: {column} is {value}; it must be a positive number, from {SMALLEST:g} to {LARGEST:g}"
        )
    return numbers
