"""The points of a run as they are printed, and the runs whose points are all among those of another.

Two points are equal to a millionth, or to half a unit of the last digit of the one that is printed with fewer. So a
copy may be rounded, in another order, or short of some points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

MIN_POINTS = 3  # fewer may be equal by chance
MIN_DECIMALS = 2  # losses printed with fewer may not differ by more than with these
SIZE_DECIMALS = 3  # sizes and budgets may not differ by more than with these
SAME = 1e-6  # relative: what single precision and another order of summation change
MOST_DECIMALS = 12
HALF = 0.5000001  # of a unit, and what binary fractions add to it


@dataclass(frozen=True, eq=False)
class PrintedRun:
    """The points of one run in an order that does not depend on the table's.

    Shapes: n points, c columns. Sizes and budgets are the first columns, losses the last.
    """

    name: str
    order: int  # of the run in the table
    values_nc: np.ndarray
    decimals_c: np.ndarray
    units_c: np.ndarray  # of the last digit printed
    num_sizes: int

    @classmethod
    def read(cls, name: str, order: int, values_nc: np.ndarray, num_sizes: int) -> "PrintedRun":
        """Sort the points of a run, and count the decimals of each column."""
        ordered = values_nc[np.lexsort(values_nc.T[::-1])]
        decimals_c = np.array([_decimals(column) for column in ordered.T])
        least_c = np.where(np.arange(decimals_c.size) < num_sizes, SIZE_DECIMALS, MIN_DECIMALS)
        units_c = 10.0 ** -np.maximum(decimals_c, least_c)
        return cls(name, order, ordered, decimals_c, units_c, num_sizes)

    def __len__(self) -> int:
        return len(self.values_nc)

    @property
    def rank(self) -> tuple[int, int]:
        """The key of an order in which longer runs come first, as they are kept."""
        return -len(self), self.order

    def holds(self, part: "PrintedRun") -> bool:
        """Tell whether each point of the part is one of this run, no two of them the same."""
        rounding_c = HALF * np.maximum(self.units_c, part.units_c)
        apart_nm = ~nearly_equal(part.values_nc[:, None], self.values_nc[None], rounding_c)
        return not apart_nm[linear_sum_assignment(apart_nm)].any()


def nearly_equal(first: np.ndarray, second: np.ndarray, rounding_c: np.ndarray) -> np.ndarray:
    """Tell where two arrays of points (..., c) are equal but for rounding."""
    return (np.abs(first - second) <= np.maximum(rounding_c, SAME * np.abs(first))).all(axis=-1)


def contained_runs(runs: Sequence[PrintedRun]) -> Iterator[tuple[PrintedRun, PrintedRun]]:
    """Yield pairs (whole, part) of runs, each point of the part one of the whole.

    Only runs that have a point near every point of the part are compared with it. Points are looked up in the order of
    the last column, a loss, so the time grows with the runs and not with their pairs.
    """
    if not runs:
        return
    runs = sorted(runs, key=lambda each: each.rank)
    points_pc = np.concatenate([each.values_nc for each in runs])
    owners_p = np.repeat(np.arange(len(runs)), [len(each) for each in runs])
    by_loss_p = np.argsort(points_pc[:, -1], kind="stable")
    points_pc, owners_p = points_pc[by_loss_p], owners_p[by_loss_p]
    units_rc = np.stack([each.units_c for each in runs])
    coarsest = units_rc[:, -1].max()
    for k, part in enumerate(runs):
        if k == 0 or len(part) < MIN_POINTS:
            continue
        reach = max(coarsest, 2 * SAME * np.abs(part.values_nc[:, -1]).max())
        near_n2 = np.searchsorted(points_pc[:, -1], part.values_nc[:, -1:] + np.array([-reach, reach]))
        wholes = np.arange(k)
        for point_c, (start, stop) in zip(part.values_nc, near_n2, strict=True):
            owners = owners_p[start:stop]
            is_near = nearly_equal(point_c, points_pc[start:stop], HALF * np.maximum(units_rc[owners], part.units_c))
            wholes = np.intersect1d(wholes, owners[is_near])
            if not wholes.size:
                break
        yield from ((runs[j], part) for j in wholes if runs[j].holds(part))


def _decimals(values: np.ndarray) -> int:
    """The number of digits after the point with which all values can be written."""
    for decimals in range(MOST_DECIMALS):
        if np.all(np.abs(values - np.round(values, decimals)) <= 1e-13 * np.abs(values)):
            return decimals
    return MOST_DECIMALS
