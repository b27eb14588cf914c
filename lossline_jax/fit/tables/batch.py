"""The batch: a factor of its own where runs differ in it alone, and else a part of the other factors."""

from collections.abc import Sequence

import pandas as pd

from lossline_jax.fit.tables.rows import level_texts

BATCH = "batch"


def follows_others(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Return True if the batch differs between runs, and never between runs that are equal in all other factors.

    A study of contexts with a fixed number of sequences a step is an example. No setting could be compared there, if
    the batch counted as a factor.

    Args:
        frame: the table.
        factors: factor columns of the table. The batch may be one of them.
    """
    others = [name for name in factors if name != BATCH]
    if BATCH not in frame.columns or not others:
        return False
    levels = frame[[*others, BATCH]].drop_duplicates().apply(level_texts).drop_duplicates()
    return levels.loc[:, BATCH].nunique() > 1 and len(levels.loc[:, others].drop_duplicates()) == len(levels)


def note_on_batch(frame: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """Return a note if the batch differs between settings and is no factor, or an empty list.

    Args:
        frame: the table.
        factors: the factor columns.
    """
    if BATCH in factors or not follows_others(frame, factors):
        return []
    return [
        "batch: no two settings differ in it alone, so it is no factor; where settings of another factor differ in "
        "batch too, the gap belongs to both"
    ]
