"""Read a table with factor columns: its settings, its base, the units of its losses, and each run once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from lossline_jax.errors import ArgumentError
from lossline_jax.fit.tables.columns import RUN, UNITS, X, Y, paired_points, require_loss_column
from lossline_jax.fit.tables.copies import copies_within_and_between, one_of_each
from lossline_jax.fit.tables.rows import as_names, open_rows, require_each_once
from lossline_jax.fit.tables.settings import (
    SETTING,
    Setting,
    Settings,
    divide,
    factor_columns,
)


@dataclass(frozen=True, eq=False)
class StudyTable:
    """A table of losses with factor columns, which tell how each run was trained."""

    frame: pd.DataFrame  # with `_where` for messages, and `_setting`, the number of the row's setting (-1: none)
    x: str  # evaluation set or column on the horizontal axis
    y: str  # evaluation set or column on the vertical axis
    factors: tuple[str, ...]
    units: tuple[str, ...]  # loss columns of a long table; ("",): the axes are columns of a wide table
    settings: Settings
    base: Setting


def read_settings(
    frame: pd.DataFrame,
    x: str,
    y: str,
    base: Mapping[str, Any] | None = None,
    *,
    factors: Sequence[str] | None = None,
    units: Sequence[str] | None = None,
    merge_copies: bool = False,
) -> tuple[StudyTable, list[str]]:
    """Return the table by settings, and notes on rows and runs that are not compared or are suspicious.

    Args:
        frame: as for `fit_study`.
        x: as for `fit_study`.
        y: as for `fit_study`.
        base: as for `fit_study`.
        factors: as for `fit_study`.
        units: as for `fit_study`.
        merge_copies: as for `fit_study`.

    Raises:
        LosslineError: a column, set or base is missing, there is no setting at all, or one run has two names.
    """
    frame = open_rows(frame)
    factors = None if factors is None else as_names(factors)
    units = None if units is None else as_names(units)
    if base is not None and not isinstance(base, Mapping):
        raise ArgumentError("{base}: give levels by factor, such as {{'data': 'wiki'}}, not {value!r}", value=base)
    if units and {x, y} <= set(frame.columns):
        raise ArgumentError(
            "{units}: {x} and {y} are columns of this table, which already have a unit; leave {units} out"
        )
    factors = factor_columns(frame, factors)
    require_each_once("unit", units or ())
    units = _units(frame, x, y, units)
    frame, settings, base_setting, notes = divide(frame, factors, (x, y), base)
    table = StudyTable(frame, x, y, factors, units, settings, base_setting)
    table, merged = _without_copies(table, merge_copies)
    return table, [*notes, *merged]


def _units(frame: pd.DataFrame, x: str, y: str, units: Sequence[str] | None) -> tuple[str, ...]:
    """Return the given units, or else the known units in which both axes have losses."""
    if {x, y} <= set(frame.columns):
        return ("",)
    for unit in units or ():
        require_loss_column(unit, "units")
    known = [unit for unit in UNITS if unit in frame.columns]
    axes = [frame.loc[frame["eval_set"] == name] for name in (x, y)] if "eval_set" in frame else [frame]
    filled = tuple(unit for unit in known if all(rows.loc[:, unit].notna().any() for rows in axes))
    return tuple(units or filled or known or UNITS)  # a table without losses then gets an error on the missing column


def _without_copies(table: StudyTable, merge: bool) -> tuple[StudyTable, list[str]]:
    """Return the table with each run once, and a note for each copy that is left out or lies between two settings."""
    if "run_id" not in table.frame:
        return table, []
    points = paired_points(table.frame, table.x, table.y, table.factors, unit=table.units[0])
    of_settings = points.loc[points[SETTING] >= 0]
    repeated, between = copies_within_and_between(of_settings, RUN, (X, Y), (SETTING,))
    frame, notes = one_of_each(table.frame, "run_id", repeated, merge)
    notes += [f"{copy}, in two settings: is one of them named wrongly?" for copy in between]
    return replace(table, frame=frame), notes
