"""What the readers share: columns of a wide published table become rows of ours."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.losses.cells import as_numbers
from lossline_jax.losses.loss_row import COLUMNS, LossRow

PUBLISHED_COLUMNS = (
    "published_loss",  # the number as it was published, whatever it means
    "published_column",  # where it stands in their table
    "variant",  # what their table says of a model besides our factors
)


@dataclass(frozen=True)
class PublishedSet:
    """Where a wide table has the numbers of one evaluation set: names of its columns."""

    name: str
    kind: Literal["validation", "task"]
    loss: str | None = None
    accuracy: str | None = None
    accuracy_per_char: str | None = None


@dataclass(frozen=True)
class Meaning:
    """What a published loss is: the words for it, and our column of that meaning, if there is one."""

    words: str | pd.Series
    column: str | None = None


def rows_of_ours(
    frame: pd.DataFrame, facts: pd.DataFrame, sets: Sequence[PublishedSet], meaning: Callable[[PublishedSet], Meaning]
) -> pd.DataFrame:
    """One row for each (row of `frame`, set) that has a number, in the order of `frame`, then of `sets`.

    Args:
        frame: the published table, a row a checkpoint.
        facts: the columns of ours that do not depend on the set, by the index of `frame`.
        sets: which columns hold what.
        meaning: of the loss of a set.

    Returns:
        the columns of `LossRow`, then `PUBLISHED_COLUMNS`; null where the published table says nothing.

    Raises:
        LosslineError: a cell that is not a number, named by row and column.
    """
    blocks = [_rows_of_one_set(frame, facts, each, meaning(each)) for each in sets]
    rows = pd.concat(blocks).sort_index(kind="stable")
    rows = rows[rows[["published_loss", "accuracy", "accuracy_per_char"]].notna().any(axis=1)]
    return rows.reset_index(drop=True)


def _rows_of_one_set(frame: pd.DataFrame, facts: pd.DataFrame, each: PublishedSet, meaning: Meaning) -> pd.DataFrame:
    loss = numbers(frame, each.loss)
    columns = {
        "eval_set": each.name,
        "eval_kind": each.kind,
        "published_loss": loss,
        "accuracy": numbers(frame, each.accuracy),
        "accuracy_per_char": numbers(frame, each.accuracy_per_char),
    }
    if meaning.column is not None:
        columns[meaning.column] = loss
    rows = facts.assign(**columns)
    rows["loss_definition"] = pd.Series(meaning.words, index=frame.index, dtype="string").where(loss.notna())
    rows["published_column"] = pd.Series(each.loss, index=frame.index, dtype="string").where(loss.notna())
    return _with_types(rows)


def _with_types(rows: pd.DataFrame) -> pd.DataFrame:
    kinds = {str: "string", int: "Int64", int | None: "Int64", float: "float64", float | None: "float64"}
    types = {f.name: kinds[f.type] for f in fields(LossRow)}
    types |= {"published_loss": "float64", "published_column": "string", "variant": "string"}
    return rows.reindex(columns=[*COLUMNS, *PUBLISHED_COLUMNS]).astype(types)


def numbers(frame: pd.DataFrame, column: str | None) -> pd.Series:
    """A column as float64, NaN where it is empty or infinite; all NaN where the table lacks it.

    Infinite is what an evaluation that scored nothing divides to.

    Raises:
        LosslineError: naming the row of the first cell that is not a number.
    """
    if column is None or column not in frame.columns:
        return pd.Series(np.nan, index=frame.index)
    values, faulty = as_numbers(frame[column])
    if faulty.any():
        row = int(np.argmax(faulty))
        raise LosslineError(f"{row_name(frame, row)}: {column} is {frame[column].iloc[row]!r}, which is not a number")
    return pd.Series(np.where(np.isfinite(values), values, np.nan), index=frame.index)


def row_name(frame: pd.DataFrame, position: int) -> str:
    """`line 7` of the file that `table.read_losses` read, or `row 7` where it has no lines."""
    return f"{str(frame.index.name).partition(' ')[0]} {frame.index[position]}"


def counts(frame: pd.DataFrame, column: str) -> pd.Series:
    """The same as whole numbers, rounded where the table has fractions."""
    return numbers(frame, column).round().astype("Int64")


def words(frame: pd.DataFrame, column: str) -> pd.Series:
    """A column as text, null where it is empty or the table lacks it."""
    if column not in frame.columns:
        return pd.Series(pd.NA, index=frame.index, dtype="string")
    return frame[column].astype("string")
