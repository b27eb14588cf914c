"""Find the rows of a design that may share an error: rows of one compute budget, and rows that may be one run."""

from typing import Any

import numpy as np

from lossline_jax.errors import ArgumentError

# All numbers below are choices.
SAME_COMPUTE = 0.05  # relative: sorted values of N D that differ by less belong to one budget
WIDEST_BUDGET = 0.2  # relative: a chain of such values that spans more is no budget
MIN_ROWS, MIN_GROUPS = 3, 5  # rows of a group, and groups of a design: with fewer, a shared error cannot be estimated
MIN_SHARE = 0.9  # share of the rows that must stand in such groups


def budgets_of(N: Any, D: Any) -> np.ndarray | None:
    """Return the number of the compute budget of each row, from 0 in the order of compute, or None without budgets.

    Rows belong to one budget if their N D are equal within 5%, and a budget spans at most 20%. A design shows budgets
    if at least 90% of its rows stand in budgets of three rows or more, and if there are at least five such budgets. All
    other rows are budgets of their own.

    Args:
        N: (n,) parameters of each row, in any unit.
        D: (n,) training tokens of each row, in any unit.

    Raises:
        ArgumentError: the arrays have different lengths.
    """
    size, tokens = np.asarray(N, float), np.asarray(D, float)
    if size.shape != tokens.shape or size.ndim != 1:
        raise ArgumentError("N and D: give two arrays of one length, not {n} and {d}", n=size.shape, d=tokens.shape)
    usable = np.isfinite(size) & np.isfinite(tokens) & (size > 0) & (tokens > 0)
    if usable.sum() < MIN_ROWS * MIN_GROUPS:
        return None
    compute = np.where(usable, np.log(np.where(usable, size, 1.0)) + np.log(np.where(usable, tokens, 1.0)), np.inf)
    order = np.argsort(compute, kind="stable")
    steps = np.diff(compute[order][: int(usable.sum())])
    number = np.concatenate([[0], np.cumsum(steps > np.log1p(SAME_COMPUTE))])
    labels = np.full(size.size, -1)
    labels[order[: number.size]] = number
    for budget in range(number[-1] + 1):
        if np.ptp(compute[labels == budget]) > np.log1p(WIDEST_BUDGET):
            return None
    labels[~usable] = number[-1] + 1 + np.arange(int((~usable).sum()))
    return labels if _shows_groups(labels[usable]) else None


def apparent_runs(N: Any, D: Any) -> np.ndarray | None:
    """Return the number of the apparent run of each row, or None if the rows do not look like checkpoints.

    Rows that follow each other with one N and growing D may be checkpoints of one run. They may also be runs of a grid
    of sizes and tokens, which only their residuals can show.

    Args:
        N: (n,) parameters of each row, in the order of the table.
        D: (n,) training tokens of each row.
    """
    size, tokens = np.asarray(N, float), np.asarray(D, float)
    if size.size < MIN_ROWS * MIN_GROUPS:
        return None
    begins = (np.diff(size) != 0) | ~(np.diff(tokens) > 0)
    labels = np.concatenate([[0], np.cumsum(begins)])
    return labels if _shows_groups(labels) else None


def _shows_groups(labels: np.ndarray) -> bool:
    """Tell whether nearly all rows stand in groups of some rows, and there are some such groups."""
    counts = np.bincount(labels)
    large = counts[counts >= MIN_ROWS]
    return bool(large.size >= MIN_GROUPS and large.sum() >= MIN_SHARE * labels.size)
