"""Runs of a long table by their factors, and those of them that differ in one factor, all else equal."""

from collections.abc import Mapping, Sequence

import pandas as pd

from lossline_jax.columns import as_numbers
from lossline_jax.fit.cells import RESIZING, same_size
from lossline_jax.fit.settings import NOT_STATED, PARAMS
from lossline_jax.fit.table_rows import level_text

CELL = ("data", "tokenizer", "architecture")  # what the line is said to depend on: a panel holds two of them
POOLED = ("size", "context_length", "optimiser")  # what one line is said to serve


def runs_of(frame: pd.DataFrame) -> pd.DataFrame:
    """One row a run in the order of the table: its factors (but the seed) as text, its parameter counts.

    A column that the table lacks has one level, "". Runs with an unstated factor that others state are left out:
    nobody can say whom they match.
    """
    runs = frame.drop_duplicates("run_id").reset_index(drop=True)
    found = pd.DataFrame({"run_id": runs["run_id"].astype(str)})
    for name in (*CELL, *POOLED):
        found[name] = runs[name].map(level_text) if name in runs else ""
    for name in PARAMS:
        found[name] = as_numbers(runs[name])[0] if name in runs else float("nan")
    unstated = [found[name].isin(NOT_STATED) & (found[name].nunique() > 1) for name in (*CELL, *POOLED)]
    return found[~pd.concat(unstated, axis=1).any(axis=1)].reset_index(drop=True)


def levels_of(runs: pd.DataFrame, factor: str) -> tuple[str, ...]:
    """Levels of a factor: sizes by parameters, contexts by length, others in the order of the table."""
    if factor not in POOLED[:2]:
        return tuple(runs[factor].unique())
    if factor == "context_length":
        return tuple(sorted(runs[factor].unique(), key=lambda level: (len(level), level)))
    return tuple(runs.groupby(factor, sort=False)["params_total"].median().sort_values(kind="stable").index)


def cells(runs: pd.DataFrame, columns: Sequence[str] = CELL) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """Runs that are equal in `columns`, in the order of the table."""
    return [(dict(zip(columns, key, strict=True)), rows) for key, rows in runs.groupby(list(columns), sort=False)]


def matched_panels(runs: pd.DataFrame, factor: str) -> list[tuple[dict[str, str], pd.DataFrame]]:
    """The runs that several levels of `factor` have in common, apart for each combination of the other `CELL` factors.

    A run is kept where another level has a run that is equal in everything else (the seed is ignored). Layers of
    different architectures and embeddings of different tokenizers do not compare: for these two factors sizes count
    as equal where the label is, or where total or non-embedding parameters are within 10%.
    """
    held = [name for name in CELL if name != factor]
    panels = []
    for panel, rows in cells(runs, held):
        paired = rows[[_has_partner(row, rows, factor) for _, row in rows.iterrows()]]
        if paired[factor].nunique() > 1:
            panels.append((panel, paired))
    return panels


def _has_partner(run: Mapping, runs: pd.DataFrame, factor: str) -> bool:
    others = runs[runs[factor] != run[factor]]
    for name in POOLED:
        if name in (factor, "size"):
            continue
        others = others[others[name] == run[name]]
    if factor == "size":
        return len(others) > 0
    if (others["size"] == run["size"]).any():
        return True
    mine = tuple(run[name] for name in PARAMS)
    return factor in RESIZING and any(
        same_size(mine, counts) for counts in zip(*(others[n] for n in PARAMS), strict=True)
    )
