"""Runs whose points are all among those of another: one run under two names, which must not repeat itself.

`printed_runs` says when points are equal, and `copy_certainty` whether equal runs may be two seeds. Copies that are not
certain are noted and not refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.tables.copy_certainty import is_certain_copy
from lossline_jax.fit.tables.printed_runs import PrintedRun, contained_runs
from lossline_jax.fit.tables.rows import require_column


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
    """Return the runs whose points are all among those of another: certain copies, and others that may be by chance.

    Args:
        run: column that names the run of a row; rows without a name are not looked at.
        columns: of losses, that make a point; rows that lack one are not looked at.
        within: columns in which two runs must be equal to be compared.
        sizes: columns that say at which sizes and budgets the losses were measured.

    Raises:
        LosslineError: a column is not there.
    """
    return _copies(_groups_of_runs(frame, run, columns, within, sizes))


def copies_within_and_between(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str]
) -> tuple[list[Copy], list[Copy]]:
    """Return the copies in each group of runs, and the certain ones of which the two names are in different groups.

    The arguments are those of `find_copies`.
    """
    groups = _groups_of_runs(frame, run, columns, within)
    inside = _copies(groups)
    known = {(copy.kept, copy.copy) for copy in inside}
    everyone = sorted((each for runs in groups for each in runs), key=lambda each: each.order)
    anywhere = [copy for copy in _copies([everyone]) if copy.is_certain]
    return inside, [copy for copy in anywhere if (copy.kept, copy.copy) not in known]


def _groups_of_runs(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str], sizes: Sequence[str] = ()
) -> list[list[PrintedRun]]:
    for name in (run, *sizes, *columns, *within):
        require_column(frame, name)
    named = frame[frame[run].notna()]
    numbers = named[[*sizes, *columns]].apply(pd.to_numeric, errors="coerce")
    usable = np.isfinite(numbers.to_numpy(float)).all(axis=1)
    named, numbers = named[usable], numbers[usable]
    order = {name: k for k, name in enumerate(dict.fromkeys(named[run].astype(str)))}
    groups: dict[tuple[str, ...], list[PrintedRun]] = {}
    for key, rows in numbers.groupby([named[column].astype(str) for column in (*within, run)], sort=False):
        *levels, name = key if isinstance(key, tuple) else (key,)
        points = PrintedRun.read(name, order[name], rows.to_numpy(float), len(sizes))
        groups.setdefault(tuple(levels), []).append(points)
    return list(groups.values())


def _copies(groups: Sequence[Sequence[PrintedRun]]) -> list[Copy]:
    """One copy for each run that has any: the first that is certain, else the first, of the longest runs."""
    pairs_by_rank = {
        (*whole.rank, *part.rank): (whole, part, runs) for runs in groups for whole, part in contained_runs(runs)
    }
    copies: dict[str, Copy] = {}
    for _, (whole, part, runs) in sorted(pairs_by_rank.items(), key=lambda item: item[0]):
        known = copies.get(part.name)
        if known is None or not known.is_certain:
            copy = Copy(whole.name, part.name, len(part), len(whole), is_certain_copy(whole, part, runs, groups))
            copies[part.name] = copy if known is None or copy.is_certain else known
    order = {each.name: each.order for runs in groups for each in runs}
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
    notes = [f"{copy}: {copy.kept!r} is kept" for copy in certain]
    if unsure := [copy for copy in copies if not copy.is_certain]:
        more = f" ({len(unsure) - 1} other pairs too)" if len(unsure) > 1 else ""
        notes.append(f"{unsure[0]}, as far as they are printed{more}: is it one run under two names?")
    return kept, notes


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
