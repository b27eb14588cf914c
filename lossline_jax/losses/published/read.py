"""The published tables that can be read, and which of them a file is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from etils import epath

from lossline_jax.errors import LosslineError
from lossline_jax.losses.published import llms_on_the_line, loss_to_loss
from lossline_jax.losses.table import read_losses


@dataclass(frozen=True)
class PublishedSchema:
    """A table's form."""

    needs: tuple[str, ...]  # columns by which it is known
    read: Callable[[pd.DataFrame], pd.DataFrame]


SCHEMAS = {
    "llms-on-the-line": PublishedSchema(llms_on_the_line.NEEDS, llms_on_the_line.read),
    "loss-to-loss": PublishedSchema(loss_to_loss.NEEDS, loss_to_loss.read),
}


def read_published(path: epath.PathLike, schema: str | None = None) -> pd.DataFrame:
    """A published table of losses in the schema of ours, a row for each (checkpoint, set).

    A loss stands in the column of ours that means the same; where there is none it stands in `published_loss` alone,
    which always has the number as published. `loss_definition` says what it is. docs/losses_table.md has the details.

    Args:
        path: of a format that `read_losses` takes.
        schema: a key of `SCHEMAS`; None: by the columns.

    Raises:
        LosslineError: unreadable, of no known schema, or a cell that cannot be what its column says.
    """
    if schema is not None and schema not in SCHEMAS:
        raise LosslineError(f"no published schema {schema!r}; it is one of {', '.join(SCHEMAS)}")
    frame = read_losses(path)
    try:
        rows = SCHEMAS[_detected(frame.columns, schema)].read(frame)
    except LosslineError as error:
        raise LosslineError(f"{path}: {error}") from error
    if rows.empty:
        raise LosslineError(f"{path}: not one loss or accuracy in it")
    return rows


def _detected(columns: Sequence[str], schema: str | None) -> str:
    lacking = {name: [c for c in known.needs if c not in columns] for name, known in SCHEMAS.items()}
    if schema is not None and lacking[schema]:
        raise LosslineError(f"not a table of {schema}: it has no column {lacking[schema][0]!r}")
    matching_schemas = [name for name, columns in lacking.items() if not columns]
    if schema is None and not matching_schemas:
        wanted = "; ".join(f"{name} by the columns {', '.join(known.needs)}" for name, known in SCHEMAS.items())
        raise LosslineError(f"not a published table that is known here. Known is {wanted}")
    return schema or matching_schemas[0]
