"""Find the column of runs in a table that Weights & Biases exported."""

import pandas as pd

from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.tables.rows import RUN_ID

NAME, ID, STATE = "Name", "ID", "State"
# Columns that an export has beside the name of a run: those of the page of runs, and those of a history.
MARKS = frozenset({STATE, "Runtime", "Created", "Sweep", "_step", "_runtime", "_timestamp", "_wandb"})


def wandb_run_column(frame: pd.DataFrame) -> str | None:
    """Return the column that names the runs of an export of Weights & Biases. None: the table is no such export.

    Args:
        frame: the table.

    Raises:
        LosslineError: the table is the export of one chart, where each run is a column.
        ArgumentError: two runs of the page of runs have one name, and the export has no column of ids.
    """
    if charts := [name for name in map(str, frame.columns) if " - " in name and name.endswith(("__MIN", "__MAX"))]:
        raise LosslineError(
            f"column {charts[0]!r}: an export of one chart of Weights & Biases, where each run is a column; export the "
            "table of runs, or the histories with one row for each run and step"
        )
    if RUN_ID in frame.columns or NAME not in frame.columns or not MARKS & set(frame.columns):
        return None
    if STATE not in frame.columns:  # a history, with several rows for each run
        return NAME
    twice = frame[NAME].duplicated() & frame[NAME].notna()
    if not twice.any():
        return NAME
    if ID in frame.columns:
        return ID
    raise ArgumentError(
        "two runs are called {name!r}; export the column ID too, or name a column that tells runs apart with {cluster}",
        name=frame.loc[twice, NAME].iloc[0],
    )
