"""One row a checkpoint, one column a loss: the form of table that laws and forecasts read."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lossline_jax.config import suggestion
from lossline_jax.errors import LosslineError
from lossline_jax.fit.table_input import LONG_KEYS, WHERE, require_column


def wide_table(frame: pd.DataFrame, losses: Sequence[str], unit: str = "nats_per_token") -> pd.DataFrame:
    """The table with a column for each of `losses`, and `_where` for messages.

    A table that has them as columns is taken as it is. In a long table (`eval_set`, `run_id`, `step`) they are
    evaluation sets, and column `unit` has their values.

    Raises:
        LosslineError: an unknown column or set, rows of a set that are defined differently or in several units, or a
            checkpoint that has a set twice.
    """
    if frame.empty:
        raise LosslineError("the table has no rows")
    if set(losses) <= set(frame.columns) or "eval_set" not in frame.columns:
        for name in losses:
            require_column(frame, name)
        _one_unit(frame, "the table")
        where = [f"row {k + 1}" for k in range(len(frame))]
        return frame.reset_index(drop=True).assign(**{WHERE: where})
    for name in (*LONG_KEYS, unit):
        require_column(frame, name)
    sets = {name: _of_set(frame, name) for name in losses}
    wide = _facts(pd.concat(sets.values()))
    for name, rows in sets.items():
        if repeated := rows.duplicated(list(LONG_KEYS)).sum():
            run, step = rows.loc[rows.duplicated(list(LONG_KEYS)), list(LONG_KEYS)].iloc[0]
            raise LosslineError(f"run {run!r} step {step} has {name!r} more than once ({repeated} such); keep one")
        part = rows[list(LONG_KEYS)].assign(**{name: rows[unit]})
        wide = wide.merge(part, on=list(LONG_KEYS), how="left")
    where = [f"run {run}, step {step}" for run, step in zip(wide["run_id"], wide["step"], strict=True)]
    return wide.reset_index(drop=True).assign(**{WHERE: where})


def _facts(rows: pd.DataFrame) -> pd.DataFrame:
    """One row a checkpoint, with the columns that are the same for all its evaluation sets."""
    checkpoints = rows.groupby(list(LONG_KEYS), sort=False, dropna=False)
    same = checkpoints.nunique(dropna=False).max() <= 1
    return checkpoints[list(same.index[same])].first().reset_index()


def _of_set(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    rows = frame[frame["eval_set"] == name]
    if rows.empty:
        known = sorted(frame["eval_set"].astype(str).unique())
        raise LosslineError(
            f"no evaluation set {name!r} in the table{suggestion(name, known)}; it has {', '.join(known)}"
        )
    _one_unit(rows, name)
    return rows


def _one_unit(rows: pd.DataFrame, name: str) -> None:
    for column in ("unit", "loss_definition"):
        if column in rows.columns and (kinds := rows[column].dropna().unique()).size > 1:
            raise LosslineError(
                f"{name}: rows with {column} {kinds[0]!r} and {kinds[1]!r} do not belong on one curve; keep one of them"
            )


def positive(frame: pd.DataFrame, column: str) -> np.ndarray:
    """A column of sizes or counts as float64, NaN where missing.

    Raises:
        LosslineError: no such column, or naming the row of the first that is not a positive number.
    """
    require_column(frame, column)
    numbers = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
    bad = (np.isnan(numbers) & frame[column].notna().to_numpy()) | (numbers <= 0) | np.isinf(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = frame[WHERE].iloc[first], frame[column].iloc[first]
        raise LosslineError(f"{where}: {column} is {value}; it must be a positive number")
    return numbers
