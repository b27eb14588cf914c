"""From any table of losses to the series that a forecast or a backtest works on."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.curves.compute_law import FLOPS_PER_PARAMETER_AND_TOKEN
from lossline_jax.fit.direction import refuse_accuracy_unit
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
from lossline_jax.fit.tables.other_unit import require_one_unit
from lossline_jax.fit.tables.pairing import pair_runs
from lossline_jax.fit.tables.rows import (
    WHERE,
    as_pandas,
    level_text,
    require_column,
    require_default_column,
    require_each_once,
)
from lossline_jax.fit.tables.wide import positive, wide_table

LEFT_OUT = ": left out: "  # between the name of a series and the reason, in notes
SIZE, LOSS, PAIRED = "size and tokens", "another loss of the same model", "the loss of a paired model"


@dataclass(frozen=True)
class Columns:
    """Where a table keeps what a forecast needs.

    Args:
        losses: what is predicted: columns, or evaluation sets of a long table.
        params: counts of parameters, the usual one first; a forecast tries each.
        tokens: training tokens.
        x: predict from this loss instead of from size and tokens.
        by: columns whose values divide the rows into groups, a series each.
        across: with x: column by whose values models are paired (equal in the first of `params` and in `tokens`): x is
            the loss of the one, y that of the other.
        cluster: the run of each row, where runs have several (checkpoints); None: `run_id`, where there is one.
        flops: training FLOPs; None: 6 times parameters times tokens.
        unit: loss column of a long table; None: nats_per_token. Losses that are columns take none.
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


@dataclass(frozen=True)
class TableSeries:
    """The series of a table, and a line each on what was left out of it and why."""

    series: tuple[LossSeries, ...]
    notes: tuple[str, ...]


def series_of_table(frame: pd.DataFrame, columns: Columns, merge_copies: bool = False) -> TableSeries:
    """One series for each loss and group (or ordered pair of groups).

    A group with a bad loss is left out and named; rows that lack something are dropped and counted.

    Args:
        merge_copies: count a run of one group that stands under two names once.

    Raises:
        LosslineError: a column or set that is not there, sizes that are not positive, two names of one run, or no
            series at all.
    """
    if columns.across and columns.x is None:
        raise ArgumentError("{across} pairs the losses of two models: say with {x} which loss of the first")
    if columns.x is not None and not columns.across:
        require_two_losses(columns.x, columns.losses)
    if not columns.params:
        raise ArgumentError("{params}: name at least one column of parameter counts")
    require_each_once("loss", columns.losses)
    frame = as_pandas(frame)
    if "eval_set" in frame.columns and columns.unit in frame.columns:
        refuse_accuracy_unit(columns.unit)
    wanted = dict.fromkeys([*columns.losses, *([columns.x] if columns.x else [])])
    columns = dataclasses.replace(columns, unit=loss_column(frame, list(wanted), columns.unit))
    wide = wide_table(frame, list(wanted), columns.unit, by=columns.by, run=columns.cluster)
    groups = (*columns.by, *([columns.across] if columns.across else []))
    for name in groups:
        require_column(wide, name)
    _require_sizes(wide, columns)
    run = run_column(wide, columns.cluster)
    size_columns = (*columns.params, columns.tokens)
    wide, notes = one_run_each(wide, run, tuple(wanted), groups, merge=merge_copies, sizes=size_columns)
    sizes = {name: positive(wide, name) for name in columns.params}
    tokens = positive(wide, columns.tokens)
    total = next(iter(sizes.values()))
    budget = positive(wide, columns.flops) if columns.flops else FLOPS_PER_PARAMETER_AND_TOKEN * total * tokens
    if (endless := np.isinf(budget)).any():
        where = wide[WHERE].iloc[int(np.argmax(endless))]
        raise LosslineError(f"{where}: 6 times {columns.params[0]} times {columns.tokens} is no number of FLOPs")
    wide = wide.assign(**{f"_size_{name}": size for name, size in sizes.items()}, _tokens=tokens, _budget=budget)
    wide["_final"] = budget if run is None else wide.groupby(run)["_budget"].transform("max")
    empty = [loss for loss in wanted if wide[loss].isna().all()]
    is_long = "eval_set" in frame.columns and not set(wanted) <= set(frame.columns)
    where = f" in column {columns.unit}" if is_long else ""
    if columns.x in empty:
        raise LosslineError(f"{columns.x}: no row has a value{where}")
    notes += [f"{loss}{LEFT_OUT}no row has a value{where}" for loss in empty]
    columns = dataclasses.replace(columns, losses=tuple(loss for loss in columns.losses if loss not in empty))
    duplicated = int(wide.duplicated([*columns.by, *sizes, columns.tokens, *wanted]).sum())
    if duplicated:
        notes.append(f"{duplicated} rows {COUNT_EACH_TIME}")
    series = [loss_series for pair in _pairs(wide, columns, notes) for loss_series in _of_pair(*pair, columns, notes)]
    if not series:
        raise LosslineError(_why_nothing(notes, columns))
    return TableSeries(tuple(series), tuple(notes))


def _require_sizes(wide: pd.DataFrame, columns: Columns) -> None:
    """Raise ArgumentError, which names the argument, where a column of sizes, tokens or budgets is not there."""
    for name in columns.params:
        require_default_column(wide, name, "params")
    require_default_column(wide, columns.tokens, "tokens")
    if columns.flops:
        require_default_column(wide, columns.flops, "flops")


def _why_nothing(notes: list[str], columns: Columns) -> str:
    """The reason that the first series was left out for, and how many more were."""
    reasons = [note for note in notes if LEFT_OUT in note]
    if reasons:
        return reasons[0] + (f" (and {len(reasons) - 1} more series left out)" if len(reasons) > 1 else "")
    reason = f": {columns.across} has one level only" if columns.across else ""
    return f"the table has no series to predict{reason}"


def _pairs(wide: pd.DataFrame, columns: Columns, notes: list[str]):
    """(label, kind, rows of x, rows of y) of each group, or of each ordered pair of groups."""
    groups = list(wide.groupby(list(columns.by), sort=True, dropna=False)) if columns.by else [((), wide)]
    for key, rows in groups:
        label = group_label(dict(zip(columns.by, key, strict=True)))
        if columns.across is None:
            yield label, SIZE if columns.x is None else LOSS, rows, rows
            continue
        if nameless := int(rows[columns.across].isna().sum()):
            notes.append(f"{label or 'all'}: {nameless} rows without {columns.across} dropped")
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
                yield name, PAIRED, pairs.first, pairs.second


def _of_pair(label: str, kind: str, x_rows: pd.DataFrame, y_rows: pd.DataFrame, columns: Columns, notes: list[str]):
    for loss in columns.losses:
        if columns.across is None and loss == columns.x:
            continue
        arrow = loss if columns.x is None else f"{columns.x} -> {loss}"
        name = f"{label}: {arrow}" if label else arrow
        try:
            y = numeric_losses(y_rows, loss, loss)
            x = None if columns.x is None else numeric_losses(x_rows, columns.x, columns.x)
            if x is not None:
                require_several_values(x, y, columns.x)
        except LosslineError as error:
            notes.append(f"{name}{LEFT_OUT}{error}")
            continue
        sizes = {count: y_rows[f"_size_{count}"].to_numpy(float) for count in columns.params}
        sizes = {count: size for count, size in sizes.items() if not np.all(np.isnan(size))}
        if not sizes:
            notes.append(f"{name}{LEFT_OUT}no row has a count of parameters")
            continue
        rows = RunPoints(y_rows["_budget"].to_numpy(float), sizes, y_rows["_tokens"].to_numpy(float), x)
        rows = dataclasses.replace(rows, final_budget=y_rows["_final"].to_numpy(float))
        keep = np.isfinite(y) & np.isfinite(rows.budget) & np.isfinite(rows.tokens)
        keep &= np.all([np.isfinite(size) for size in sizes.values()], axis=0)
        keep &= np.isfinite(x) if x is not None else True
        if not keep.any():
            notes.append(f"{name}{LEFT_OUT}no row has loss, size and tokens")
            continue
        if dropped := int((~keep).sum()):
            notes.append(f"{name}: {dropped} rows without a loss, size or tokens dropped")
        run = run_column(y_rows, columns.cluster)
        runs = np.array(names_of_runs(y_rows, run))[keep]
        require_one_unit(y[keep], [*rows[keep].sizes.values(), rows[keep].tokens], runs, loss)
        if x is not None:
            require_one_unit(y[keep], [x[keep]], runs, f"{loss} against {columns.x}")
        yield LossSeries(name, kind, loss, rows[keep], y[keep])
