"""From any table of losses to paired points: wide tables by column, long tables by evaluation set."""

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
SUM_TOLERANCE = 1e-3  # relative: the smallest step between units, ln 2, is far above it, and rounding far below
RATIO_TOLERANCE = 0.1  # relative, of nats/token to bits/byte: rounding is far below, another unit far above
MIN_EQUAL = 3  # rows of a run, that are equal in both units: fewer may be so by chance where losses are rounded
X, Y, RUN = "_x", "_y", "_run"  # columns of paired points, beside the table's own and `_where`
COUNT_EACH_TIME = "occur more than once and count each time"  # of points or rows, in notes
KINDS = ("unit", "loss_definition")  # columns that say what the losses of a row are


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

    The frame is one of `open_rows`. A table with columns x and y is wide. One with `eval_set`, `run_id` and `step` is
    long: x and y name evaluation sets, paired within a checkpoint, and `unit` the column of the losses. `_run` is
    column `cluster`, by default `run_id` where there is one, else missing.

    Raises:
        LosslineError: an unknown column or evaluation set, duplicated checkpoints, losses of two units or definitions
            within the values of `by`, or no pairs at all.
    """
    require_two_losses(x, (y,))
    wide = x in frame.columns and y in frame.columns
    if not wide and "eval_set" not in frame.columns:
        for name in (x, y):
            require_column(frame, name)
    cluster = run_column(frame, cluster)
    for name in (*by, *([cluster] if cluster else ())):
        require_column(frame, name)
    points = _wide(frame, x, y, by) if wide else _long(frame, x, y, unit, by)
    points[RUN] = points[cluster].astype(str) if cluster else None
    return points


def group_label(values: Mapping[str, Any]) -> str:
    """`data=code, size=large`; empty without values."""
    return ", ".join(f"{name}={'(empty)' if is_empty(value) else value}" for name, value in values.items())


def require_two_losses(x: str, losses: Sequence[str]) -> None:
    """Raises ArgumentError where a loss is to be predicted from itself."""
    if x in losses:
        raise ArgumentError("{x} and {y} are both {name!r}: a line needs two different losses; name another", name=x)


def loss_column(frame: pd.DataFrame, losses: Sequence[str], unit: str | None) -> str:
    """Return the column of a long table that holds the losses: `unit`, or nats_per_token where that is None.

    Raises:
        ArgumentError: a unit is named for losses that are columns themselves.
    """
    if unit is not None and set(losses) <= set(frame.columns):
        raise ArgumentError(
            "{unit}: losses that are columns ({columns}) are in the unit that they have; leave {unit} out",
            columns=" and ".join(losses),
        )
    return unit or "nats_per_token"


def require_loss_column(unit: str, argument: str = "unit") -> None:
    """Raises ArgumentError for a column of a lossline table that holds something else than losses."""
    if unit in COLUMNS and unit not in LOSS_COLUMNS:
        raise ArgumentError(
            f"{{{argument}}}" + ": column {name!r} holds no losses; give nats_per_token or bits_per_byte", name=unit
        )


def rows_of_set(frame: pd.DataFrame, name: str, loss: str, by: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of one evaluation set of a long table, one a checkpoint, their losses in column `loss` of one kind.

    Raises:
        LosslineError: a row without a set, an unknown set, a checkpoint that has it twice, or losses of two kinds.
    """
    require_loss_column(loss)
    for column in (*LONG_KEYS, loss):
        require_column(frame, column)
    if (nameless := frame["eval_set"] == "").any():
        raise LosslineError(f"{frame[WHERE][nameless].iloc[0]}: no eval_set; fill it in, or leave the row out")
    rows = frame[frame["eval_set"] == name]
    if rows.empty:
        known = list(dict.fromkeys(sorted(frame["eval_set"])))
        hint = suggestion(name, known)
        raise LosslineError(f"no evaluation set {name!r} in the table{hint}; it has {', '.join(known)}")
    if (repeated := rows.duplicated(list(LONG_KEYS))).any():
        run, step = rows.loc[repeated, list(LONG_KEYS)].iloc[0]
        raise LosslineError(
            f"run {run!r} step {step} has {name!r} more than once ({repeated.sum()} such); keep one row of each"
        )
    rows = name_checkpoints(rows)
    require_one_kind(rows, (loss,), name, by)
    _require_true_sums(rows, loss, name)
    _require_two_units(rows, loss, name)
    _require_one_text(rows, loss, name)
    return rows


def require_one_kind(rows: pd.DataFrame, losses: Sequence[str], what: str, by: Sequence[str] = ()) -> None:
    """Raises LosslineError where rows with a loss differ in unit or definition within a group, by two of the rows."""
    scored = rows[rows[list(losses)].notna().any(axis=1)]
    for column in KINDS:
        if column not in rows.columns or column in by:
            continue
        stated = scored[scored[column].notna()]
        for _, group in stated.groupby(list(by), dropna=False, sort=False) if by else [((), stated)]:
            first = group.drop_duplicates(column)
            if len(first) > 1:
                (one, other), (here, there) = first[column].iloc[:2], first[WHERE].iloc[:2]
                raise LosslineError(
                    f"{what}: rows with {column} {one!r} and {other!r} ({here} and {there}) do not belong on one "
                    "curve; keep one of them"
                )


def _require_true_sums(rows: pd.DataFrame, loss: str, name: str) -> None:
    """Raises LosslineError where a loss of a lossline table is not what its sums say: it is in another unit then."""
    per, scale = {"nats_per_token": ("num_tokens", 1.0), PER_BYTE: ("num_bytes", LOG_2)}.get(loss, ("", 1.0))
    if not {"nats_sum", per} <= set(rows.columns):
        return
    total, count, value = (as_numbers(rows[column])[0] for column in ("nats_sum", per, loss))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = value * count * scale / total
    if (wrong := np.abs(ratio - 1) > SUM_TOLERANCE).any():  # NaN, where one of the three is missing, is not wrong
        first = int(np.argmax(wrong))
        raise LosslineError(
            f"{rows[WHERE].iloc[first]}: {loss} of {name} is {value[first]:.6g}, {ratio[first]:.4g} times what "
            f"nats_sum and {per} of the row say; is it in another unit?"
        )


def _require_two_units(rows: pd.DataFrame, loss: str, name: str) -> None:
    """Raises LosslineError where one of the two units is not what its column says.

    Both are equal in all three or more rows of a run: no text has exactly 1/ln 2 bytes a token. Or a row has another
    ratio of the two than most rows of its tokenizer, which is that of the bytes and tokens of one text.
    """
    if loss not in UNITS or not set(UNITS) <= set(rows.columns):
        return
    per_token, per_byte = (as_numbers(rows[column])[0] for column in UNITS)
    same = pd.Series(per_token == per_byte).groupby(rows["run_id"].to_numpy(), sort=False).agg(["all", "size"])
    if (wrong := same["all"] & (same["size"] >= MIN_EQUAL)).any():
        raise LosslineError(
            f"run {wrong.idxmax()!r}: nats_per_token and bits_per_byte of {name} are equal in all its rows; one was "
            "copied into the other: write the true values, or remove the column that is wrong"
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
    """Raises LosslineError where rows of one tokenizer were scored on different tokens, by two of them."""
    if not {"eval_fingerprint", "tokenizer"} <= set(rows.columns):
        return
    scored = rows[rows[[loss, "eval_fingerprint", "tokenizer"]].notna().all(axis=1)]
    for tokenizer, same in scored.groupby("tokenizer", sort=False):
        first = same.drop_duplicates("eval_fingerprint")
        if len(first) > 1:
            here, there = first[WHERE].iloc[:2]
            raise LosslineError(
                f"{name}: {here} and {there} were scored on different texts (eval_fingerprint) with tokenizer "
                f"{tokenizer!r}; keep the rows of one of them, or score all anew"
            )


def _wide(frame: pd.DataFrame, x: str, y: str, by: Sequence[str]) -> pd.DataFrame:
    require_one_kind(frame, (x, y), "the table", by)
    return frame.assign(**{X: frame[x], Y: frame[y]}).reset_index(drop=True)


def _long(frame: pd.DataFrame, x: str, y: str, unit: str, by: Sequence[str]) -> pd.DataFrame:
    left, right = (rows_of_set(frame, name, unit, by).rename(columns={unit: axis}) for axis, name in ((X, x), (Y, y)))
    points = left.merge(right[[*LONG_KEYS, Y]], on=list(LONG_KEYS))
    if points.empty:
        raise LosslineError(f"no checkpoint has both {x!r} and {y!r}")
    return points


def name_checkpoints(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of a long table with the column `_where` that messages name them by."""
    return rows.assign(**{WHERE: [f"run {r}, step {s}" for r, s in zip(rows["run_id"], rows["step"], strict=True)]})


def numeric_losses(points: pd.DataFrame, column: str, name: str) -> np.ndarray:
    """Losses as float64, NaN where missing.

    Raises:
        LosslineError: naming the row of the first loss that is text, infinite, zero or negative.
    """
    numbers, faulty = as_numbers(points[column])
    bad = faulty | np.isinf(numbers) | (numbers <= 0) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = points[WHERE].iloc[first], points[column].iloc[first]
        more = f", from {SMALLEST:g} to {LARGEST:g}" if beyond_range(numbers[[first]])[0] else ""
        raise LosslineError(f"{where}: {name} is {value}; losses are positive numbers{more}")
    return numbers


def require_several_values(x: np.ndarray, y: np.ndarray, name: str) -> None:
    """Raises LosslineError where several points have one x: no line goes through them."""
    seen = x[np.isfinite(x) & np.isfinite(y)]
    if seen.size > 1 and np.ptp(seen) == 0:
        raise LosslineError(f"{name} is {seen[0]:g} in all {seen.size} rows with both losses: one x makes no line")


def names_of_runs(rows: pd.DataFrame, run: str | None) -> list[str]:
    """Name the run of each row for messages: by its run where the table has one, else by its row."""
    return [f"run {name}" for name in rows[run]] if run else list(rows[WHERE])


def usable_losses(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The table with what is no loss (text, infinite, zero or negative) in those of `columns` that it has as NaN."""
    losses = {name: as_numbers(frame[name])[0] for name in columns if name in frame}
    usable = {name: np.where((loss > 0) & np.isfinite(loss), loss, np.nan) for name, loss in losses.items()}
    return frame.assign(**usable)


def run_column(frame: pd.DataFrame, cluster: str | None) -> str | None:
    """The column that names the run of a row: `cluster`, by default `run_id` where the table has it; None: none."""
    return cluster or ("run_id" if "run_id" in frame.columns else None)


def plain(value: Any) -> str | int | float:
    """A table's cell as JSON has it; a missing one as text."""
    if is_empty(value):
        return "(empty)"
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (int, float, str)) else str(value)
