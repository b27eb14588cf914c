"""Runs under two names whose points are all equal: one run, which must not count as a repetition of itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.table_rows import require_column

MIN_POINTS = 3  # fewer may be equal by chance
MIN_DECIMALS = 3  # losses printed with fewer may be equal by chance once they are rounded
SAME = 1e-6  # relative: what single precision and another order of summation change
MOST_DECIMALS = 12


@dataclass(frozen=True)
class Copy:
    """Two names of one run, in the order of the table."""

    kept: str
    copy: str
    num_points: int

    def __str__(self) -> str:
        return f"runs {self.kept!r} and {self.copy!r} have {self.num_points} points that are all equal"


def find_copies(frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str] = ()) -> list[Copy]:
    """Runs that equal an earlier one in every point.

    Equal: to a millionth, or to half a unit of the last digit of the one that is printed with fewer (three at least).

    Args:
        run: column that names the run of a row; rows without a name are not looked at.
        columns: of numbers, that make a point; rows that lack one are not looked at.
        within: columns in which two runs must be equal to be compared.

    Raises:
        LosslineError: a column is not there.
    """
    for name in (run, *columns, *within):
        require_column(frame, name)
    named = frame[frame[run].notna()]
    numbers = named[list(columns)].apply(pd.to_numeric, errors="coerce")
    usable = np.isfinite(numbers.to_numpy(float)).all(axis=1)
    named, numbers = named[usable], numbers[usable]
    keys = [named[name].astype(str) for name in (*within, run)]
    order = {name: k for k, name in enumerate(dict.fromkeys(named[run].astype(str)))}
    runs = [_Points.read(key, rows.to_numpy(float)) for key, rows in numbers.groupby(keys, sort=False)]
    found = [
        (order[first.key[-1]], order[second.key[-1]], first.sorted_nc.shape[0])
        for first, second in _neighbours(runs)
        if first.key[-1] != second.key[-1] and first.equals(second)
    ]
    names, copies, taken = list(order), [], set()
    for first, second, count in sorted((min(a, b), max(a, b), n) for a, b, n in found):
        if second not in taken:
            taken.add(second)
            copies.append(Copy(names[first], names[second], count))
    return copies


def one_of_each(frame: pd.DataFrame, run: str, copies: Sequence[Copy], merge: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows without those of copies, and a line for each that was left out.

    Raises:
        LosslineError: there are copies, and `merge` does not say to keep one of each.
    """
    if copies and not merge:
        more = f" (and {len(copies) - 1} more)" if len(copies) > 1 else ""
        raise ArgumentError(
            "{copy}{more}: one run under two names counts as a repetition of itself; remove one, "
            "or set {merge_copies} to keep the first of each",
            copy=copies[0],
            more=more,
        )
    kept = frame[~frame[run].astype(str).isin([copy.copy for copy in copies])] if copies else frame
    return kept, [f"{copy}: {copy.kept!r} is kept" for copy in copies]


def one_run_each(
    frame: pd.DataFrame, run: str | None, columns: Sequence[str], within: Sequence[str], merge: bool
) -> tuple[pd.DataFrame, list[str]]:
    """`one_of_each` of the copies that `find_copies` finds; without a column of runs all rows are kept."""
    if run is None:
        return frame, []
    return one_of_each(frame, run, find_copies(frame, run, columns, within), merge)


@dataclass(frozen=True, eq=False)
class _Points:
    """The points of one run in an order that does not depend on the table's."""

    key: tuple[str, ...]  # the levels it is compared within, then its name
    sorted_nc: np.ndarray
    decimals_c: np.ndarray

    @classmethod
    def read(cls, key, values_nc: np.ndarray) -> "_Points":
        ordered = values_nc[np.lexsort(values_nc.T[::-1])]
        return cls(key if isinstance(key, tuple) else (key,), ordered, np.array([_decimals(c) for c in ordered.T]))

    def equals(self, other: "_Points") -> bool:
        if self.sorted_nc.shape != other.sorted_nc.shape or self.sorted_nc.shape[0] < MIN_POINTS:
            return False
        decimals_c = np.minimum(self.decimals_c, other.decimals_c)
        rounding_c = np.where(decimals_c < MIN_DECIMALS, 0.0, 0.5000001 * 10.0**-decimals_c)
        by_column = [np.sort(each.sorted_nc, axis=0) for each in (self, other)]
        if not np.all(_near(*by_column, rounding_c)):  # cheap, and true of all copies
            return False
        # Rounding may change the order of points, so each is assigned to one of the other run.
        apart_nn = ~_near(self.sorted_nc[:, None], other.sorted_nc[None], rounding_c).all(axis=-1)
        return not apart_nn[linear_sum_assignment(apart_nn)].any()


def _near(first: np.ndarray, second: np.ndarray, rounding_c: np.ndarray) -> np.ndarray:
    """Tell where two arrays of points (..., c) are equal but for rounding."""
    return np.abs(first - second) <= np.maximum(rounding_c, SAME * np.abs(first))


def _neighbours(runs: Sequence[_Points]) -> Iterator[tuple[_Points, _Points]]:
    """Pairs within one group and of one length whose first numbers are so near that they may be copies."""
    ordered = sorted(runs, key=lambda each: (each.key[:-1], each.sorted_nc.shape[0], each.sorted_nc[0, 0]))
    for k, first in enumerate(ordered):
        near = first.sorted_nc[0, 0] + max(10.0**-MIN_DECIMALS, SAME * abs(first.sorted_nc[0, 0]))
        for second in ordered[k + 1 :]:
            if second.key[:-1] != first.key[:-1] or second.sorted_nc.shape[0] != first.sorted_nc.shape[0]:
                break
            if second.sorted_nc[0, 0] > near:
                break
            yield first, second


def _decimals(values: np.ndarray) -> int:
    """The digits after the point with which all of them can be written."""
    for decimals in range(MOST_DECIMALS):
        if np.all(np.abs(values - np.round(values, decimals)) <= 1e-13 * np.abs(values)):
            return decimals
    return MOST_DECIMALS
