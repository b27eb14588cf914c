"""Divide the rows of a table into groups."""

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd


def row_groups(frame: pd.DataFrame, by: Sequence[str]) -> Iterator[tuple[dict[str, Any], pd.DataFrame]]:
    """Yield each group of rows that are equal in the columns `by`, sorted by their values.

    Args:
        frame: the table. Rows with a missing value in `by` are a group too.
        by: names of columns. Without columns, all rows are one group.

    Yields:
        The value of each column of `by`, and the rows of the group.
    """
    if not by:
        yield {}, frame
        return
    for key, rows in frame.groupby(list(by), sort=True, dropna=False):
        # pandas types the key as Hashable; it is a tuple where the columns are given as a list
        yield dict(zip(by, key, strict=True)), rows  # pyright: ignore[reportArgumentType]
