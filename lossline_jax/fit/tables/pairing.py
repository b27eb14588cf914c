"""Pair the runs of two groups by equal size and tokens, equal compute, or one checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.tables.rows import as_names, plain_frame, require_column
from lossline_jax.losses.cells import as_numbers

TOLERANCE = 0.01  # largest relative difference of sizes, token counts or budgets that count as equal; a choice


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of two frames that belong together: row k of `first` and row k of `second` are a pair."""

    first: pd.DataFrame
    second: pd.DataFrame
    num_alone: int  # rows of both frames without a partner


def pair_runs(first: pd.DataFrame, second: pd.DataFrame, columns: Sequence[str], tolerance: float = TOLERANCE) -> Pairs:
    """Pair rows that are equal in every column: numbers within `tolerance` (relative), words exactly.

    The nearest rows are paired first. Each row is in at most one pair.

    Args:
        first: one table.
        second: the other table.
        columns: the columns to pair by.
        tolerance: the largest relative difference of two numbers that count as equal.

    Raises:
        LosslineError: a table does not have a column, no columns are given, or two rows of a table are equal in all of
            them.
    """
    columns = as_names(columns)
    if not columns:
        raise ArgumentError("{on}: name the columns to pair runs by, such as parameters and tokens")
    first, second = plain_frame(first), plain_frame(second)
    for frame in (first, second):
        for name in columns:
            require_column(frame, name)
        if (repeated := frame.duplicated(list(columns))).any():
            row = ", ".join(f"{name}={frame.loc[repeated, name].iloc[0]}" for name in columns)
            raise LosslineError(f"several rows have {row}: name more columns to pair by, or keep one of them")
    distance = np.zeros((len(first), len(second)))
    for name in columns:
        distance = np.maximum(distance, _distance(first.loc[:, name], second.loc[:, name]))
    rows_first, rows_second = np.nonzero(distance <= tolerance)
    taken_first, taken_second, pairs = set(), set(), []
    for k in np.argsort(distance[rows_first, rows_second], kind="stable"):
        if rows_first[k] not in taken_first and rows_second[k] not in taken_second:
            taken_first.add(rows_first[k])
            taken_second.add(rows_second[k])
            pairs.append((rows_first[k], rows_second[k]))
    pairs.sort()
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    num_alone = len(first) + len(second) - 2 * len(pairs)
    return Pairs(first.iloc[left].reset_index(drop=True), second.iloc[right].reset_index(drop=True), num_alone)


def best_by_compute(frame: pd.DataFrame, compute: str, loss: str, tolerance: float = TOLERANCE) -> pd.DataFrame:
    """Return the row with the lowest loss at each budget: the compute-optimal frontier.

    Args:
        frame: the table.
        compute: the column of the budgets.
        loss: the column of the losses.
        tolerance: neighbouring budgets that differ by less (relative) count as one budget.

    Raises:
        LosslineError: the table does not have a column.
    """
    for name in (compute, loss):
        require_column(frame, name)
    frame = plain_frame(frame)
    numbers = {name: as_numbers(frame.loc[:, name])[0] for name in (compute, loss)}
    usable = np.isfinite(numbers[loss]) & (numbers[compute] > 0)
    frame = frame.assign(**numbers).loc[usable].sort_values(compute, kind="stable")
    level = (np.diff(np.log(frame[compute].to_numpy(float)), prepend=-np.inf) > tolerance).cumsum()
    return frame.loc[frame.groupby(level)[loss].idxmin()]


def _distance(first: pd.Series, second: pd.Series) -> np.ndarray:
    """Return the (n, m) relative differences of two columns; infinite for different words and for missing numbers."""
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        a, b = first.to_numpy(float)[:, None], second.to_numpy(float)[None, :]
        largest = np.maximum(np.abs(a), np.abs(b))
        difference = np.where(a == b, 0.0, np.abs(a - b) / np.where(largest > 0, largest, 1.0))
        return np.where(np.isnan(difference), np.inf, difference)
    return np.where(first.to_numpy()[:, None] == second.to_numpy()[None, :], 0.0, np.inf)
