"""The points of a run as they are printed, and the runs whose points are all points of another run.

Two points are equal if they differ by at most a millionth, or by half a unit of the last digit of the coarser one. So a
copy may be rounded, may be in another order, and may have fewer points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

# All numbers below are choices.
MIN_POINTS = 3  # points of a copy; fewer may be equal by chance
MIN_DECIMALS = 2  # losses printed with fewer decimals are compared as if printed with these
SIZE_DECIMALS = 3  # sizes and budgets printed with fewer decimals are compared as if printed with these
SAME = 1e-6  # relative difference that single precision and another order of summation can make
MOST_DECIMALS = 12  # decimals that are counted
HALF = 0.5000001  # half a unit of the last digit, plus the error of binary fractions


@dataclass(frozen=True, eq=False)
class PrintedRun:
    """The points of one run, sorted, so that their order in the table does not matter.

    Shapes: n points, c columns. Sizes and budgets are the first columns, losses the last.
    """

    name: str
    order: int  # position of the run in the table
    values_nc: np.ndarray
    decimals_c: np.ndarray  # decimals with which each column is printed
    units_c: np.ndarray  # unit of the last digit printed
    num_sizes: int  # number of columns of sizes and budgets

    @classmethod
    def read(cls, name: str, order: int, values_nc: np.ndarray, num_sizes: int) -> "PrintedRun":
        """Sort the points of a run, and count the decimals of each column.

        Args:
            name: the name of the run.
            order: the position of the run in the table.
            values_nc: the points in any order; sizes and budgets are the first columns.
            num_sizes: the number of columns of sizes and budgets.
        """
        ordered = values_nc[np.lexsort(values_nc.T[::-1])]
        decimals_c = np.array([_decimals(column) for column in ordered.T])
        least_c = np.where(np.arange(decimals_c.size) < num_sizes, SIZE_DECIMALS, MIN_DECIMALS)
        units_c = 10.0 ** -np.maximum(decimals_c, least_c)
        return cls(name, order, ordered, decimals_c, units_c, num_sizes)

    def __len__(self) -> int:
        return len(self.values_nc)

    @property
    def rank(self) -> tuple[int, int]:
        """Sort key: longer runs come first, because of two copies the longer one is kept."""
        return -len(self), self.order

    def holds(self, part: "PrintedRun") -> bool:
        """Tell whether each point of `part` equals a point of this run. No two of them may equal the same point."""
        rounding_c = HALF * np.maximum(self.units_c, part.units_c)
        apart_nm = ~nearly_equal(part.values_nc[:, None], self.values_nc[None], rounding_c)
        if apart_nm.all(axis=1).any():  # a point of `part` equals no point of this run
            return False
        import scipy.optimize  # takes half a second, and few tables have runs with equal points

        return not apart_nm[scipy.optimize.linear_sum_assignment(apart_nm)].any()


def nearly_equal(first: np.ndarray, second: np.ndarray, rounding_c: np.ndarray) -> np.ndarray:
    """Return the mask (...) of the points that are equal up to rounding.

    Args:
        first: points (..., c).
        second: points (..., c) that broadcast with the first.
        rounding_c: the largest difference that rounding makes, in each column.
    """
    return np.all(np.abs(first - second) <= np.maximum(rounding_c, SAME * np.abs(first)), axis=-1)


def contained_runs(runs: Sequence[PrintedRun]) -> Iterator[tuple[PrintedRun, PrintedRun]]:
    """Yield the pairs (whole, part) of runs in which each point of the part equals a point of the whole.

    A part is compared only with runs that have a point near each of its points. Points are looked up in the order of
    the last column, which is a loss. So the time grows with the number of runs and not with the number of pairs.
    """
    if not runs:
        return
    runs = sorted(runs, key=lambda printed: printed.rank)
    points_pc = np.concatenate([printed.values_nc for printed in runs])
    owners_p = np.repeat(np.arange(len(runs)), [len(printed) for printed in runs])
    by_loss_p = np.argsort(points_pc[:, -1], kind="stable")
    points_pc, owners_p = points_pc[by_loss_p], owners_p[by_loss_p]
    units_rc = np.stack([printed.units_c for printed in runs])
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
    """Return the number of digits after the point with which all values can be written."""
    for decimals in range(MOST_DECIMALS):
        if np.all(np.abs(values - np.round(values, decimals)) <= 1e-13 * np.abs(values)):
            return decimals
    return MOST_DECIMALS
