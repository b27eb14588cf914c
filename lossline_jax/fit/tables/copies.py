"""Runs whose points are all among those of another: one run under two names, which must not repeat itself.

A run is a copy where each of its points is one of the other's: to a millionth, or to half a unit of the last digit of
the one that is printed with fewer. So a copy may be rounded, in another order, or short of some checkpoints. Losses
printed with three decimals make it certain; a run that is short of checkpoints needs five, as more points are there to
meet by chance.

With fewer decimals other seeds may be equal too. How likely, the other runs of the setting tell: their distance from
the run changes from checkpoint to checkpoint, and where that change is normal, a point falls into one cell of the
rounding with at most the volume of the cell times the density in its middle. A constant distance between seeds only
lowers it. Copies are certain where that chance, to the power of the points and times the pairs of runs of which one is
printed as coarsely, is below one in a thousand. Otherwise they are told and not refused.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb

import numpy as np
import pandas as pd
from scipy.optimize import linear_sum_assignment

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.tables.rows import require_column

MIN_POINTS = 3  # fewer may be equal by chance
MIN_DECIMALS = 2  # losses printed with fewer may not differ by more than with these
SURE_DECIMALS, SURE_DECIMALS_OF_A_PART = 3, 5
CHANCE = 1e-3  # that a table of honest runs has one that is taken for a copy: at most
SAME = 1e-6  # relative: what single precision and another order of summation change
MOST_DECIMALS = 12
HALF = 0.5000001  # of a unit, and what binary fractions add to it
MOST_COMPARED = 8  # runs of a setting whose pairs tell how far seeds are apart


@dataclass(frozen=True)
class Copy:
    """Two names of one run: the one with more points first, else in the order of the table."""

    kept: str
    copy: str
    num_points: int
    num_kept: int
    is_certain: bool = True

    def __str__(self) -> str:
        if self.num_points == self.num_kept:
            return f"runs {self.kept!r} and {self.copy!r} have {self.num_points} points that are all equal"
        return f"the {self.num_points} points of run {self.copy!r} are all among the {self.num_kept} of {self.kept!r}"


def find_copies(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str] = (), sizes: Sequence[str] = ()
) -> list[Copy]:
    """Runs whose points are all among those of another: certain copies, and those that may be equal by chance.

    Args:
        run: column that names the run of a row; rows without a name are not looked at.
        columns: of losses, that make a point; rows that lack one are not looked at.
        within: columns in which two runs must be equal to be compared.
        sizes: columns that say at which sizes and budgets the losses were measured.

    Raises:
        LosslineError: a column is not there.
    """
    for name in (run, *sizes, *columns, *within):
        require_column(frame, name)
    named = frame[frame[run].notna()]
    numbers = named[[*sizes, *columns]].apply(pd.to_numeric, errors="coerce")
    usable = np.isfinite(numbers.to_numpy(float)).all(axis=1)
    named, numbers = named[usable], numbers[usable]
    order = {name: k for k, name in enumerate(dict.fromkeys(named[run].astype(str)))}
    groups: dict[tuple[str, ...], list[_Points]] = {}
    for key, rows in numbers.groupby([named[name].astype(str) for name in (*within, run)], sort=False):
        *levels, name = key if isinstance(key, tuple) else (key,)
        points = _Points.read(name, order[name], rows.to_numpy(float), len(sizes))
        groups.setdefault(tuple(levels), []).append(points)
    found = {(*whole.rank, *part.rank): (whole, part, runs) for runs in groups.values() for whole, part in _alike(runs)}
    copies: dict[str, Copy] = {}
    for whole, part, runs in (found[rank] for rank in sorted(found)):
        if part.name not in copies or not copies[part.name].is_certain:
            copy = Copy(whole.name, part.name, len(part), len(whole), _is_certain(whole, part, runs, groups.values()))
            if copy.is_certain or part.name not in copies:
                copies[part.name] = copy
    return sorted(copies.values(), key=lambda copy: (order[copy.kept], order[copy.copy]))


def one_of_each(frame: pd.DataFrame, run: str, copies: Sequence[Copy], merge: bool) -> tuple[pd.DataFrame, list[str]]:
    """The rows without those of certain copies, and a line for each that was left out, or that may be a copy.

    Raises:
        LosslineError: there are certain copies, and `merge` does not say to keep one of each.
    """
    certain = [copy for copy in copies if copy.is_certain]
    if certain and not merge:
        more = f" (and {len(certain) - 1} more)" if len(certain) > 1 else ""
        raise ArgumentError(
            "{copy}{more}: one run under two names counts as a repetition of itself; remove one, "
            "or set {merge_copies} to keep the first of each",
            copy=certain[0],
            more=more,
        )
    kept = frame[~frame[run].astype(str).isin([copy.copy for copy in certain])] if certain else frame
    said = [f"{copy}: {copy.kept!r} is kept" for copy in certain]
    if unsure := [copy for copy in copies if not copy.is_certain]:
        more = f" ({len(unsure) - 1} other pairs too)" if len(unsure) > 1 else ""
        said.append(f"{unsure[0]}, as far as they are printed{more}: is it one run under two names?")
    return kept, said


def one_run_each(
    frame: pd.DataFrame,
    run: str | None,
    columns: Sequence[str],
    within: Sequence[str],
    merge: bool,
    sizes: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """`one_of_each` of the copies that `find_copies` finds; without a column of runs all rows are kept."""
    if run is None:
        return frame, []
    return one_of_each(frame, run, find_copies(frame, run, columns, within, sizes), merge)


@dataclass(frozen=True, eq=False)
class _Points:
    """The points of one run in an order that does not depend on the table's; sizes are their first columns."""

    name: str
    order: int  # in the table
    values_nc: np.ndarray
    decimals_c: np.ndarray
    units_c: np.ndarray  # of the last digit printed
    num_sizes: int

    @classmethod
    def read(cls, name: str, order: int, values_nc: np.ndarray, num_sizes: int) -> "_Points":
        ordered = values_nc[np.lexsort(values_nc.T[::-1])]
        decimals_c = np.array([_decimals(column) for column in ordered.T])
        least_c = np.where(np.arange(decimals_c.size) < num_sizes, SURE_DECIMALS, MIN_DECIMALS)
        units_c = 10.0 ** -np.maximum(decimals_c, least_c)
        return cls(name, order, ordered, decimals_c, units_c, num_sizes)

    def __len__(self) -> int:
        return len(self.values_nc)

    @property
    def rank(self) -> tuple[int, int]:
        """Longer runs first, as they are kept."""
        return -len(self), self.order

    def holds(self, part: "_Points") -> bool:
        """Tell whether each point of the part is one of this run, no two of them the same."""
        rounding_c = HALF * np.maximum(self.units_c, part.units_c)
        apart_nm = ~_near(part.values_nc[:, None], self.values_nc[None], rounding_c)
        return not apart_nm[linear_sum_assignment(apart_nm)].any()


def _near(first: np.ndarray, second: np.ndarray, rounding_c: np.ndarray) -> np.ndarray:
    """Tell where two arrays of points (..., c) are equal but for rounding."""
    return (np.abs(first - second) <= np.maximum(rounding_c, SAME * np.abs(first))).all(axis=-1)


def _alike(runs: Sequence[_Points]) -> Iterator[tuple[_Points, _Points]]:
    """Pairs (whole, part) of one group, each point of the part one of the whole.

    Each run is held against those that have a point near every one of its own. They are looked up in the order of the
    last column, a loss, so the time grows with the runs and not with their pairs.
    """
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
            is_near = _near(point_c, points_pc[start:stop], HALF * np.maximum(units_rc[owners], part.units_c))
            wholes = np.intersect1d(wholes, owners[is_near])
            if not wholes.size:
                break
        yield from ((runs[j], part) for j in wholes if runs[j].holds(part))


def _is_certain(whole: _Points, part: _Points, runs: Sequence[_Points], groups: Collection[Sequence[_Points]]) -> bool:
    """Tell whether a part of the whole is a copy: by its digits, or as other runs of the table are never so near."""
    decimals = int(np.minimum(whole.decimals_c, part.decimals_c)[whole.num_sizes :].max())
    is_part = len(part) < len(whole) and not whole.num_sizes
    if decimals >= (SURE_DECIMALS_OF_A_PART if is_part else SURE_DECIMALS):
        return True
    seeds = [[whole, *(each for each in runs if each not in (whole, part))]]
    if len(seeds[0]) == 1:  # another setting has to tell
        seeds = [group for group in groups if group is not runs]
    chances = [
        _chance(other, one, whole, part)
        for group in seeds
        for one, other in combinations(group[:MOST_COMPARED], 2)
        if len(other) >= MIN_POINTS and not whole.num_sizes
    ]
    if not chances:  # nothing tells how far other seeds are
        return len(part) == len(whole) and bool(_near(whole.values_nc, part.values_nc, np.zeros(1)).all())
    if decimals < MIN_DECIMALS:
        return False
    unit = max(whole.units_c.max(), part.units_c.max())
    finer = [sum(each.units_c.max() < unit for each in group) for group in groups]
    pairs = sum(comb(len(group), 2) - comb(fine, 2) for group, fine in zip(groups, finer, strict=True))
    return bool(pairs * np.median(chances) ** len(part) < CHANCE)


def _chance(other: _Points, one: _Points, whole: _Points, part: _Points) -> float:
    """At most how likely a point of another seed falls into the cell of rounding about one of the whole's."""
    near = np.abs(other.values_nc[:, :1] - one.values_nc[None, :, 0]).argmin(axis=1)
    change_nc = np.diff(other.values_nc - one.values_nc[near], axis=0)
    printed_c = (other.units_c**2 + one.units_c**2) / 12
    # The diagonal of R holds what a column changes beyond what the columns before it say.
    free_c = np.zeros(change_nc.shape[1])
    triangle = np.linalg.qr(change_nc, mode="r")
    free_c[: len(triangle)] = np.diag(triangle) ** 2 / (2 * len(change_nc))
    deviation_c = np.sqrt(np.maximum(free_c - printed_c, 0.0))
    cell_c = np.maximum(np.maximum(whole.units_c, part.units_c), 2 * SAME * np.abs(whole.values_nc).mean(axis=0))
    with np.errstate(divide="ignore"):
        return float(np.prod(np.minimum(cell_c / (np.sqrt(2 * np.pi) * deviation_c), 1.0)))


def _decimals(values: np.ndarray) -> int:
    """The digits after the point with which all of them can be written."""
    for decimals in range(MOST_DECIMALS):
        if np.all(np.abs(values - np.round(values, decimals)) <= 1e-13 * np.abs(values)):
            return decimals
    return MOST_DECIMALS
