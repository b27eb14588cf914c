"""Turn the columns of a wide published table into rows of the losses table. The readers of this package share it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.cells import as_numbers
from lossline_jax.losses.loss_row import COLUMNS, LossRow

PUBLISHED_COLUMNS = (
    "published_loss",  # the published number, whatever its definition
    "published_column",  # the column of the published table that has the number
    "variant",  # settings of the model that the published table has and the factors of lossline do not cover
)


@dataclass(frozen=True)
class PublishedSet:
    """An evaluation set of a wide table, and the columns that have its numbers. None: the table has no such column."""

    name: str
    kind: Literal["validation", "task"]
    loss: str | None = None
    accuracy: str | None = None
    accuracy_per_char: str | None = None


@dataclass(frozen=True)
class Meaning:
    """A definition of a published loss."""

    words: str | pd.Series  # the definition; a Series if it depends on the row
    column: str | None = None  # the column of the losses table with this meaning. None: there is no such column


def rows_of_ours(
    frame: pd.DataFrame, facts: pd.DataFrame, sets: Sequence[PublishedSet], meaning: Callable[[PublishedSet], Meaning]
) -> pd.DataFrame:
    """Return one row for each (row of `frame`, set) that has a number, in the order of `frame`, then of `sets`.

    Args:
        frame: the published table, with one row for each checkpoint.
        facts: the columns of the losses table that do not depend on the set, with the index of `frame`.
        sets: the evaluation sets and their columns.
        meaning: returns the definition of the loss of a set.

    Returns:
        The columns of `LossRow`, then `PUBLISHED_COLUMNS`; null if the published table has no value.

    Raises:
        LosslineError: a cell is not a number. The message names the row and the column.
    """
    blocks = [_rows_of_one_set(frame, facts, published_set, meaning(published_set)) for published_set in sets]
    rows = pd.concat(blocks).sort_index(kind="stable")
    has_number = rows[["published_loss", "accuracy", "accuracy_per_char"]].notna().any(axis=1)
    return rows.loc[has_number].reset_index(drop=True)


def _rows_of_one_set(
    frame: pd.DataFrame, facts: pd.DataFrame, published_set: PublishedSet, meaning: Meaning
) -> pd.DataFrame:
    loss = numbers(frame, published_set.loss)
    columns = {
        "eval_set": published_set.name,
        "eval_kind": published_set.kind,
        "published_loss": loss,
        "accuracy": numbers(frame, published_set.accuracy),
        "accuracy_per_char": numbers(frame, published_set.accuracy_per_char),
    }
    if meaning.column is not None:
        columns[meaning.column] = loss
    rows = facts.assign(**columns)
    rows["loss_definition"] = pd.Series(meaning.words, index=frame.index, dtype="string").where(loss.notna())
    rows["published_column"] = pd.Series(published_set.loss, index=frame.index, dtype="string").where(loss.notna())
    return _with_types(rows)


def _with_types(rows: pd.DataFrame) -> pd.DataFrame:
    kinds = {str: "string", int: "Int64", int | None: "Int64", float: "float64", float | None: "float64"}
    types = {f.name: kinds[f.type] for f in fields(LossRow)}
    types |= {"published_loss": "float64", "published_column": "string", "variant": "string"}
    return rows.reindex(columns=[*COLUMNS, *PUBLISHED_COLUMNS]).astype(types)


def numbers(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """Return a column as float64, with NaN for an empty or infinite cell, and all NaN for a missing column.

    A published value is infinite if its evaluation scored nothing and divided by zero.

    Args:
        frame: the published table.
        column: the name of the column. None: the table has no such column.

    Raises:
        LosslineError: a cell is not a number. The message names the row of the first such cell.
    """
    if column is None or column not in frame.columns:
        return pd.Series(np.nan, index=frame.index)
    values, faulty = as_numbers(frame.loc[:, column])
    if faulty.any():
        row = int(np.argmax(faulty))
        raise LosslineError(f"{row_name(frame, row)}: {column} is {frame[column].iloc[row]!r}, which is not a number")
    return pd.Series(np.where(np.isfinite(values), values, np.nan), index=frame.index)


def row_name(frame: pd.DataFrame, position: int) -> str:
    """Return the name of a row in messages: `line 7` of a text file, or `row 7` of a file without lines.

    Args:
        frame: a table with the index of `table.read_losses`.
        position: the position of the row in `frame`, from 0.
    """
    return f"{str(frame.index.name).partition(' ')[0]} {frame.index[position]}"


def counts(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as whole numbers, null where it has none. Fractions are rounded. See `numbers`."""
    return numbers(frame, column).round().astype("Int64")


def words(frame: pd.DataFrame, column: str) -> pd.Series:
    """Return a column as text, with null for an empty cell, and all null for a missing column."""
    if column not in frame.columns:
        return pd.Series(pd.NA, index=frame.index, dtype="string")
    return frame.loc[:, column].astype("string")
