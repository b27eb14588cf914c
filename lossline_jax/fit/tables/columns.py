"""Read paired points from any table of losses: by column from a wide table, by evaluation set from a long one."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError, suggestion
from lossline_jax.fit.tables.rows import WHERE, is_empty, require_column
from lossline_jax.losses.cells import LARGEST, SMALLEST, as_numbers, beyond_range
from lossline_jax.losses.loss_row import COLUMNS, LOSS_COLUMNS
from lossline_jax.units import LOG_2

UNITS = {"nats_per_token": "nats/token", "bits_per_byte": "bits/byte"}
PER_BYTE = "bits_per_byte"  # the unit that compares different tokenizers
LONG_KEYS = ("run_id", "step")
# Relative differences. Both are choices: errors of rounding are far below them, and another unit (a factor of ln 2 or
# more) is far above.
SUM_TOLERANCE = 1e-3  # a loss against the loss that the sums of its row give
RATIO_TOLERANCE = 0.1  # nats/token over bits/byte against the ratio in other rows of the tokenizer
MIN_EQUAL = 3  # rows of a run with equal losses in both units; fewer may be equal by chance if losses are rounded
X, Y, RUN = "_x", "_y", "_run"  # columns of paired points, next to `_where` and the columns of the table
COUNT_EACH_TIME = "occur more than once and count each time"  # the end of a note on points or rows
KINDS = ("unit", "loss_definition")  # columns that define the losses of a row


def unit_label(key: str) -> str:
    """Return the label of the unit with this key, as readers see it."""
    return UNITS.get(key, "unit of the table")


def paired_points(
    frame: pd.DataFrame,
    x: str,
    y: str,
    by: Sequence[str],
    *,
    unit: str = "nats_per_token",
    cluster: str | None = None,
) -> pd.DataFrame:
    """Return one row for each point: `_x` and `_y` (as the table has them), `_run`, `_where` (for messages) and `by`.

    A table with columns x and y is wide. A table with `eval_set`, `run_id` and `step` is long: there, x and y name
    evaluation sets, which are paired within a checkpoint.

    Args:
        frame: a table from `open_rows`.
        x: the column or the evaluation set of the losses on the x axis.
        y: the column or the evaluation set of the losses on the y axis.
        by: columns whose values divide the rows. Within each group, losses must have one unit and one definition.
        unit: the column of a long table that holds the losses.
        cluster: the column that names the run of a row, for `_run`. None: `run_id`, if the table has it.

    Raises:
        LosslineError: an unknown column or evaluation set, duplicated checkpoints, losses of two units or definitions
            within the values of `by`, or no pairs at all.
    """
    require_two_losses(x, (y,))
    wide = x in frame.columns and y in frame.columns
    if not wide and "eval_set" not in frame.columns:
        require_column(frame, x, "x")
        require_column(frame, y, "y")
    cluster = run_column(frame, cluster)
    for name in by:
        require_column(frame, name, "by")
    if cluster:
        require_column(frame, cluster, "cluster")
    points = _wide(frame, x, y, by) if wide else _long(frame, x, y, unit=unit, by=by)
    points[RUN] = points[cluster].astype(str) if cluster else None
    return points


def group_label(values: Mapping[str, Any]) -> str:
    """Return the label of a group, such as `data=code, size=large`; empty text without values."""
    return ", ".join(f"{name}={'(empty)' if is_empty(value) else value}" for name, value in values.items())


def require_two_losses(x: str, losses: Sequence[str]) -> None:
    """Raise ArgumentError if the loss x is also one of the losses that are predicted from x."""
    if x in losses:
        raise ArgumentError("{x} and {y} are both {name!r}: a line needs two different losses; name another", name=x)


def loss_column(frame: pd.DataFrame, losses: Sequence[str], unit: str | None) -> str:
    """Return the column of a long table that holds the losses.

    Args:
        frame: the table.
        losses: names of columns or of evaluation sets.
        unit: the column that the caller named. None: nats_per_token.

    Raises:
        ArgumentError: the caller named a unit, but the losses are columns of their own.
    """
    if unit is not None and set(losses) <= set(frame.columns):
        raise ArgumentError(
            "{unit}: losses that are columns ({columns}) are in the unit that they have; leave {unit} out",
            columns=" and ".join(losses),
        )
    return unit or "nats_per_token"


def require_loss_column(unit: str, argument: str = "unit") -> None:
    """Raise ArgumentError if `unit` is a column of a lossline table that holds no losses.

    Args:
        unit: the column.
        argument: the argument of the caller that gave the column, for the message.
    """
    if unit in COLUMNS and unit not in LOSS_COLUMNS:
        raise ArgumentError(
            f"{{{argument}}}" + ": column {name!r} holds no losses; give nats_per_token or bits_per_byte", name=unit
        )


def rows_of_set(frame: pd.DataFrame, name: str, loss: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows of one evaluation set of a long table, one for each checkpoint.

    Args:
        frame: the long table.
        name: the evaluation set.
        loss: the column of the losses, which must have one unit and one definition.
        by: columns whose values divide the rows. Losses of different groups may differ in unit and definition.

    Raises:
        LosslineError: a row has no set, the set is unknown, a checkpoint has the set twice, or the losses differ in
            unit or definition.
    """
    require_loss_column(loss)
    for column in LONG_KEYS:
        require_column(frame, column)
    require_column(frame, loss, "unit")
    eval_sets = frame.loc[:, "eval_set"]
    if (nameless := eval_sets == "").any():
        raise LosslineError(f"{frame.loc[nameless, WHERE].iloc[0]}: no eval_set; fill it in, or leave the row out")
    rows = frame.loc[eval_sets == name]
    if rows.empty:
        known = list(dict.fromkeys(sorted(eval_sets)))
        hint = suggestion(name, known)
        raise LosslineError(f"no evaluation set {name!r} in the table{hint}; it has {', '.join(known)}")
    if (repeated := rows.duplicated(list(LONG_KEYS))).any():
        run, step = rows.loc[repeated, list(LONG_KEYS)].iloc[0]
        raise LosslineError(
            f"run {run!r} step {step} has {name!r} more than once ({repeated.sum()} such rows); keep one row of each"
        )
    rows = name_checkpoints(rows)
    require_one_kind(rows, (loss,), name, by)
    _require_true_sums(rows, loss, name)
    _require_two_units(rows, loss, name)
    _require_one_text(rows, loss, name)
    return rows


def require_one_kind(rows: pd.DataFrame, losses: Sequence[str], what: str, by: Sequence[str] = ()) -> None:
    """Raise LosslineError if rows with a loss differ in unit or definition within a group.

    Args:
        rows: rows with the column `_where`.
        losses: the columns of the losses.
        what: the name of the losses, for the message.
        by: columns whose values divide the rows into groups.
    """
    scored = rows.loc[rows[list(losses)].notna().any(axis=1)]
    for column in KINDS:
        if column not in rows.columns or column in by:
            continue
        stated = scored.loc[scored[column].notna()]
        for _, group in stated.groupby(list(by), dropna=False, sort=False) if by else [((), stated)]:
            distinct = group.drop_duplicates(column)
            if len(distinct) > 1:
                (one, other), (where_one, where_other) = distinct[column].iloc[:2], distinct[WHERE].iloc[:2]
                raise LosslineError(
                    f"{what}: rows with {column} {one!r} and {other!r} ({where_one} and {where_other}) do not belong "
                    "on one curve; keep one of them"
                )


def _require_true_sums(rows: pd.DataFrame, loss: str, name: str) -> None:
    """Raise LosslineError if a loss contradicts the sums of its row: then the loss is in another unit."""
    per, scale = {"nats_per_token": ("num_tokens", 1.0), PER_BYTE: ("num_bytes", LOG_2)}.get(loss, ("", 1.0))
    if not {"nats_sum", per} <= set(rows.columns):
        return
    total, count, value = (as_numbers(rows.loc[:, column])[0] for column in ("nats_sum", per, loss))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = value * count * scale / total
    if (wrong := np.abs(ratio - 1) > SUM_TOLERANCE).any():  # NaN (one of the three is missing) does not count as wrong
        first = int(np.argmax(wrong))
        raise LosslineError(
            f"{rows[WHERE].iloc[first]}: {loss} of {name} is {value[first]:.6g}, {ratio[first]:.4g} times what "
            f"nats_sum and {per} of the row say; is it in another unit?"
        )


def _require_two_units(rows: pd.DataFrame, loss: str, name: str) -> None:
    """Raise LosslineError if one of the two columns of losses is not in the unit of its name.

    There are two signs. Both columns are equal in all rows of a run of three rows or more: no text has exactly 1/ln 2
    bytes per token. Or the ratio of both in a row differs from most rows of its tokenizer: the ratio is a property of
    the text, its bytes over its tokens.
    """
    if loss not in UNITS or not set(UNITS) <= set(rows.columns):
        return
    per_token, per_byte = (as_numbers(rows.loc[:, column])[0] for column in UNITS)
    for run, is_equal in pd.Series(per_token == per_byte).groupby(rows["run_id"].to_numpy(), sort=False):
        if len(is_equal) >= MIN_EQUAL and np.all(is_equal):
            raise LosslineError(
                f"run {run!r}: nats_per_token and bits_per_byte of {name} are equal in all its rows; one was copied "
                "into the other: write the true values, or remove the wrong column"
            )
    if "tokenizer" not in rows.columns:
        return
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = pd.Series(np.where((per_token > 0) & (per_byte > 0), per_token / per_byte, np.nan), rows.index)
    usual = ratio.groupby(rows["tokenizer"]).transform("median")
    is_off = (ratio / usual - 1).abs() > RATIO_TOLERANCE
    if is_off.any() and is_off.mean() < 0.5:
        first = is_off.idxmax()
        raise LosslineError(
            f"{rows[WHERE][first]}: nats_per_token of {name} is {ratio[first]:.3g} times bits_per_byte, and "
            f"{usual[first]:.3g} times in most rows of tokenizer {rows['tokenizer'][first]!r}; one of the two is not "
            "what its column says"
        )


def _require_one_text(rows: pd.DataFrame, loss: str, name: str) -> None:
    """Raise LosslineError if rows of one tokenizer were scored on different tokens."""
    if not {"eval_fingerprint", "tokenizer"} <= set(rows.columns):
        return
    scored = rows.loc[rows[[loss, "eval_fingerprint", "tokenizer"]].notna().all(axis=1)]
    for tokenizer, rows_of_tokenizer in scored.groupby("tokenizer", sort=False):
        distinct = rows_of_tokenizer.drop_duplicates("eval_fingerprint")
        if len(distinct) > 1:
            where_one, where_other = distinct[WHERE].iloc[:2]
            raise LosslineError(
                f"{name}: {where_one} and {where_other} were scored on different texts (eval_fingerprint) with "
                f"tokenizer {tokenizer!r}; keep the rows of one text, or score all runs again"
            )


def _wide(frame: pd.DataFrame, x: str, y: str, by: Sequence[str]) -> pd.DataFrame:
    require_one_kind(frame, (x, y), "the table", by)
    return frame.assign(**{X: frame[x], Y: frame[y]}).reset_index(drop=True)


def _long(frame: pd.DataFrame, x: str, y: str, *, unit: str, by: Sequence[str]) -> pd.DataFrame:
    left, right = (rows_of_set(frame, name, unit, by).rename(columns={unit: axis}) for axis, name in ((X, x), (Y, y)))
    points = left.merge(right[[*LONG_KEYS, Y]], on=list(LONG_KEYS))
    if points.empty:
        raise LosslineError(f"no checkpoint has both {x!r} and {y!r}")
    return points


def name_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of a long table with the column `_where`, the name of a row in messages."""
    return rows.assign(**{WHERE: [f"run {r}, step {s}" for r, s in zip(rows["run_id"], rows["step"], strict=True)]})


def losses_and_faults(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """Return a column as float64 with NaN where a loss is missing, and a mask of the cells that are no losses.

    These are text, and numbers that are infinite, zero, negative or out of range.

    Args:
        column: a column of losses.
    """
    numbers, faulty = as_numbers(column)
    return numbers, faulty | np.isinf(numbers) | (numbers <= 0) | beyond_range(numbers)


def numeric_losses(points: pd.DataFrame, column: str, name: str) -> np.ndarray:
    """Return losses as float64, NaN where missing.

    Args:
        points: rows with the column `_where`.
        column: the column of the losses.
        name: the name of the losses, for the message.

    Raises:
        LosslineError: a loss is text, infinite, zero, negative or out of range. The message names the first such row.
    """
    numbers, bad = losses_and_faults(points.loc[:, column])
    if bad.any():
        first = int(np.argmax(bad))
        where, value = points[WHERE].iloc[first], points[column].iloc[first]
        run = next((points[name].iloc[first] for name in (RUN, "run_id") if name in points), None)
        where += "" if run is None or pd.isna(run) else f", run {run}"
        more = f", from {SMALLEST:g} to {LARGEST:g}" if beyond_range(numbers[[first]])[0] else ""
        raise LosslineError(f"{where}: {name} is {value}; losses are positive numbers{more}")
    return numbers


def require_several_values(x: np.ndarray, y: np.ndarray, name: str) -> None:
    """Raise LosslineError if all points have the same x: no line can be fitted to them.

    Args:
        x: (n,) losses, NaN where missing.
        y: (n,) losses, NaN where missing.
        name: the name of x, for the message.
    """
    finite = x[np.isfinite(x) & np.isfinite(y)]
    if finite.size > 1 and np.ptp(finite) == 0:
        raise LosslineError(
            f"{name} is {finite[0]:g} in all {finite.size} rows with both losses: a line needs two values of x"
        )


def names_of_runs(rows: pd.DataFrame, run: str | None) -> list[str]:
    """Return a name for the run of each row, for messages.

    Args:
        rows: rows with the column `_where`.
        run: the column that names the run of a row. None: each row is named by `_where`.
    """
    return [f"run {name}" for name in rows[run]] if run else list(rows[WHERE])


def usable_losses(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the table with NaN in place of values that are no losses, for a drawing of the others.

    Args:
        frame: the table.
        columns: columns of losses; those that the table does not have are skipped.
    """
    losses = {name: losses_and_faults(frame.loc[:, name]) for name in columns if name in frame}
    return frame.assign(**{name: np.where(bad, np.nan, numbers) for name, (numbers, bad) in losses.items()})


def run_column(frame: pd.DataFrame, cluster: str | None) -> str | None:
    """Return the column that names the run of a row. None: there is no such column.

    Args:
        frame: the table.
        cluster: the column that the caller named. None: `run_id`, if the table has it.
    """
    return cluster or ("run_id" if "run_id" in frame.columns else None)


def plain(value: Any) -> str | int | float:
    """Return a cell of a table as a JSON value. An empty cell becomes the text "(empty)"."""
    if is_empty(value):
        return "(empty)"
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float, str)) else str(value)
