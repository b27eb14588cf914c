"""Read the series that a forecast or a backtest works on from any table of losses. Read `series_of_table` first."""

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.compute_law import FLOPS_PER_PARAMETER_AND_TOKEN
from lossline_jax.fit.direction import refuse_accuracy_unit
from lossline_jax.fit.option_types import require_field_types, require_options
from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.fit.tables.columns import (
    COUNT_EACH_TIME,
    group_label,
    loss_column,
    names_of_runs,
    numeric_losses,
    require_several_values,
    require_two_losses,
    run_column,
)
from lossline_jax.fit.tables.copies import one_run_each
from lossline_jax.fit.tables.groups import row_groups
from lossline_jax.fit.tables.other_unit import require_one_unit
from lossline_jax.fit.tables.pairing import pair_runs
from lossline_jax.fit.tables.rows import (
    WHERE,
    as_names,
    as_pandas,
    level_text,
    require_column,
    require_different_columns,
    require_each_once,
)
from lossline_jax.fit.tables.wide import positive, wide_table

UNKNOWN = "unknown"  # the name of the count of parameters in a table that has none
LEFT_OUT = ": left out: "  # in notes, between the name of a series and the reason
# The kinds of series: y is predicted from one of these.
SIZE, LOSS, PAIRED = "size and tokens", "another loss of the same model", "the loss of a paired model"


@dataclass(frozen=True)
class Columns:
    """The columns of a table that a forecast needs.

    Args:
        losses: the losses to predict: columns, or evaluation sets of a long table.
        params: columns of parameter counts, the usual one first. A forecast tries each.
        tokens: column of training tokens.
        x: the loss to predict from. None: predict from size and tokens.
        by: columns whose values divide the rows into groups. Each group is a series.
        across: column by whose values models are paired, where they are equal in the first column of `params` and in
            `tokens`. It needs `x`: x is the loss of the first model and y the loss of the second. None: x and y are
            losses of the same model.
        cluster: column of the run of each row, for runs with several rows (checkpoints). None: `run_id`, if the table
            has it.
        flops: column of training FLOPs. None: 6 times parameters times tokens.
        unit: loss column of a long table. None: nats_per_token. It must be None where losses are columns.

    Raises:
        ArgumentError: a field has a value of a wrong type.
    """

    losses: tuple[str, ...]
    params: tuple[str, ...] = ("params_total",)
    tokens: str = "tokens_seen"
    x: str | None = None
    by: tuple[str, ...] = ()
    across: str | None = None
    flops: str | None = None
    unit: str | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        require_field_types(self)


@dataclass(frozen=True)
class TableSeries:
    """The series of a table, and one line for each thing that was left out, with the reason."""

    series: tuple[LossSeries, ...]
    notes: tuple[str, ...]


def series_of_table(
    frame: pd.DataFrame, columns: Columns, merge_copies: bool = False, *, budgets_optional: bool = False
) -> TableSeries:
    """Read one series for each loss and group, or for each loss and ordered pair of groups.

    A group with a bad loss is left out, and a note names it. Rows with a missing value are dropped and counted.

    Args:
        frame: a wide table, or a long table that lossline wrote.
        columns: the columns to read.
        merge_copies: True: count a run of one group that has two names once.
        budgets_optional: True: a loss that is predicted from another loss of the same model needs no sizes, tokens or
            FLOPs. Where the table has none, all rows count as one budget, and predictions have no interval.

    Raises:
        LosslineError: a column or set is missing, sizes are not positive, one run has two names, or there is no series.
    """
    require_options("columns", columns, Columns)
    names = {field: as_names(getattr(columns, field)) for field in ("losses", "params", "by")}
    columns = dataclasses.replace(columns, **names)
    if columns.across and columns.x is None:
        raise ArgumentError("{across} pairs the losses of two models; name with {x} the loss of the first model")
    if columns.x is not None and not columns.across:
        require_two_losses(columns.x, columns.losses)
    if not columns.params:
        raise ArgumentError("{params}: name at least one column of parameter counts")
    require_each_once("loss", columns.losses)
    require_each_once("column of parameters", columns.params)
    for loss, size in itertools.product(columns.losses, columns.params):
        sizes = {"{params}": size, "{tokens}": columns.tokens, "{flops}": columns.flops}
        require_different_columns({"{losses}": loss, "{x}": columns.x if columns.across is None else None} | sizes)
        require_different_columns({"{x}": columns.x} | sizes)
    frame = as_pandas(frame)
    if columns.unit is not None and {"eval_set", columns.unit} <= set(frame.columns):
        refuse_accuracy_unit(columns.unit)
    needed_losses = list(dict.fromkeys((*columns.losses, *((columns.x,) if columns.x else ()))))
    unit = loss_column(frame, needed_losses, columns.unit)
    columns = dataclasses.replace(columns, unit=unit)
    arguments = {name: "losses" if name in columns.losses else "x" for name in needed_losses}
    wide = wide_table(frame, needed_losses, unit, by=columns.by, run=columns.cluster, arguments=arguments)
    groups = (*columns.by, *([columns.across] if columns.across else []))
    for name in groups:
        require_column(wide, name, "by" if name in columns.by else "across")
    columns = _without_defaults(wide, columns) if budgets_optional else columns
    _require_sizes(wide, columns)
    run = run_column(wide, columns.cluster)
    count_columns = tuple(name for name in (*columns.params, columns.tokens) if name)
    wide, notes = one_run_each(wide, run, tuple(needed_losses), groups, merge=merge_copies, sizes=count_columns)
    wide = _with_sizes(wide, columns, run)
    empty = [loss for loss in needed_losses if not wide[loss].notna().to_numpy().any()]
    is_long = "eval_set" in frame.columns and not set(needed_losses) <= set(frame.columns)
    where = f" in column {unit}" if is_long else ""
    if columns.x in empty:
        raise LosslineError(f"{columns.x}: no row has a value{where}")
    notes += [f"{loss}{LEFT_OUT}no row has a value{where}" for loss in empty]
    columns = dataclasses.replace(columns, losses=tuple(loss for loss in columns.losses if loss not in empty))
    duplicated = int(wide.duplicated([*columns.by, *dict.fromkeys(count_columns), *needed_losses]).sum())
    if duplicated:
        notes.append(f"{duplicated} rows {COUNT_EACH_TIME}")
    series = [part for group in _groups(wide, columns, notes) for part in _series_of_group(group, columns, notes)]
    if not series:
        raise LosslineError(_why_no_series(notes, columns))
    return TableSeries(tuple(series), tuple(notes))


def _without_defaults(wide: pd.DataFrame, columns: Columns) -> Columns:
    """Return the columns without sizes and tokens where a line needs none, the table has none and nobody named one."""
    defaults = Columns(columns.losses)
    is_line = columns.x is not None and columns.across is None
    named = (columns.params, columns.tokens, columns.flops) != (defaults.params, defaults.tokens, defaults.flops)
    present = {*defaults.params, defaults.tokens} & set(wide.columns)
    return dataclasses.replace(columns, params=(), tokens="") if is_line and not named and not present else columns


def _require_sizes(wide: pd.DataFrame, columns: Columns) -> None:
    """Raise ArgumentError, which names the argument, where a column of sizes, tokens or budgets is missing."""
    for name in columns.params:
        require_column(wide, name, "params")
    if columns.tokens:
        require_column(wide, columns.tokens, "tokens")
    if columns.flops:
        require_column(wide, columns.flops, "flops")


def _with_sizes(wide: pd.DataFrame, columns: Columns, run: str | None) -> pd.DataFrame:
    """Add the columns `_size_NAME`, `_tokens`, `_budget` and `_final` (the largest budget of the row's run).

    Without columns of sizes, neither sizes nor tokens are known, and every row has the same budget.
    """
    if not columns.params:
        return wide.assign(_tokens=np.nan, _budget=1.0, _final=1.0)
    sizes = {name: positive(wide, name) for name in columns.params}
    tokens = positive(wide, columns.tokens)
    if columns.flops:
        budget = positive(wide, columns.flops)
    else:
        budget = FLOPS_PER_PARAMETER_AND_TOKEN * sizes[columns.params[0]] * tokens
    if (infinite := np.isinf(budget)).any():
        where = wide[WHERE].iloc[int(np.argmax(infinite))]
        raise LosslineError(
            f"{where}: 6 times {columns.params[0]} times {columns.tokens} is too large for a number of FLOPs; correct "
            "one of the two"
        )
    wide = wide.assign(**{f"_size_{name}": size for name, size in sizes.items()}, _tokens=tokens, _budget=budget)
    wide["_final"] = budget if run is None else wide.groupby(run)["_budget"].transform("max")
    return wide


def _why_no_series(notes: list[str], columns: Columns) -> str:
    """Return the reason why the first series was left out, and the number of other series that were."""
    reasons = [note for note in notes if LEFT_OUT in note]
    if reasons:
        return reasons[0] + (f" (and {len(reasons) - 1} more series left out)" if len(reasons) > 1 else "")
    reason = f": {columns.across} has one level only" if columns.across else ""
    return f"the table has no series to predict{reason}"


@dataclass(frozen=True, eq=False)
class _Group:
    """The rows of one group, or of one ordered pair of groups."""

    label: str  # empty: the whole table is one group
    kind: str
    x_rows: pd.DataFrame  # rows that have x
    y_rows: pd.DataFrame  # rows that have y, in the order of `x_rows`


def _groups(wide: pd.DataFrame, columns: Columns, notes: list[str]) -> Iterator[_Group]:
    """Yield each group, or each ordered pair of groups. Notes on what is left out are added to `notes`."""
    for values, rows in row_groups(wide, columns.by):
        label = group_label(values)
        if columns.across is None:
            yield _Group(label, SIZE if columns.x is None else LOSS, rows, rows)
            continue
        if without_level := int(rows[columns.across].isna().to_numpy().sum()):
            notes.append(f"{label or 'all'}: {without_level} rows without {columns.across} dropped")
        levels = [(level_text(level), part) for level, part in rows.groupby(columns.across, sort=True)]
        for first, x_rows in levels:
            for second, y_rows in levels:
                if first == second:
                    continue
                pairs = pair_runs(x_rows, y_rows, [f"_size_{columns.params[0]}", "_tokens"])
                between = f"{columns.across} {first} -> {second}"
                name = f"{label}, {between}" if label else between
                if pairs.num_alone:
                    notes.append(f"{name}: {pairs.num_alone} models without a partner of equal size and tokens")
                if pairs.first.empty:
                    notes.append(f"{name}{LEFT_OUT}no two models of equal size and tokens")
                    continue
                yield _Group(name, PAIRED, pairs.first, pairs.second)


def _series_of_group(group: _Group, columns: Columns, notes: list[str]) -> Iterator[LossSeries]:
    """Yield the series of each loss of a group. Notes on what is left out are added to `notes`."""
    for loss in columns.losses:
        if columns.across is None and loss == columns.x:
            continue
        arrow = loss if columns.x is None else f"{columns.x} -> {loss}"
        name = f"{group.label}: {arrow}" if group.label else arrow
        try:
            y = numeric_losses(group.y_rows, loss, loss)
            x = None
            if columns.x is not None:
                x = numeric_losses(group.x_rows, columns.x, columns.x)
                require_several_values(x, y, columns.x)
        except LosslineError as error:
            notes.append(f"{name}{LEFT_OUT}{error}")
            continue
        sizes = {count: group.y_rows[f"_size_{count}"].to_numpy(float) for count in columns.params}
        sizes = {count: size for count, size in sizes.items() if not np.all(np.isnan(size))}
        if not sizes and columns.params:
            notes.append(f"{name}{LEFT_OUT}no row has a count of parameters")
            continue
        budget, tokens, final_budget = (
            group.y_rows[column].to_numpy(float) for column in ("_budget", "_tokens", "_final")
        )
        rows = RunPoints(budget, sizes or {UNKNOWN: np.full(y.shape, np.nan)}, tokens, x, final_budget)
        keep = np.isfinite(y) & np.isfinite(rows.budget)
        if sizes:
            keep &= np.all([np.isfinite(numbers) for numbers in (*sizes.values(), rows.tokens)], axis=0)
        keep &= np.isfinite(x) if x is not None else True
        if not keep.any():
            notes.append(f"{name}{LEFT_OUT}no row has {'loss, size and tokens' if sizes else 'both losses'}")
            continue
        if dropped := int((~keep).sum()):
            notes.append(f"{name}: {dropped} rows without a loss{', size or tokens' if sizes else ''} dropped")
        run = run_column(group.y_rows, columns.cluster)
        runs = np.array(names_of_runs(group.y_rows, run))[keep].tolist()
        if sizes:
            require_one_unit(y[keep], [*rows[keep].sizes.values(), rows[keep].tokens], runs, loss)
        if x is not None:
            require_one_unit(y[keep], [x[keep]], runs, f"{loss} against {columns.x}")
        yield LossSeries(name, group.kind, loss, rows[keep], y[keep])
