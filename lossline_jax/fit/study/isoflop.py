"""Loss against size at equal compute: a parabola in log N a budget, and the size at its minimum.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556), as arXiv 2411.12925 draws it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lossline_jax.fit.direction import rises_with_budget
from lossline_jax.fit.study.panels import cells, eval_sets, own_set, runs_of
from lossline_jax.fit.study.results import IsoFlop
from lossline_jax.fit.tables.columns import group_label

MIN_SIZES = 3  # of a budget: as many as a parabola has parameters
MIN_BUDGETS = 2  # of a group of runs: with one nothing is compared
SAME_BUDGET = 0.05  # relative difference of training FLOPs that still counts as one budget
NEEDED = ("run_id", "step", "eval_set", "params_total", "train_flops")


def fit_isoflops(frame: pd.DataFrame, x: str, unit: str) -> tuple[tuple[IsoFlop, ...], tuple[str, ...]]:
    """Parabolas of all groups of runs with at least three sizes at each of at least two budgets, and what is left out.

    Only the last checkpoint of a run counts. Runs of a group are equal in data, tokenizer and architecture; the loss
    is that on the validation set of their own text, or on `x` where there is none. Losses that rise with the budget,
    as accuracies do, have no best size where they are least: their group is left out, with a line each.
    """
    if not set(NEEDED) <= set(frame.columns) or unit not in frame.columns:
        return (), ()
    last = frame[frame["step"] == frame.groupby("run_id")["step"].transform("max")]
    parabolas, left_out = [], []
    for panel, runs in cells(runs_of(frame)):
        eval_set = own_set(panel["data"], eval_sets(frame)[0]) or x
        rows = last[last["run_id"].astype(str).isin(runs["run_id"]) & (last["eval_set"] == eval_set)]
        budgets = [budget for budget in _budgets(rows, unit) if budget["params_total"].nunique() >= MIN_SIZES]
        if len(budgets) < MIN_BUDGETS:
            continue
        if reason := rises_with_budget(f"{unit} of {eval_set}", *_columns(budgets, "train_flops", unit)):
            left_out.append(f"sizes at equal compute ({group_label(panel)}): {reason}")
            continue
        parabolas += [_parabola(panel, eval_set, unit, budget) for budget in budgets]
    return tuple(parabolas), tuple(left_out)


def _columns(parts: Sequence[pd.DataFrame], *names: str) -> list[np.ndarray]:
    rows = pd.concat(parts)
    return [rows[name].to_numpy(float) for name in names]


def _budgets(rows: pd.DataFrame, unit: str) -> Sequence[pd.DataFrame]:
    """Rows apart by budget, the smallest first: a new one begins where the next run has 5% more."""
    rows = rows[(rows["train_flops"] > 0) & (rows[unit] > 0)].sort_values(["train_flops", "params_total"])
    if rows.empty:
        return []
    begins = np.diff(np.log(rows["train_flops"].to_numpy(float)), prepend=-np.inf) > np.log1p(SAME_BUDGET)
    return [budget for _, budget in rows.groupby(begins.cumsum())]


def _parabola(panel: dict[str, str], eval_set: str, unit: str, rows: pd.DataFrame) -> IsoFlop:
    log_n, loss = np.log(rows["params_total"].to_numpy(float)), rows[unit].to_numpy(float)
    low, high = float(log_n.min()), float(log_n.max())
    a, b, c = (float(value) for value in np.polyfit(log_n, loss, 2))
    least = -b / (2 * a) if a > 0 else np.nan
    inside = low < least < high
    return IsoFlop(
        panel=panel,
        eval_set=eval_set,
        unit=unit,
        budget=float(np.exp(np.log(rows["train_flops"].to_numpy(float)).mean())),
        run_ids=tuple(rows["run_id"].astype(str)),
        params=(float(np.exp(low)), float(np.exp(high))),
        coefficients=(a, b, c),
        params_min=float(np.exp(least)) if inside else None,
        loss_min=c - b**2 / (4 * a) if inside else None,
    )
