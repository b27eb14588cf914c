"""The batch: a factor of its own where runs differ in it alone, and else a part of the other factors."""

from collections.abc import Sequence

import pandas as pd

from lossline_jax.fit.tables.rows import NOT_STATED, level_texts

BATCH = "batch"


def batch_is_factor(frame: pd.DataFrame, factors: Sequence[str]) -> bool:
    """Return True if some runs differ in the batch and in no other factor.

    A study of contexts with a fixed number of sequences a step has no such runs: its batch follows the context. If the
    batch counted as a factor there, no two settings would differ in the context alone. Rows that do not state a batch,
    such as those of imported models, are left out.

    Args:
        frame: the table.
        factors: factor columns of the table. The batch may be one of them.
    """
    others = [name for name in factors if name != BATCH]
    levels = _stated_levels(frame, others)
    return levels.loc[:, BATCH].nunique() > 1 and len(levels.loc[:, others].drop_duplicates()) < len(levels)


def note_on_batch(frame: pd.DataFrame, factors: Sequence[str]) -> list[str]:
    """Return a note if the batch differs between settings and is no factor, or an empty list.

    Args:
        frame: the table.
        factors: the factor columns.
    """
    if BATCH in factors or _stated_levels(frame, factors).loc[:, BATCH].nunique() < 2:
        return []
    return [
        "batch: no two settings differ in it alone, so it is no factor; where settings of another factor differ in "
        "batch too, the gap belongs to both"
    ]


def _stated_levels(frame: pd.DataFrame, others: Sequence[str]) -> pd.DataFrame:
    """Return each combination of levels with a stated batch once."""
    if BATCH not in frame.columns:
        return pd.DataFrame(columns=[*others, BATCH])
    levels = frame[[*others, BATCH]].drop_duplicates().apply(level_texts).drop_duplicates()
    return levels.loc[~levels.loc[:, BATCH].isin(NOT_STATED)]
