"""How good are predictions of larger runs? The largest budgets of a table, predicted from the smaller ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.config import serialise
from lossline_jax.errors import ArgumentError, LosslineError
from lossline_jax.fit.predict.forecast import Forecast, forecast_series
from lossline_jax.fit.predict.predictors import member_names
from lossline_jax.fit.predict.series import LossSeries, budget_levels
from lossline_jax.fit.result import INTERVAL_LEVEL


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
    errors_of_predictors: dict[str, float]  # of each predictor alone


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


def backtest_series(
    series: Sequence[LossSeries],
    up_to: float | None = None,
    *,
    level: float = INTERVAL_LEVEL,
    notes: Sequence[str] = (),
) -> Backtest:
    """Fit on runs of budgets up to `up_to`, predict the largest level of budget of the table.

    Args:
        up_to: FLOPs; None: all but the largest level of budget.

    Raises:
        LosslineError: nothing lies on one side of `up_to`, or the table has one budget only.
    """
    split, beyond = _split(series, up_to)
    fitted = [each[each.rows.run_budget <= split * (1 + 1e-6)] for each in series]
    held = [each[each.rows.budget > beyond] for each in series]
    usable = [k for k in range(len(fitted)) if fitted[k].y.size and held[k].y.size]
    if not usable:
        low, high = min(s.rows.budget.min() for s in series), max(s.rows.budget.max() for s in series)
        raise ArgumentError(
            "{up_to}: nothing to predict from runs up to {split:.3g} FLOPs: budgets are {low:.3g} to {high:.3g}",
            split=split,
            low=low,
            high=high,
        )
    left_out = [
        f"{series[k].name}: left out: no run on one side of the split" for k in range(len(series)) if k not in usable
    ]
    forecast = forecast_series([fitted[k] for k in usable], level)
    predicted = {each.name for each in forecast.series}
    budgets = np.concatenate([held[k].rows.budget for k in usable])
    return Backtest(
        up_to=split,
        predicted=(float(budgets.min()), float(budgets.max())),
        level=level,
        scores=tuple(_score(forecast, held[k], fitted[k].y.size) for k in usable if series[k].name in predicted),
        weights=forecast.weights,
        notes=(*notes, *left_out, *forecast.left_out),
    )


def _split(series: Sequence[LossSeries], up_to: float | None) -> tuple[float, float]:
    """The largest budget fitted, and the one beyond which rows are predicted, FLOPs."""
    levels = budget_levels(list(series))
    if up_to is None:
        if len(levels) < 2:
            raise LosslineError("all runs have one training budget: a backtest needs a larger one to predict")
        up_to = float(levels[-2])
    return up_to, max(levels[-2] if len(levels) > 1 else 0.0, up_to * (1 + 1e-6))


def _score(forecast: Forecast, held: LossSeries, num_fitted: int) -> SeriesScore:
    """The errors of the predictions of the rows that were held out of one series."""
    rows, y = held.rows, held.y
    predictions = forecast.predict(held.name, rows)
    estimate = np.array([p.estimate for p in predictions])
    covered = width = None
    if predictions[0].lower is not None:
        lower, upper = (np.array([getattr(p, end) for p in predictions]) for end in ("lower", "upper"))
        covered, width = float(np.mean((lower <= y) & (y <= upper))), float(np.mean((upper - lower) / y))
    names = [each.name for each in forecast.series]
    alone = {name: predict(rows) for name, predict in forecast.predictors[names.index(held.name)].items()}
    return SeriesScore(
        series=held.name,
        kind=held.kind,
        loss=held.loss,
        num_fitted=num_fitted,
        num_predicted=y.size,
        error=float(np.mean(np.abs(estimate / y - 1))),
        coverage=covered,
        width=width,
        errors_of_predictors={
            name: float(np.mean(np.abs(alone[name] / y - 1)))
            for name in member_names(held)
            if name in alone and np.all(np.isfinite(alone[name]))
        },
    )
