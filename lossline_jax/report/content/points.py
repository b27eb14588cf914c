"""The losses of a table as points (x, y), one a checkpoint."""

from dataclasses import dataclass

import pandas as pd

from lossline_jax.fit.study.results import StudyFits
from lossline_jax.fit.tables.columns import UNITS, usable_losses
from lossline_jax.fit.tables.rows import level_text, plain_frame

NO_LINE = "no line"  # rows that nothing was fitted to
OWN_LOSS = "_loss"  # column of losses of a table that names no unit


@dataclass(frozen=True)
class Unit:
    """A unit of loss: its key in `StudyFits.units`, its column, and how it is written."""

    key: str
    column: str
    label: str

    def axis(self, name: str) -> str:
        """The label of an axis of losses on `name`."""
        return f"{name} loss ({self.label})" if self.key else name

    def short_axis(self, name: str, room: int = 31) -> str:
        """The same with the unit left out where the table has its own, or where more than `room` letters stand."""
        known = [f"{name} loss ({self.label})"] if self.key in UNITS else []
        return next((label for label in (*known, f"{name} loss") if len(label) <= room), name)


def unit_label(key: str) -> str:
    """A unit's key as it is written."""
    return UNITS.get(key, "unit of the table")


def with_unit(number: str, key: str) -> str:
    """`−0.399 nats/token`; the number alone where the table has a unit of its own."""
    return f"{number} {unit_label(key)}" if key else number


def units_of(fits: StudyFits) -> tuple[Unit, ...]:
    """The units that lines were fitted in."""
    return tuple(Unit(key, key or OWN_LOSS, unit_label(key)) for key in fits.units)


def pair(long: pd.DataFrame, x: str, y: str, unit: Unit) -> pd.DataFrame:
    """The checkpoints scored on both `x` and `y`.

    Returns:
        Columns run_id, step, tokens_seen, x, y (losses in `unit`), by run and step.
    """
    keys = ["run_id", "step"]
    left = long.loc[long["eval_set"] == x, [*keys, "tokens_seen", unit.column]]
    right = long.loc[long["eval_set"] == y, [*keys, unit.column]]
    merged = left.merge(right, on=keys, suffixes=("_x", "_y"))
    merged = merged.rename(columns={f"{unit.column}_x": "x", f"{unit.column}_y": "y"})
    return merged.dropna(subset=["x", "y"]).sort_values(keys).reset_index(drop=True)


def final_rows(long: pd.DataFrame) -> pd.DataFrame:
    """The rows of each run's last checkpoint."""
    last = long.groupby("run_id")["step"].transform("max")
    return long[long["step"] == last]


def as_long(frame: pd.DataFrame, fits: StudyFits) -> pd.DataFrame:
    """The table that `fits` was made on, in the columns that the report reads.

    Lossline's own table has them. In a wide one x and y are columns and a row is a checkpoint: it becomes two
    rows with the losses in `OWN_LOSS`. Where a table names no runs, each line counts as one; where it has no
    steps, rows are counted instead.
    """
    wide = {fits.x, fits.y} <= set(frame.columns)
    long = plain_frame(frame)
    for column in {"run_id", "eval_set"} & set(long.columns):
        long[column] = long[column].map(level_text)
    if "run_id" not in long:
        long = long.assign(run_id=_line_labels(long, fits))
    if wide:
        if "step" not in long:
            long = long.assign(step=range(len(long)))
        others = [column for column in long.columns if column not in (fits.x, fits.y, "eval_set", OWN_LOSS)]
        long = long.melt(others, [fits.x, fits.y], var_name="eval_set", value_name=OWN_LOSS)
    for column in ("tokens_seen", "eval_kind"):
        if column not in long:
            long[column] = None
    long = long.assign(run_id=long["run_id"].astype(str), eval_kind=long["eval_kind"].astype(object).fillna(""))
    return usable_losses(long, [unit.column for unit in units_of(fits)])


def _line_labels(frame: pd.DataFrame, fits: StudyFits) -> list[str]:
    """The label of the line that each row belongs to."""
    labels = {tuple(map(level_text, line.group.values())): line.label for line in fits.lines}
    rows = frame[list(fits.by)].itertuples(index=False, name=None)
    return [labels.get(tuple(map(level_text, row)), NO_LINE) for row in rows]
