"""Read losses and compute from a table, by setting."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.compute_law import FLOPS_PER_PARAMETER_AND_TOKEN
from lossline_jax.fit.option_types import require_field_types
from lossline_jax.fit.speedup.cell import ComputeCell
from lossline_jax.fit.tables.columns import (
    PER_BYTE,
    losses_and_faults,
    names_of_runs,
    numeric_losses,
    require_one_kind,
    rows_of_set,
)
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.other_unit import require_one_unit_of_repetitions
from lossline_jax.fit.tables.rows import RUN_ID, WHERE, open_rows, require_column, require_different_columns
from lossline_jax.fit.tables.settings import (
    SETTING,
    Setting,
    Settings,
    divide,
    factor_columns,
)
from lossline_jax.losses.cells import as_numbers, beyond_range

COMPUTE_COLUMN = "train_flops"  # of a lossline table
SIZE_COLUMN, TOKEN_COLUMN = "params_total", "tokens_seen"  # of a lossline table
ONE_COMPUTE = 1e-9  # difference of ln(compute) that is rounding
_COMPUTE = "_loss_compute"  # the column with the compute of each row


@dataclass(frozen=True)
class ComputeColumns:
    """The columns that tell the compute of a row: its FLOPs, or its size and tokens (C = 6 N D).

    None in all of them: `train_flops`, or else `params_total` and `tokens_seen`.
    """

    compute: str | None = None
    params: str | None = None
    tokens: str | None = None

    def __post_init__(self) -> None:
        require_field_types(self)


@dataclass(frozen=True, eq=False)
class ComputeTable:
    """A table by settings, with the compute of each row."""

    frame: pd.DataFrame  # with `_where`, `_setting` and `_loss_compute`
    settings: Settings
    base: Setting
    factors: tuple[str, ...]
    source: str  # of the compute, in words

    def cells(self, loss: str, unit: str, merge_copies: bool) -> tuple[list[ComputeCell], list[str]]:
        """Return the settings with usable points of a loss, in the order of the table, and notes.

        Args:
            loss: evaluation set or column.
            unit: loss column of a long table; "": the loss is a column.
            merge_copies: True: count a run of one setting that has two names once.

        Raises:
            LosslineError: no setting has usable losses, or one run has two names or another unit.
        """
        if unit:
            rows, column = rows_of_set(self.frame, loss, unit), unit
        else:
            require_one_kind(self.frame, (loss,), "the table")
            rows, column = self.frame, loss
        rows = rows.loc[rows[SETTING] >= 0]
        rows, notes = one_run_each(rows, RUN_ID, (column,), (SETTING,), merge=merge_copies, sizes=(_COMPUTE,))
        rows = _in_order_of_steps(rows)
        losses, bad = losses_and_faults(rows.loc[:, column])
        known = bad | (np.isfinite(losses) & np.isfinite(rows[_COMPUTE].to_numpy(float)))
        if not known.all():
            notes = [*notes, f"{loss}: {np.sum(~known)} of {len(rows)} points have no loss or no compute: left out"]
        rows = rows.loc[known]
        numbers = rows[SETTING].to_numpy()
        parts = {k: rows.loc[numbers == k] for k in range(len(self.settings)) if np.any(numbers == k)}
        cells = [_cell(self.settings.settings[k], part, column, loss) for k, part in parts.items()]
        unusable = [cell.unusable for cell in cells if cell.unusable]
        if unusable and len(unusable) == len(cells):
            raise LosslineError(unusable[0])
        return cells, [*notes, *unusable]


def read_compute(
    frame: pd.DataFrame,
    losses: Sequence[str],
    base: Mapping[str, Any] | None,
    *,
    factors: Sequence[str] | None,
    columns: ComputeColumns,
) -> tuple[ComputeTable, list[str]]:
    """Return the table by settings with the compute of each row, and notes on rows that are not compared.

    Args:
        frame: as for `compare_compute`.
        losses: as for `compare_compute`.
        base: as for `compare_compute`.
        factors: as for `compare_compute`.
        columns: as for `compare_compute`.

    Raises:
        LosslineError: a column or the base is missing, the table does not tell runs apart, or a compute is negative.
    """
    frame = open_rows(frame)
    own = {"{compute}": columns.compute, "{params}": columns.params, "{tokens}": columns.tokens}
    for name in losses:
        if "eval_set" not in frame.columns:
            require_column(frame, name, "losses")
        require_different_columns({"{losses}": name} | (own if any(own.values()) else {"{compute}": COMPUTE_COLUMN}))
    if RUN_ID not in frame.columns:
        raise ArgumentError(
            "{run}: runs are the units of this comparison, and the table has no column run_id; name the column of "
            "runs with {run}"
        )
    frame, settings, base_setting, notes = divide(frame, factor_columns(frame, factors), losses, base)
    return with_compute(frame, settings, base_setting, columns=columns, notes=notes)


def with_compute(
    frame: pd.DataFrame, settings: Settings, base: Setting, *, columns: ComputeColumns, notes: Sequence[str] = ()
) -> tuple[ComputeTable, list[str]]:
    """Return a table that is divided into settings with the compute of each row, and notes.

    Args:
        frame: the table with `_where` and `_setting`.
        settings: its settings.
        base: the setting with the reference level of each factor.
        columns: the columns that tell the compute.
        notes: notes to begin with.

    Raises:
        LosslineError: a column is missing, or a compute is negative.
    """
    compute, source = _compute(frame, columns)
    notes = list(notes)
    if num_zero := int(np.sum(compute == 0)):
        notes.append(f"{num_zero} rows without any training (compute 0): left out")
        compute = np.where(compute == 0, np.nan, compute)
    table = ComputeTable(frame.assign(**{_COMPUTE: compute}), settings, base, tuple(base.levels), source)
    return table, notes


def loss_unit(frame: pd.DataFrame, losses: Sequence[str], unit: str | None) -> str:
    """Return the loss column of a long table; "" where the losses are columns.

    Args:
        frame: the table.
        losses: evaluation sets or columns.
        unit: the column that the caller named. None: bits/byte if any row has them, else nats/token.

    Raises:
        ArgumentError: the caller named a unit, but the losses are columns.
    """
    if set(losses) <= set(frame.columns):
        if unit is not None:
            raise ArgumentError("{unit}: the losses are columns, which already have a unit; leave {unit} out")
        return ""
    if unit is not None:
        return unit
    has_bits = PER_BYTE in frame.columns and bool(frame[PER_BYTE].notna().any())
    return PER_BYTE if has_bits else "nats_per_token"


def require_compute_of_checkpoints(cells: Sequence[ComputeCell], source: str) -> None:
    """Raise ArgumentError where most runs have several checkpoints, but no run has more than one compute.

    Args:
        cells: all settings, on one loss.
        source: the column of compute, or its product in words.
    """
    runs = [cell.of_run(run) for cell in cells for run in cell.run_ids]
    num_several = sum(loss.size > 1 for loss, _ in runs)
    if 2 * num_several > len(runs) and all(np.ptp(log_compute) < ONE_COMPUTE for _, log_compute in runs):
        raise ArgumentError(
            "{compute}: {source} has one value in each run, although runs have several checkpoints; name the compute "
            "of each checkpoint, or use {last}",
            source=source,
        )


def _cell(setting: Setting, rows: pd.DataFrame, column: str, loss: str) -> ComputeCell:
    """Return the points of one setting. A value that is no loss leaves the setting without points, as for its line."""
    try:
        losses = numeric_losses(rows, column, loss)
    except LosslineError as error:
        nothing = np.empty(0)
        return ComputeCell(setting, nothing, nothing, np.empty(0, str), unusable=str(error))
    require_one_unit_of_repetitions({loss: losses}, names_of_runs(rows, RUN_ID))
    return ComputeCell(setting, losses, np.log(rows[_COMPUTE].to_numpy(float)), rows[RUN_ID].to_numpy(str))


def _in_order_of_steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows so that the steps of each run rise: of equal compute, the last point is then the last step."""
    if "step" not in rows.columns:
        return rows
    run_numbers = pd.factorize(rows[RUN_ID])[0]
    steps = np.asarray(pd.to_numeric(rows["step"], errors="coerce"), float)
    order = np.lexsort((steps, run_numbers))
    has_order = np.array_equal(order, np.argsort(run_numbers, kind="stable"))
    return rows if has_order else rows.iloc[order]


def _compute(frame: pd.DataFrame, columns: ComputeColumns) -> tuple[np.ndarray, str]:
    """Return the compute of each row, NaN where it is not known, and its source in words."""
    sizes = (columns.params, columns.tokens)
    if columns.compute is not None and any(sizes):
        raise ArgumentError("{compute}: gives the compute already; leave {params} and {tokens} out")
    if any(sizes) and not all(sizes):
        raise ArgumentError("{params}, {tokens}: give both: C = 6 N D needs sizes and tokens")
    if columns.compute is not None:
        return _positive(frame, columns.compute, "compute"), columns.compute
    if not any(sizes):
        if COMPUTE_COLUMN in frame.columns:
            return _positive(frame, COMPUTE_COLUMN, "compute"), COMPUTE_COLUMN
        if not {SIZE_COLUMN, TOKEN_COLUMN} <= set(frame.columns):
            raise ArgumentError(
                "{compute}: the table has no column {name}; name its column of FLOPs with {compute}, or its sizes and "
                "tokens with {params} and {tokens}",
                name=COMPUTE_COLUMN,
            )
    params, tokens = columns.params or SIZE_COLUMN, columns.tokens or TOKEN_COLUMN
    product = _positive(frame, params, "params") * _positive(frame, tokens, "tokens")
    return FLOPS_PER_PARAMETER_AND_TOKEN * product, f"6 × {params} × {tokens}"


def _positive(frame: pd.DataFrame, column: str, argument: str) -> np.ndarray:
    """Return numbers that are zero or more, NaN where missing."""
    require_column(frame, column, argument)
    numbers, faulty = as_numbers(frame.loc[:, column])
    bad = faulty | (numbers < 0) | np.isinf(numbers) | beyond_range(numbers)
    if bad.any():
        first = int(np.argmax(bad))
        where, value = frame[WHERE].iloc[first], frame[column].iloc[first]
        raise LosslineError(f"{where}: {column} is {value}; compute, sizes and tokens are positive numbers")
    return numbers
