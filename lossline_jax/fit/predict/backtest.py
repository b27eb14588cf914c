"""Score predictions of larger runs: the largest budgets of a table are predicted from the smaller ones."""

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
    """The score of one series: its held-out rows compared with their predictions.

    The error of a row is |prediction / loss - 1|. Errors are means over rows.
    """

    series: str
    kind: str
    loss: str
    num_fitted: int  # rows
    num_predicted: int  # rows
    error: float
    coverage: float | None  # share of rows within the interval; None: too few budgets for intervals
    width: float | None  # of the interval, relative to the loss; None: as for `coverage`
    errors_of_predictors: dict[str, float]  # error of each predictor alone, by its name
    actual: tuple[float, ...] = ()  # the held-out losses
    predicted: tuple[float, ...] = ()  # their predictions
    lower: tuple[float, ...] = ()  # ends of the intervals; empty: too few budgets for intervals
    upper: tuple[float, ...] = ()


@dataclass(frozen=True)
class Backtest:
    """The scores of all series, with the budgets that were fitted and predicted."""

    up_to: float  # largest budget fitted, FLOPs
    predicted: tuple[float, float]  # range of budgets predicted
    level: float  # of the intervals, such as 0.9
    scores: tuple[SeriesScore, ...]
    weights: dict[str, dict[str, float]]  # weight of each predictor, by kind of series and by name of the predictor
    notes: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return serialise.to_json(self)


def backtest_series(
    series: Sequence[LossSeries],
    up_to: float | None = None,
    *,
    level: float = INTERVAL_LEVEL,
    notes: Sequence[str] = (),
) -> Backtest:
    """Fit on runs of budgets up to `up_to`, and predict the largest level of budget of the table.

    Args:
        series: the series to score.
        up_to: largest training budget that is fitted, FLOPs. None: all levels of budget but the largest.
        level: level of the intervals.
        notes: lines to copy to the front of the result's notes.

    Raises:
        LosslineError: no run lies on one side of `up_to`, or the table has only one budget.
    """
    split, beyond = _split(series, up_to)
    fitted = [part[part.rows.run_budget <= split * (1 + 1e-6)] for part in series]  # the slack absorbs rounding
    held_out = [part[part.rows.budget > beyond] for part in series]
    usable = [k for k in range(len(fitted)) if fitted[k].y.size and held_out[k].y.size]
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
    predicted = {part.name for part in forecast.series}
    budgets = np.concatenate([held_out[k].rows.budget for k in usable])
    return Backtest(
        up_to=split,
        predicted=(float(budgets.min()), float(budgets.max())),
        level=level,
        scores=tuple(_score(forecast, held_out[k], fitted[k].y.size) for k in usable if series[k].name in predicted),
        weights=forecast.weights,
        notes=(*notes, *left_out, *forecast.left_out),
    )


def _split(series: Sequence[LossSeries], up_to: float | None) -> tuple[float, float]:
    """Return the largest budget that is fitted and the budget above which rows are predicted, in FLOPs."""
    levels = budget_levels(list(series))
    if up_to is None:
        if len(levels) < 2:
            raise LosslineError("all runs have one training budget: a backtest needs a larger one to predict")
        up_to = float(levels[-2])
    return up_to, max(levels[-2] if len(levels) > 1 else 0.0, up_to * (1 + 1e-6))


def _score(forecast: Forecast, held_out: LossSeries, num_fitted: int) -> SeriesScore:
    """Score the predictions of the rows that were held out of one series."""
    rows, y = held_out.rows, held_out.y
    predictions = forecast.predict(held_out.name, rows)
    estimate = np.array([prediction.estimate for prediction in predictions])
    coverage = width = None
    lower = upper = np.empty(0)
    if predictions[0].lower is not None:
        lower, upper = (
            np.array([getattr(prediction, end) for prediction in predictions]) for end in ("lower", "upper")
        )
        coverage, width = float(np.mean((lower <= y) & (y <= upper))), float(np.mean((upper - lower) / y))
    names = [part.name for part in forecast.series]
    alone = {name: predict(rows) for name, predict in forecast.predictors[names.index(held_out.name)].items()}
    return SeriesScore(
        series=held_out.name,
        kind=held_out.kind,
        loss=held_out.loss,
        num_fitted=num_fitted,
        num_predicted=y.size,
        error=float(np.mean(np.abs(estimate / y - 1))),
        coverage=coverage,
        width=width,
        errors_of_predictors={
            name: float(np.mean(np.abs(alone[name] / y - 1)))
            for name in member_names(held_out)
            if name in alone and np.all(np.isfinite(alone[name]))
        },
        actual=tuple(y.tolist()),
        predicted=tuple(estimate.tolist()),
        lower=tuple(lower.tolist()),
        upper=tuple(upper.tolist()),
    )
