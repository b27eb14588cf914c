"""Read a published table of losses, and detect which of the known tables a file holds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.losses.published import llms_on_the_line, loss_to_loss
from lossline_jax.losses.table import read_losses


@dataclass(frozen=True)
class PublishedSchema:
    """A published table that lossline can read: the columns that identify the table, and its reader."""

    needs: tuple[str, ...]  # a file with all of these columns is this table
    read: Callable[[pd.DataFrame], pd.DataFrame]


SCHEMAS = {
    "llms-on-the-line": PublishedSchema(llms_on_the_line.NEEDS, llms_on_the_line.read),
    "loss-to-loss": PublishedSchema(loss_to_loss.NEEDS, loss_to_loss.read),
}


def read_published(path: epath.PathLike, schema: str | None = None) -> pd.DataFrame:
    """Read a published table of losses into the schema of the losses table, one row for each (checkpoint, set).

    `published_loss` always has the published number, and `loss_definition` says what the number means. If a column of
    the losses table has the same meaning, this column has the number too. docs/losses_table.md has the details.

    Args:
        path: a file that `read_losses` can read.
        schema: a key of `SCHEMAS`. None: detected from the columns.

    Raises:
        LosslineError: the file cannot be read, has no known schema, or has a cell that does not fit its column.
    """
    if schema is not None and schema not in SCHEMAS:
        raise LosslineError(f"no published schema {schema!r}; it is one of {', '.join(SCHEMAS)}")
    frame = read_losses(path)
    try:
        rows = SCHEMAS[_detected_schema(list(frame.columns), schema)].read(frame)
    except LosslineError as error:
        raise LosslineError(f"{path}: {error}") from error
    if rows.empty:
        raise LosslineError(f"{path}: has no loss and no accuracy")
    return rows


def _detected_schema(columns: Sequence[str], schema: str | None) -> str:
    missing = {name: [c for c in known.needs if c not in columns] for name, known in SCHEMAS.items()}
    if schema is not None and missing[schema]:
        raise LosslineError(f"not a table of {schema}: it has no column {missing[schema][0]!r}")
    matching_schemas = [name for name, columns in missing.items() if not columns]
    if schema is None and not matching_schemas:
        known_tables = "; ".join(f"{name} by the columns {', '.join(known.needs)}" for name, known in SCHEMAS.items())
        raise LosslineError(f"not a published table that is known here; the known tables are {known_tables}")
    return schema or matching_schemas[0]
