"""Which runs of two groups belong together: equal size and tokens, equal compute, or one checkpoint."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.tables.rows import as_names, plain_frame, require_column
from lossline_jax.losses.cells import as_numbers

TOLERANCE = 0.01  # relative difference of two sizes, token counts or budgets that still counts as equal


@dataclass(frozen=True, eq=False)
class Pairs:
    """Rows of two frames that belong together, in the same order, and how many found no partner."""

    first: pd.DataFrame
    second: pd.DataFrame
    num_alone: int


def pair_runs(first: pd.DataFrame, second: pd.DataFrame, columns: Sequence[str], tolerance: float = TOLERANCE) -> Pairs:
    """Pair rows that are equal in every column: numbers within `tolerance` (relative), words exactly.

    Each row of `first` takes the nearest row of `second` that is left, nearest pairs first.

    Raises:
        LosslineError: a column is absent, there is nothing to pair by, or the columns do not tell rows apart.
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
        distance = np.maximum(distance, _distance(first[name], second[name]))
    rows, others = np.nonzero(distance <= tolerance)
    order = np.argsort(distance[rows, others], kind="stable")
    taken_first, taken_second, pairs = set(), set(), []
    for k in order:
        if rows[k] not in taken_first and others[k] not in taken_second:
            taken_first.add(rows[k])
            taken_second.add(others[k])
            pairs.append((rows[k], others[k]))
    pairs.sort()
    left, right = [a for a, _ in pairs], [b for _, b in pairs]
    alone = len(first) + len(second) - 2 * len(pairs)
    return Pairs(first.iloc[left].reset_index(drop=True), second.iloc[right].reset_index(drop=True), alone)


def best_by_compute(frame: pd.DataFrame, compute: str, loss: str, tolerance: float = TOLERANCE) -> pd.DataFrame:
    """The row with the lowest loss at each budget: the compute-optimal frontier.

    Budgets that differ by less than `tolerance` (relative) from the next are one.

    Raises:
        LosslineError: a column is absent.
    """
    for name in (compute, loss):
        require_column(frame, name)
    frame = plain_frame(frame)
    numbers = {name: as_numbers(frame[name])[0] for name in (compute, loss)}
    usable = np.isfinite(numbers[loss]) & (numbers[compute] > 0)
    frame = frame.assign(**numbers)[usable].sort_values(compute, kind="stable")
    level = (np.diff(np.log(frame[compute].to_numpy(float)), prepend=-np.inf) > tolerance).cumsum()
    return frame.loc[frame.groupby(level)[loss].idxmin()]


def _distance(first: pd.Series, second: pd.Series) -> np.ndarray:
    if pd.api.types.is_numeric_dtype(first) and pd.api.types.is_numeric_dtype(second):
        a, b = first.to_numpy(float)[:, None], second.to_numpy(float)[None, :]
        largest = np.maximum(np.abs(a), np.abs(b))
        difference = np.where(a == b, 0.0, np.abs(a - b) / np.where(largest > 0, largest, 1.0))
        return np.where(np.isnan(difference), np.inf, difference)
    return np.where(first.to_numpy()[:, None] == second.to_numpy()[None, :], 0.0, np.inf)
