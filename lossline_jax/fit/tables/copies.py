"""Find runs that the table has under two names. Counting such a run twice would look like a repetition.

A run is a copy if all its points are also points of another run. `printed_runs` decides which points are equal, and
`copy_certainty` decides whether equal runs may be two seeds. Copies that are not certain get a note; only certain
copies are an error.
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
    """Two names of one run. The run with more points is kept; of equally long ones, the first in the table."""

    kept: str  # name of the run that is kept
    copy: str  # name of the copy
    num_points: int  # of the copy
    num_kept: int  # points of the run that is kept
    is_certain: bool = True  # False: the two may be two seeds that are equal by chance

    def __str__(self) -> str:
        if self.num_points == self.num_kept:
            return f"runs {self.kept!r} and {self.copy!r} have {self.num_points} points that are all equal"
        return f"the {self.num_points} points of run {self.copy!r} are all among the {self.num_kept} of {self.kept!r}"


def find_copies(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str] = (), *, sizes: Sequence[str] = ()
) -> list[Copy]:
    """Return the runs whose points are all points of another run, both certain copies and possible ones.

    Args:
        frame: the table.
        run: the column that names the run of a row; rows without a name are left out.
        columns: the columns of losses, which together are a point; rows without one of them are left out.
        within: columns in which two runs must be equal to be compared.
        sizes: columns of the sizes and budgets at which the losses were measured.

    Raises:
        LosslineError: the table does not have a column.
    """
    return _copies(_groups_of_runs(frame, run, columns, within, sizes=sizes))


def copies_within_and_between(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str]
) -> tuple[list[Copy], list[Copy]]:
    """Return the copies inside each group of runs, and the certain copies between runs of different groups.

    Args:
        frame: see `find_copies`.
        run: see `find_copies`.
        columns: see `find_copies`.
        within: columns whose values divide the runs into groups.
    """
    groups = _groups_of_runs(frame, run, columns, within)
    inside = _copies(groups)
    known = {(copy.kept, copy.copy) for copy in inside}
    all_runs = sorted((printed for runs in groups for printed in runs), key=lambda printed: printed.order)
    anywhere = [copy for copy in _copies([all_runs]) if copy.is_certain]
    return inside, [copy for copy in anywhere if (copy.kept, copy.copy) not in known]


def _groups_of_runs(
    frame: pd.DataFrame, run: str, columns: Sequence[str], within: Sequence[str], *, sizes: Sequence[str] = ()
) -> list[list[PrintedRun]]:
    """Return the runs of a table in groups that are equal in the columns `within`."""
    for name in (run, *sizes, *columns, *within):
        require_column(frame, name)
    named = frame.loc[frame[run].notna()]
    numbers = named[[*sizes, *columns]].apply(pd.to_numeric, errors="coerce")
    usable = np.isfinite(numbers.to_numpy(float)).all(axis=1)
    named, numbers = named.loc[usable], numbers.loc[usable]
    order = {name: k for k, name in enumerate(dict.fromkeys(named[run].astype(str)))}
    groups: dict[tuple[str, ...], list[PrintedRun]] = {}
    for key, rows in numbers.groupby([named[column].astype(str) for column in (*within, run)], sort=False):
        *levels, name = key if isinstance(key, tuple) else (key,)
        printed = PrintedRun.read(name, order[name], rows.to_numpy(float), len(sizes))
        groups.setdefault(tuple(levels), []).append(printed)
    return list(groups.values())


def _copies(groups: Sequence[Sequence[PrintedRun]]) -> list[Copy]:
    """Return one copy for each run that is a copy of others: of the longest one, and a certain copy if there is one."""
    pairs_by_rank = {
        (*whole.rank, *part.rank): (whole, part, runs) for runs in groups for whole, part in contained_runs(runs)
    }
    copies: dict[str, Copy] = {}
    for _, (whole, part, runs) in sorted(pairs_by_rank.items(), key=lambda item: item[0]):
        known = copies.get(part.name)
        if known is None or not known.is_certain:
            copy = Copy(whole.name, part.name, len(part), len(whole), is_certain_copy(whole, part, runs, groups))
            copies[part.name] = copy if known is None or copy.is_certain else known
    order = {printed.name: printed.order for runs in groups for printed in runs}
    return sorted(copies.values(), key=lambda copy: (order[copy.kept], order[copy.copy]))


def one_of_each(frame: pd.DataFrame, run: str, copies: Sequence[Copy], merge: bool) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows without the rows of certain copies, and a note for each such copy and for possible copies.

    Args:
        frame: the table.
        run: the column that names the run of a row.
        copies: the copies that `find_copies` found.
        merge: leave the rows of certain copies out. False: certain copies are an error.

    Raises:
        LosslineError: there are certain copies and `merge` is False.
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
    kept = frame.loc[~frame[run].astype(str).isin([copy.copy for copy in certain])] if certain else frame
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
    *,
    merge: bool,
    sizes: Sequence[str] = (),
) -> tuple[pd.DataFrame, list[str]]:
    """Find copies and return what `one_of_each` returns for them.

    Args:
        frame: the table.
        run: the column that names the run of a row. None: the table has none, and all rows are kept.
        columns: see `find_copies`.
        within: see `find_copies`.
        merge: see `one_of_each`.
        sizes: see `find_copies`.
    """
    if run is None:
        return frame, []
    return one_of_each(frame, run, find_copies(frame, run, columns, within, sizes=sizes), merge)
