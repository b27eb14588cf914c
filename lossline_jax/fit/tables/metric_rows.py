"""Turn a long table with one row for each metric into a wide table with one column for each metric."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.tables.rows import WHERE, level_text, require_column, require_runs, row_names
from lossline_jax.losses.cells import as_numbers, is_missing

STEPS = ("step", "_step", "Step", "global_step")  # names of the column of steps in common logs


@dataclass(frozen=True)
class MetricColumns:
    """The columns of a long table.

    Attributes:
        metric: column of the name of a metric, such as eval/loss.
        value: column of its value.
        run: column that names the run of a row.
        step: column of the checkpoint. None: the first of `STEPS` that the table has, or one row of a metric for a run.
    """

    metric: str
    value: str
    run: str
    step: str | None = None


def spread_metrics(frame: pd.DataFrame, columns: MetricColumns) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return one row for each run and step, with a column for each metric, and the columns that were left out.

    A further column is kept if it is equal in all rows of each run and step.

    Args:
        frame: a table with one row for each run, step and metric.
        columns: the columns to read.

    Raises:
        LosslineError: a column is missing, a row has no run, step or metric, a value is not a number, a metric has the
            name of a column, or a run has a metric twice at a step.
    """
    require_column(frame, columns.metric, "metric_column")
    require_column(frame, columns.value, "value_column")
    require_column(frame, columns.run, "cluster")
    if columns.step is not None:
        require_column(frame, columns.step, "step_column")
    step = columns.step or next((name for name in STEPS if name in frame.columns), None)
    keys = [columns.run, *([step] if step else [])]
    where = row_names(frame)
    require_runs(frame, columns.run)
    for name in (columns.metric, *keys[1:]):
        if (missing := is_missing(frame.loc[:, name])).any():
            raise LosslineError(f"{where[int(np.argmax(missing))]}: {name} is empty; fill it in, or leave the row out")
    values, faulty = as_numbers(frame.loc[:, columns.value])
    if faulty.any():
        first = int(np.argmax(faulty))
        raise LosslineError(f"{where[first]}: {columns.value} is {frame[columns.value].iloc[first]}, not a number")
    rows = frame.reset_index(drop=True).assign(**{columns.value: values})
    rows[columns.metric] = rows[columns.metric].map(level_text)
    _require_one_row_each(rows, [*keys, columns.metric], where, has_step=step is not None)
    facts = [name for name in rows.columns if name not in (*keys, columns.metric, columns.value)]
    checkpoints = rows.groupby(keys, sort=False)
    left_out = tuple(name for name in facts if (checkpoints[name].nunique(dropna=False) > 1).to_numpy(bool).any())
    kept = [name for name in facts if name not in left_out]
    wide = rows.drop_duplicates(keys)[[*keys, *kept]].set_index(keys)
    metrics = rows.pivot(index=keys, columns=columns.metric, values=columns.value)
    if taken := [name for name in metrics.columns if name in (*keys, *kept)]:
        raise LosslineError(f"metric {taken[0]!r} has the name of a column; rename one of the two")
    wide = wide.join(metrics).reset_index()
    names = [
        ", ".join([f"run {run}", *(f"step {level_text(number)}" for number in numbers)])
        for run, *numbers in wide[keys].astype(object).to_numpy()
    ]
    wide.index = pd.Index(names, name=WHERE)
    wide.columns.name = None
    return wide, left_out


def _require_one_row_each(rows: pd.DataFrame, keys: list[str], where: list[str], *, has_step: bool) -> None:
    """Raise LosslineError if two rows have one metric of one checkpoint."""
    repeated = rows.duplicated(keys).to_numpy()
    if not repeated.any():
        return
    second = int(np.argmax(repeated))
    first = int(np.argmax((rows[keys] == rows[keys].iloc[second]).all(axis=1).to_numpy()))
    run, metric = rows[keys[0]].iloc[second], rows[keys[-1]].iloc[second]
    same = f"{where[second]}: run {run} has {metric!r} a second time, after {where[first]}"
    if has_step:
        raise ArgumentError(
            "{same}, at one {step}; keep one of them, or name the steps with {step_column}", same=same, step=keys[1]
        )
    raise ArgumentError("{same}; name the column of the steps with {step_column}", same=same)
