"""Fit loss against size at equal compute: one parabola in ln N for each budget, and the size at its minimum.

Approach 2 of Hoffmann et al. 2022 (arXiv 2203.15556), as arXiv 2411.12925 draws it.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lossline_jax.errors import LosslineError
from lossline_jax.fit.direction import rises_with_budget
from lossline_jax.fit.study.panels import cells, eval_sets, own_set, runs_of
from lossline_jax.fit.study.results import IsoFlop
from lossline_jax.fit.tables.columns import group_label, numeric_losses

MIN_SIZES = 3  # sizes of a budget: a parabola has three parameters
MIN_BUDGETS = 2  # budgets of a group of runs: with only one there is nothing to compare
SAME_BUDGET = 0.05  # relative difference of training FLOPs that still counts as one budget. A convention
NEEDED = ("run_id", "step", "eval_set", "params_total", "train_flops")


def fit_isoflops(frame: pd.DataFrame, x: str, unit: str) -> tuple[tuple[IsoFlop, ...], tuple[str, ...]]:
    """Fit the parabolas of all groups of runs with at least three sizes at each of at least two budgets.

    Only the last checkpoint of a run counts. Runs of a group are equal in data, tokenizer and architecture. The loss
    is the one on the validation set of their own text, or on `x` if the text has none.

    Losses that rise with the budget, as accuracies do, have no best size at their minimum. Their group is left out.

    Args:
        frame: a long table of losses. A table without sizes or FLOPs has no parabolas.
        x: evaluation set of groups whose text has no validation set.
        unit: loss column.

    Returns:
        The parabolas, and one line for each group that is left out.
    """
    if not set(NEEDED) <= set(frame.columns) or unit not in frame.columns:
        return (), ()
    last = frame.loc[frame["step"] == frame.groupby("run_id")["step"].transform("max")]
    parabolas: list[IsoFlop] = []
    left_out: list[str] = []
    for panel, runs in cells(runs_of(frame)):
        eval_set = own_set(panel["data"], eval_sets(frame)[0]) or x
        rows = last.loc[last.loc[:, "run_id"].astype(str).isin(runs["run_id"]) & (last["eval_set"] == eval_set)]
        try:
            rows = rows.assign(**{unit: numeric_losses(rows, unit, eval_set)})
        except LosslineError as error:
            left_out.append(f"sizes at equal compute ({group_label(panel)}): {error}")
            continue
        budgets = [budget for budget in _budgets(rows, unit) if budget.loc[:, "params_total"].nunique() >= MIN_SIZES]
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
    """Divide rows by budget, the smallest first. A new budget begins where the next run has over 5% more FLOPs."""
    rows = rows.loc[(rows["train_flops"] > 0) & (rows[unit] > 0)].sort_values(["train_flops", "params_total"])
    if rows.empty:
        return []
    begins = np.diff(np.log(rows["train_flops"].to_numpy(float)), prepend=-np.inf) > np.log1p(SAME_BUDGET)
    return [budget for _, budget in rows.groupby(begins.cumsum())]


def _parabola(panel: dict[str, str], eval_set: str, unit: str, rows: pd.DataFrame) -> IsoFlop:
    log_n, loss = np.log(rows["params_total"].to_numpy(float)), rows[unit].to_numpy(float)
    low, high = float(log_n.min()), float(log_n.max())
    a, b, c = (float(value) for value in np.polyfit(log_n, loss, 2))
    log_n_min = -b / (2 * a) if a > 0 else np.nan
    inside = low < log_n_min < high
    return IsoFlop(
        panel=panel,
        eval_set=eval_set,
        unit=unit,
        budget=float(np.exp(np.log(rows["train_flops"].to_numpy(float)).mean())),
        run_ids=tuple(rows["run_id"].astype(str)),
        params=(float(np.exp(low)), float(np.exp(high))),
        coefficients=(a, b, c),
        params_min=float(np.exp(log_n_min)) if inside else None,
        loss_min=c - b**2 / (4 * a) if inside else None,
    )
