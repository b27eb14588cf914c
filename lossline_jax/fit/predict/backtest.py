"""How good are predictions of larger runs? The largest budgets of a table, predicted from the smaller ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.config import serialise
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.predict.forecast import forecast
from lossline_jax.fit.predict.predictors import member_names
from lossline_jax.fit.predict.series import Series, budget_levels


@dataclass(frozen=True)
class SeriesScore:
    """One series: its held-out rows against their predictions. Errors are |prediction / loss - 1|, means over rows."""

    series: str
    kind: str
    loss: str
    num_fitted: int
    num_predicted: int
    error: float
    coverage: float | None  # share of rows within the interval; None: too few budgets for intervals
    width: float | None  # of the interval, relative to the loss
    errors_of_members: dict[str, float]  # of each predictor alone


@dataclass(frozen=True)
class Backtest:
    """Scores of all series, with what was fitted and predicted."""

    up_to: float  # largest budget fitted, FLOPs
    predicted: tuple[float, float]  # range of budgets predicted
    level: float
    scores: tuple[SeriesScore, ...]
    weights: dict[str, dict[str, float]]  # by kind, by predictor
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return serialise.to_json(self)


def backtest(series: Sequence[Series], up_to: float | None = None, *, level: float = 0.9, notes=()) -> Backtest:
    """Fit on runs of budgets up to `up_to`, predict the largest level of budget of the table.

    Args:
        up_to: FLOPs; None: all but the largest level of budget.

    Raises:
        LosslineError: nothing lies on one side of `up_to`, or the table has one budget only.
    """
    levels = budget_levels(list(series))
    if up_to is None:
        if len(levels) < 2:
            raise LosslineError("all runs have one training budget: a backtest needs a larger one to predict")
        up_to = float(levels[-2])
    fitted = [s[s.rows.run_budget <= up_to * (1 + 1e-6)] for s in series]
    beyond = max(levels[-2] if len(levels) > 1 else 0.0, up_to * (1 + 1e-6))
    held = [s[s.rows.budget > beyond] for s in series]
    usable = [k for k in range(len(fitted)) if fitted[k].y.size and held[k].y.size]
    if not usable:
        low, high = min(s.rows.budget.min() for s in series), max(s.rows.budget.max() for s in series)
        raise ArgumentError(
            "{up_to}: nothing to predict from runs up to {split:.3g} FLOPs: budgets are {low:.3g} to {high:.3g}",
            split=up_to,
            low=low,
            high=high,
        )
    left_out = [
        f"{series[k].name}: left out: no run on one side of the split" for k in range(len(series)) if k not in usable
    ]
    found = forecast([fitted[k] for k in usable], level)
    scores = []
    names = [s.name for s in found.series]
    for k in usable:
        if series[k].name not in names:
            continue
        rows, y = held[k].rows, held[k].y
        predictions = found.predict(series[k].name, rows)
        estimate = np.array([p.estimate for p in predictions])
        covered = width = None
        if predictions[0].lower is not None:
            lower, upper = (np.array([getattr(p, end) for p in predictions]) for end in ("lower", "upper"))
            covered, width = float(np.mean((lower <= y) & (y <= upper))), float(np.mean((upper - lower) / y))
        alone = {name: predict(rows) for name, predict in found.members[names.index(series[k].name)].items()}
        scores.append(
            SeriesScore(
                series=series[k].name,
                kind=series[k].kind,
                loss=series[k].loss,
                num_fitted=fitted[k].y.size,
                num_predicted=y.size,
                error=float(np.mean(np.abs(estimate / y - 1))),
                coverage=covered,
                width=width,
                errors_of_members={
                    name: float(np.mean(np.abs(alone[name] / y - 1)))
                    for name in member_names(series[k])
                    if name in alone and np.all(np.isfinite(alone[name]))
                },
            )
        )
    budgets = np.concatenate([held[k].rows.budget for k in usable])
    return Backtest(
        up_to=up_to,
        predicted=(float(budgets.min()), float(budgets.max())),
        level=level,
        scores=tuple(scores),
        weights=found.weights,
        notes=(*notes, *left_out, *found.left_out),
    )
