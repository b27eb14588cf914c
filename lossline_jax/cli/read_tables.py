"""Read the table of a verb, in the form that its flags say."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tyro.conf import arg

from lossline_jax import logs
from lossline_jax.errors import LosslineError
from lossline_jax.losses.table import read_losses

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class TableForm:
    """Flags for the form of a table: its column of runs, and the columns of a table with one row for each metric."""

    run: Annotated[str | None, arg(aliases=("--cluster",))] = None
    """Column that names the run a row belongs to. Whole runs are resampled and held out. Default: run_id, or the Name
    of an export of Weights & Biases."""
    metric_column: str | None = None
    """Column with the names of metrics, for a long table with one row for each metric; with --value-column and --run.
    The metrics then are the columns that other flags name."""
    value_column: str | None = None
    """Column with the values of --metric-column."""
    step_column: str | None = None
    """Column of the step, for --metric-column. Default: step, _step, Step or global_step, if the table has one."""


@dataclass(frozen=True, eq=False)
class OpenTable:
    """A table, and the column that names the run of a row. None: `run_id`, if the table has it."""

    frame: "pd.DataFrame"
    run: str | None


def open_table(table: str, form: TableForm) -> OpenTable:
    """Read a table with one column for each loss, or a long table of lossline.

    Args:
        table: the file.
        form: the flags for its form.

    Raises:
        LosslineError: the file is not a table, a column is missing, or the flags do not belong together.
    """
    from lossline_jax.fit.tables.metric_rows import MetricColumns, spread_metrics
    from lossline_jax.fit.tables.wandb_runs import ID, NAME, wandb_run_column

    if not table.strip():
        raise LosslineError("TABLE: is empty; name a table, such as losses.csv")
    frame = read_losses(table, [form.run] if form.run else [NAME, ID])
    run = form.run or wandb_run_column(frame)
    if run and not form.run:
        logs.info(f"{table}: column {run} names the runs, as in exports of Weights & Biases (--run names another)")
    if form.metric_column is None or form.value_column is None:
        if form.metric_column or form.value_column or form.step_column:
            raise LosslineError("--metric-column, --value-column: give both, for a table with one row for each metric")
        return OpenTable(frame, run)
    columns = MetricColumns(form.metric_column, form.value_column, run or "run_id", form.step_column)
    frame, left_out = spread_metrics(frame, columns)
    if left_out:
        logs.info(f"{table}: columns that differ between the metrics of one checkpoint left out: {', '.join(left_out)}")
    return OpenTable(frame, run)
