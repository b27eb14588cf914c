"""From any table of losses to paired points: wide tables by column, long tables by evaluation set."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.config import suggestion
from lossline_jax.errors import LosslineError

UNITS = {"nats_per_token": "nats/token", "bits_per_byte": "bits/byte"}
PER_BYTE = "bits_per_byte"  # the unit that compares different tokenizers
LONG_KEYS = ("run_id", "step")
X, Y, RUN, WHERE = "_x", "_y", "_run", "_where"  # columns of paired points, beside the table's own


def paired_points(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str],
    *,
    unit: str = "nats_per_token",
    cluster: str | None = None,
) -> pd.DataFrame:
    """One row a point: `_x`, `_y` (as they stand in the table), `_run`, `_where` (for messages) and `by`.

    A table with columns x and y is wide. One with `eval_set`, `run_id` and `step` is long: x and y name
    evaluation sets, paired within a checkpoint, and `unit` the column of the losses. `_run` is column
    `cluster`, by default `run_id` where there is one, else missing.

    Raises:
        LosslineError: an unknown column or evaluation set, duplicated checkpoints, or no pairs at all.
    """
    if frame.empty:
        raise LosslineError("the table has no rows")
    if x == y:
        raise LosslineError(f"x and y are both {x!r}: a line needs two different losses")
    wide = x in frame.columns and y in frame.columns
    if not wide and "eval_set" not in frame.columns:
        for name in (x, y):
            require_column(frame, name)
    cluster = run_column(frame, cluster)
    for name in (*by, *([cluster] if cluster else ())):
        require_column(frame, name)
    points = _wide(frame, x, y) if wide else _long(frame, x, y, unit)
    points[RUN] = points[cluster].astype(str) if cluster else None
    return points


def as_pandas(frame: Any) -> pd.DataFrame:
    """A pandas frame as it is; a polars one (or any that can) turned into one.

    Raises:
        LosslineError: it is no table.
    """
    if isinstance(frame, pd.DataFrame):
        return frame
    if not hasattr(frame, "to_pandas"):
        raise LosslineError(f"a table is a pandas or polars frame, not {type(frame).__name__}")
    return frame.to_pandas()


def group_label(values: Mapping[str, Any]) -> str:
    """`data=code, size=large`; empty without values."""
    return ", ".join(f"{name}={value}" for name, value in values.items())


def require_column(frame: pd.DataFrame, name: str) -> None:
    """Raises LosslineError with a suggestion and the list where the table lacks the column."""
    if name not in frame.columns:
        known = [str(column) for column in frame.columns if not str(column).startswith("_")]
        listed = ", ".join(known[:30]) + (f" and {len(known) - 30} more" if len(known) > 30 else "")
        raise LosslineError(f"the table has no column {name!r}{suggestion(name, known)}; it has {listed}")


def _wide(frame: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    points = frame.copy().reset_index(drop=True)
    points[X], points[Y] = points[x], points[y]
    points[WHERE] = [f"row {k + 1}" for k in range(len(points))]
    return points


def _long(frame: pd.DataFrame, x: str, y: str, unit: str) -> pd.DataFrame:
    for name in (*LONG_KEYS, unit):
        require_column(frame, name)
    sides = {}
    for axis, eval_set in ((X, x), (Y, y)):
        rows = frame[frame["eval_set"] == eval_set]
        if rows.empty:
            known = sorted(frame["eval_set"].astype(str).unique())
            hint = suggestion(eval_set, known)
            raise LosslineError(f"no evaluation set {eval_set!r} in the table{hint}; it has {', '.join(known)}")
        repeated = rows.duplicated(list(LONG_KEYS))
        if repeated.any():
            run, step = rows.loc[repeated, list(LONG_KEYS)].iloc[0]
            raise LosslineError(f"run {run!r} step {step} has {eval_set!r} more than once; keep one row of each")
        sides[axis] = rows.rename(columns={unit: axis})
    points = sides[X].merge(sides[Y][[*LONG_KEYS, Y]], on=list(LONG_KEYS))
    if points.empty:
        raise LosslineError(f"no checkpoint has both {x!r} and {y!r}")
    return name_checkpoints(points)


def name_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a long table with the column `_where` that messages name them by."""
    return rows.assign(**{WHERE: [f"run {r}, step {s}" for r, s in zip(rows["run_id"], rows["step"], strict=True)]})


def numeric_losses(points: pd.DataFrame, column: str, name: str) -> np.ndarray:
    """Losses as float64, NaN where missing.

    Raises:
        LosslineError: naming the row of the first loss that is text, infinite, zero or negative.
    """
    numbers = pd.to_numeric(points[column], errors="coerce").to_numpy(float)
    text = np.isnan(numbers) & points[column].notna().to_numpy()
    bad = text | np.isinf(numbers) | (numbers <= 0)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = points[WHERE].iloc[first], points[column].iloc[first]
        raise LosslineError(f"{where}: {name} is {value}; losses are positive numbers")
    return numbers


def usable_losses(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The table with what is no loss (text, infinite, zero or negative) in those of `columns` that it has as NaN."""
    found = {name: pd.to_numeric(frame[name], errors="coerce") for name in columns if name in frame}
    return frame.assign(**{name: losses.where((losses > 0) & np.isfinite(losses)) for name, losses in found.items()})


def run_column(frame: pd.DataFrame, cluster: str | None) -> str | None:
    """The column that names the run of a row: `cluster`, by default `run_id` where the table has it; None: none."""
    return cluster or ("run_id" if "run_id" in frame.columns else None)
