"""The losses of a table as points (x, y): one point is one checkpoint."""

from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import UNITS, unit_label, usable_losses
from lossline_jax.fit.tables.rows import level_text, plain_frame
from lossline_jax.fit.tables.wide import losses_as_rows
from lossline_jax.formatting import shortened

NO_LINE = "no line"  # label of rows that no line was fitted to
OWN_LOSS = "_loss"  # the loss column of a table that names no unit


@dataclass(frozen=True)
class Unit:
    """A unit of loss."""

    key: str  # in `StudyFits.units`; "" for a table that names no unit
    column: str  # of the losses in this unit
    label: str  # as readers see it: `nats/token`

    def axis(self, name: str) -> str:
        """Return the label of an axis that shows losses on the evaluation set `name`."""
        return f"{name} loss ({self.label})" if self.key else name

    def short_axis(self, name: str, max_length: int = 31) -> str:
        """Return an axis label of at most `max_length` characters. The name is shortened, and the unit never."""
        if self.key not in UNITS:
            labels, ending = [f"{name} loss"], ""
        else:
            labels, ending = [f"{name} loss ({self.label})", f"{name} ({self.label})"], f" ({self.label})"
        fitting = next((label for label in labels if len(label) <= max_length), None)
        return fitting or shortened(name, max_length - len(ending)) + ending


def with_unit(number: str, key: str) -> str:
    """Return `−0.399 nats/token`, or the number alone where the table names no unit."""
    return f"{number} {unit_label(key)}" if key else number


def units_of(fits: StudyFits) -> tuple[Unit, ...]:
    """Return the units in which lines were fitted."""
    return tuple(Unit(key, key or OWN_LOSS, unit_label(key)) for key in fits.units)


def run_ids_of(points: pd.DataFrame) -> tuple[str, ...]:
    """Return the runs of some points, each once, in the order of the points."""
    return tuple(dict.fromkeys(points["run_id"]))


def pair(long: pd.DataFrame, x: str, y: str, unit: Unit) -> pd.DataFrame:
    """Return the checkpoints that are scored on both evaluation sets.

    Args:
        long: the losses table as `as_long` gives it.
        x: the evaluation set of the horizontal axis.
        y: the evaluation set of the vertical axis.
        unit: the unit of both losses.

    Returns:
        Columns run_id, step, tokens_seen, x, y (losses in `unit`), sorted by run and step.
    """
    keys = ["run_id", "step"]
    left = long.loc[long["eval_set"] == x, [*keys, "tokens_seen", unit.column]]
    right = long.loc[long["eval_set"] == y, [*keys, unit.column]]
    merged = left.merge(right, on=keys, suffixes=("_x", "_y"))
    merged = merged.rename(columns={f"{unit.column}_x": "x", f"{unit.column}_y": "y"})
    return merged.dropna(subset=["x", "y"]).sort_values(keys).reset_index(drop=True)


def final_rows(long: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of each run's last checkpoint."""
    last = long.groupby("run_id")["step"].transform("max")
    return long.loc[long["step"] == last]


def as_long(frame: pd.DataFrame, fits: StudyFits) -> pd.DataFrame:
    """Return the table that `fits` was made on, with the columns that the report reads.

    Lossline's own table has these columns. In a wide table x and y are columns and a row is a checkpoint. Such a row
    becomes two rows, with the losses in `OWN_LOSS`. In a table without runs each line counts as one run. In a table
    without steps the row number is the step.

    Args:
        frame: the losses table, long or wide.
        fits: the fits of that table.
    """
    wide = {fits.x, fits.y} <= set(frame.columns)
    long = plain_frame(frame)
    for column in {"run_id", "eval_set"} & set(long.columns):
        long[column] = long[column].map(level_text)
    if "run_id" not in long:
        long = long.assign(run_id=_line_labels(long, fits))
    if wide:
        long = losses_as_rows(long, fits.x, fits.y, OWN_LOSS)
    for column in ("tokens_seen", "eval_kind"):
        if column not in long:
            long[column] = None
    long = long.assign(run_id=long["run_id"].astype(str), eval_kind=long["eval_kind"].astype(object).fillna(""))
    return usable_losses(long, [unit.column for unit in units_of(fits)])


def _line_labels(frame: pd.DataFrame, fits: StudyFits) -> list[str]:
    """Return the label of the line that each row belongs to."""
    labels = {tuple(map(level_text, line.group.values())): line.label for line in fits.lines}
    rows = frame[list(fits.by)].itertuples(index=False, name=None)
    return [labels.get(tuple(map(level_text, row)), NO_LINE) for row in rows]
