"""Predict the losses of runs that nobody has trained: several predictors, weighted and given intervals by backtests.

Parameter intervals of one fitted form say little about its error for a run 20 times larger.
The error of a prediction is therefore measured: the largest available budgets are predicted from the smaller ones.

0. A series that rises with the budget, as accuracies do, is left out (`direction.py`): every predictor can only fall.
1. Predictors (`predictors.py`) are fitted to every series.
2. Each kind of series has one set of weights. The largest budget is held out, and the weight of a predictor is
   (mean over series of the RMS log error)^-4. Predictions are averaged in log loss. With fewer than three budgets
   nothing can be held out, and the first predictor is used.
3. Intervals are split conformal. Every fold "fit budgets up to C_k, predict C_j" gives errors |ln(prediction / y)|.
   An error is divided by the scale of its series and by the growth ln(C_j / C_k) / sqrt(ln(C_k / C_0)).
   The growth is the distance over the square root of the range that was fitted.
   The half-width of an interval is the quantile of these errors, times the scale and the growth of the predicted run.
   A run nearer than the shortest fold gets the growth of that fold.

Read `forecast_series` first, then `Forecast.predict`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lossline_jax.config.serialise import to_json
from lossline_jax.errors import LosslineError
from lossline_jax.fit.arguments import require_level
from lossline_jax.fit.direction import falls_with_x, rises_with_budget
from lossline_jax.fit.predict.predictors import Predictor, fit_predictors, member_names
from lossline_jax.fit.predict.series import SAME_BUDGET, LossSeries, RunPoints, budget_levels
from lossline_jax.fit.result import INTERVAL_LEVEL

# All four are conventions of this package.
POWER_OF_ERROR = 4  # a predictor weighs its error to the power of minus this number
LARGEST_ERROR = 1.0  # in log loss: errors are capped, so that one series can count only so much against a predictor
ROUNDING = 1.01  # factor: a count this far beyond the fitted runs counts as inside, because tables round
MIN_LEVELS = 2  # levels of budget that a fold must have to be fitted


@dataclass(frozen=True)
class Prediction:
    """The predicted loss of one run in one series, with its interval."""

    series: str
    estimate: float
    lower: float | None  # end of the interval; None: too few budgets for a backtest
    upper: float | None  # as for `lower`
    level: float
    reach: float  # budget of the run / largest budget fitted
    note: str


@dataclass(frozen=True, eq=False)
class Fold:
    """Predictions of one level of budget by predictors that were fitted to the budgets up to another level."""

    series: int  # index of the series
    growth: float  # factor by which errors are expected to grow over the distance of the fold
    y: np.ndarray  # (n,) held-out losses
    of_predictors: dict[str, np.ndarray]  # (n,) predictions by name of the predictor


@dataclass(frozen=True, eq=False)
class Forecast:
    """The fitted predictors of some series with their weights and scales; `predict` evaluates them."""

    series: tuple[LossSeries, ...]
    predictors: tuple[dict[str, Predictor], ...]
    weights: dict[str, dict[str, float]]  # by kind of series, by name of the predictor
    quantiles: dict[str, float]  # quantile of the scaled errors by kind of series; a kind without folds has none
    scales: tuple[float, ...]  # scale of the errors of each series
    shortest: float  # growth of the nearest fold
    num_folds: dict[str, int]  # errors behind each quantile, by kind of series
    level: float  # of the intervals, such as 0.9
    left_out: tuple[str, ...]  # one line for each series that no predictor could be fitted to

    def predict(self, name: str, rows: RunPoints) -> list[Prediction]:
        """Predict the series called `name` at `rows`.

        Args:
            name: name of the series.
            rows: the runs to predict.

        Raises:
            LosslineError: there is no such series, or none of its predictors has a value at a row.
        """
        names = [series.name for series in self.series]
        if name not in names:
            raise LosslineError(f"no series {name!r}; there are {', '.join(names[:20])}")
        k = names.index(name)
        series = self.series[k]
        of_predictors = {predictor: predict(rows) for predictor, predict in self.predictors[k].items()}
        reason = "x lies below its E_x" if series.is_line else "that count of parameters is not given"
        estimate, missing = combine(of_predictors, self.weights[series.kind])
        if not np.all(np.isfinite(estimate)):
            raise LosslineError(f"{name}: no predictor with a weight above 0 has a value there: {reason}")
        half = self._half_width(k, rows.budget)
        beyond = _outside_x(series.rows, rows) if series.is_line else _outside_sizes(series, rows)
        without = [f"without {', '.join(names)}: {reason}" if names else "" for names in missing]
        largest = float(series.rows.budget.max())
        return [
            Prediction(
                series=name,
                estimate=float(value),
                lower=None if half is None or np.isnan(half[row]) else float(value * np.exp(-half[row])),
                upper=None if half is None or np.isnan(half[row]) else float(value * np.exp(half[row])),
                level=self.level,
                reach=float(rows.budget[row] / largest),
                note="; ".join(part for part in (without[row], beyond[row]) if part),
            )
            for row, value in enumerate(estimate)
        ]

    def _half_width(self, k: int, budget: np.ndarray) -> np.ndarray | None:
        """Return (n,) half-widths of the intervals, in log loss. None: there are too few budgets for a backtest."""
        kind = self.series[k].kind
        if kind not in self.quantiles:
            return None
        fitted_budgets = self.series[k].rows.budget
        if not spans(fitted_budgets):
            return None
        reach = growth(budget, largest=float(fitted_budgets.max()), smallest=float(fitted_budgets.min()))
        return self.quantiles[kind] * self.scales[k] * np.maximum(reach, self.shortest)


@dataclass(frozen=True, eq=False)
class Predictions:
    """The predictions of one forecast, with notes on what they are based on."""

    forecast: Forecast
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...]  # one line for each group of rows, or series, that was left out

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "predictions": [to_json(prediction) for prediction in self.predictions],
            "weights": self.forecast.weights,
            "num_errors_behind_intervals": self.forecast.num_folds,
            "notes": list(self.notes),
        }


def _outside_x(fitted: RunPoints, rows: RunPoints) -> list[str]:
    """Return a note for each row whose x is outside the fitted runs. Without a budget such a row has no interval."""
    fitted_x = fitted.other_loss()
    low, high = float(fitted_x.min()), float(fitted_x.max())
    message = f"x lies outside the {low:.4g} to {high:.4g} of the fitted runs"
    no_budget = ": no interval without the training FLOPs of the run"
    return [
        "" if low <= x <= high else message + (no_budget if np.isnan(budget) else "")
        for x, budget in zip(rows.other_loss(), rows.budget, strict=True)
    ]


def _outside_sizes(series: LossSeries, rows: RunPoints) -> list[str]:
    """Return a note for each row whose parameters or tokens lie outside those of the fitted runs."""
    fitted, asked_for = _sizes_and_tokens(series.rows), _sizes_and_tokens(rows)
    far = [[_times_beyond(name, fitted[name], value) for value in values] for name, values in asked_for.items()]
    return ["; ".join(filter(None, row)) for row in zip(*far, strict=True)]


def _sizes_and_tokens(rows: RunPoints) -> dict[str, np.ndarray]:
    return {**{f"N ({count})": size for count, size in rows.sizes.items()}, "D": rows.tokens}


def _times_beyond(name: str, fitted: np.ndarray, value: float) -> str:
    """Describe a value outside the fitted runs: `D 7e+10 is 8.2 times the largest of the fitted runs`.

    Empty: the value is inside, or is not given.
    """
    low, high = float(fitted.min()), float(fitted.max())
    if value > high * ROUNDING:
        return f"{name} {value:.3g} is {value / high:.3g} times the largest of the fitted runs"
    if value < low / ROUNDING:
        return f"{name} {value:.3g} is {low / value:.3g} times less than the smallest of the fitted runs"
    return ""


def forecast_series(series: Sequence[LossSeries], level: float = INTERVAL_LEVEL) -> Forecast:
    """Fit the predictors of all series, weight them and calibrate their intervals.

    Args:
        series: the series to fit, each with a name of its own.
        level: level of the intervals.

    Raises:
        LosslineError: there are no series, two have one name, no predictor can be fitted to any of them, or the level
            is not between 0 and 1.
    """
    series = list(series)
    require_level(level)
    if not series:
        raise LosslineError("nothing to predict: no series")
    names = [s.name for s in series]
    if len(set(names)) < len(names):
        raise LosslineError(f"two series are called {next(n for n in names if names.count(n) > 1)!r}")
    levels = budget_levels(series)
    reasons = [_wrong_way(s) for s in series]
    predictors = fit_predictors([s for s, reason in zip(series, reasons, strict=True) if not reason])
    fitted = iter(predictors)
    predictors = [{} if reason else next(fitted) for reason in reasons]
    left_out = tuple(
        f"{s.name}: left out: {reason or f'too few runs ({s.y.size})'}"
        for s, of_series, reason in zip(series, predictors, reasons, strict=True)
        if not of_series
    )
    series = [s for s, of_series in zip(series, predictors, strict=True) if of_series]
    predictors = [of_series for of_series in predictors if of_series]
    if not series:
        raise LosslineError(f"{left_out[0]}; nothing is left to predict")
    folds, last_folds = _folds(series, levels)
    weights = {kind: _weights(kind, series, last_folds) for kind in dict.fromkeys(s.kind for s in series)}
    scales, quantiles, counts = _calibrate(series, folds, weights, level)
    shortest = min((fold.growth for fold in folds), default=0.0)
    return Forecast(tuple(series), tuple(predictors), weights, quantiles, scales, shortest, counts, level, left_out)


def _wrong_way(series: LossSeries) -> str:
    """Return the reason why no predictor can follow the series. Empty: one can."""
    rows = series.rows
    reasons = [rises_with_budget(series.loss, rows.budget, series.y)]
    if rows.x is not None:
        reasons += [rises_with_budget("x", rows.budget, rows.x), falls_with_x(series.loss, rows.x, series.y)]
    return next((reason for reason in reasons if reason), "")


def spans(budgets: np.ndarray) -> bool:
    """Tell whether budgets are more than one level. Without a span, nothing can be said about the growth of errors.

    Args:
        budgets: (n,) training FLOPs.
    """
    return bool(np.log(budgets.max() / budgets.min()) > SAME_BUDGET)


def growth(budget: np.ndarray, largest: float, smallest: float) -> np.ndarray:
    """Return the factor by which errors are expected to grow with the distance from the fitted budgets.

    The factor is ln(budget / largest) / sqrt(ln(largest / smallest)).

    Args:
        budget: training FLOPs of the predicted runs.
        largest: largest fitted budget, FLOPs.
        smallest: smallest fitted budget, FLOPs.
    """
    distance = np.maximum(np.log(np.asarray(budget, float) / largest), 0.0)
    return distance / np.sqrt(max(np.log(largest / smallest), 1e-12))


def combine(
    of_predictors: dict[str, np.ndarray], weights: dict[str, float]
) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Combine the predictors by their weighted geometric mean.

    Args:
        of_predictors: (n,) predictions by name of the predictor; NaN where a predictor has no value.
        weights: weight by name of the predictor.

    Returns:
        (n,) means of the predictors that have a value, and for each row the names of the predictors without one.
    """
    names = [name for name in of_predictors if weights.get(name, 0.0) > 0]
    if not names:
        size = next(iter(of_predictors.values())).size
        return np.full(size, np.nan), [()] * size
    values = np.stack([of_predictors[name] for name in names])
    weight = np.array([weights[name] for name in names])[:, None] * np.isfinite(values)
    with np.errstate(all="ignore"):
        mean = np.sum(np.where(weight > 0, weight * np.log(values), 0.0), axis=0) / weight.sum(axis=0)
    missing = [
        tuple(name for name, value in zip(names, column, strict=True) if not np.isfinite(value)) for column in values.T
    ]
    return np.exp(mean), missing


def _folds(series: list[LossSeries], levels: np.ndarray) -> tuple[list[Fold], list[Fold]]:
    """Return all folds, and the folds that hold out the largest budget alone."""
    folds: list[Fold] = []
    last_folds: list[Fold] = []
    for k in range(MIN_LEVELS - 1, len(levels) - 1):
        train = [s[s.rows.run_budget <= levels[k]] for s in series]
        usable = [n for n, s in enumerate(train) if s.y.size]
        fitted = fit_predictors([train[n] for n in usable])
        for n, predictors in zip(usable, fitted, strict=True):
            if not predictors:
                continue
            budgets = train[n].rows.budget
            for j in range(k + 1, len(levels)):
                rows = series[n].rows
                held_out = series[n][
                    (rows.budget > levels[j - 1]) & (rows.budget <= levels[j]) & (rows.run_budget > levels[k])
                ]
                if not held_out.y.size or not spans(budgets):
                    continue
                middle = np.exp(np.mean(np.log(held_out.rows.budget)))
                reach = float(growth(middle, largest=budgets.max(), smallest=budgets.min()))
                of_predictors = {name: predict(held_out.rows) for name, predict in predictors.items()}
                fold = Fold(n, reach, held_out.y, of_predictors)
                folds.append(fold)
                if k == len(levels) - 2:
                    last_folds.append(fold)
    return folds, last_folds


def _weights(kind: str, series: list[LossSeries], last_folds: list[Fold]) -> dict[str, float]:
    """Return the weights of the predictors of one kind of series, by name. They add up to 1."""
    folds_of_kind = [fold for fold in last_folds if series[fold.series].kind == kind]
    names = dict.fromkeys(name for s in series if s.kind == kind for name in member_names(s))
    errors = {}
    for name in names:
        errors_of_folds = [
            _rms(np.log(fold.of_predictors[name] / fold.y)) for fold in folds_of_kind if name in fold.of_predictors
        ]
        if errors_of_folds:
            errors[name] = max(float(np.mean(errors_of_folds)), 1e-9)
    if not errors:  # the first predictor that every series of the kind has
        series_of_kind = [s for s in series if s.kind == kind]
        first = next(
            (name for name in names if all(name in member_names(s) for s in series_of_kind)), next(iter(names))
        )
        return {name: float(name == first) for name in names}
    best = min(errors.values())
    raw = {name: (error / best) ** -POWER_OF_ERROR for name, error in errors.items()}
    return {name: raw.get(name, 0.0) / sum(raw.values()) for name in names}


def _rms(errors: np.ndarray) -> float:
    """Return the root mean square of the errors, capped. An error that is not finite counts as the cap."""
    return min(float(np.sqrt(np.mean(np.where(np.isfinite(errors), errors, LARGEST_ERROR) ** 2))), LARGEST_ERROR)


def _calibrate(
    series: list[LossSeries], folds: list[Fold], weights: dict[str, dict[str, float]], level: float
) -> tuple[tuple[float, ...], dict[str, float], dict[str, int]]:
    """Return the scale of each series, the quantile of each kind, and the number of errors behind each quantile."""
    scaled: dict[int, list[np.ndarray]] = {}
    for fold in folds:
        estimate, _ = combine(fold.of_predictors, weights[series[fold.series].kind])
        errors = np.abs(np.log(estimate / fold.y)) / fold.growth
        scaled.setdefault(fold.series, []).append(errors[np.isfinite(errors)])
    scales = np.ones(len(series))
    quantiles: dict[str, float] = {}
    counts: dict[str, int] = {}
    for kind in dict.fromkeys(s.kind for s in series):
        series_numbers = [n for n in scaled if series[n].kind == kind]
        if not series_numbers:
            continue
        squares = {
            n: [float(np.mean(np.minimum(errors, LARGEST_ERROR) ** 2)) for errors in scaled[n] if errors.size]
            for n in series_numbers
        }
        of_series, of_fold = _scales(series, series_numbers, squares)
        for n in series_numbers:
            scales[n] = of_series[n]
        pooled = np.concatenate(
            [
                errors / scale
                for n in series_numbers
                for errors, scale in zip((errors for errors in scaled[n] if errors.size), of_fold[n], strict=True)
            ]
        )
        if pooled.size < level / (1 - level):
            continue  # the quantile of so few errors cannot reach this level
        quantiles[kind] = float(np.quantile(pooled, min(1.0, level * (1 + 1 / pooled.size))))
        counts[kind] = int(pooled.size)
    return tuple(scales.tolist()), quantiles, counts


def _scales(
    series: list[LossSeries], series_numbers: list[int], squares: dict[int, list[float]]
) -> tuple[dict[int, float], dict[int, list[float]]]:
    """Return the typical scaled error of each series, and for each of its folds the same without that fold.

    Laws of size and tokens err together, because their form is at fault. So do lines where a kind has one loss.
    The series of a loss then share one scale. Otherwise the mean square of a series is shrunk towards that of its loss
    and of its kind, with the weight of one fold.
    """
    by_loss: dict[str, list[float]] = {}
    for n in series_numbers:
        by_loss.setdefault(series[n].loss, []).extend(squares[n])
    of_loss = {loss: max(float(np.mean(values)), 1e-18) for loss, values in by_loss.items()}
    if len(by_loss) == 1 or not series[series_numbers[0]].is_line:
        shared = {n: float(np.sqrt(of_loss[series[n].loss])) for n in series_numbers}
        return shared, {n: [shared[n]] * len(squares[n]) for n in series_numbers}
    of_kind = float(np.exp(np.mean(np.log(list(of_loss.values())))))
    of_series: dict[int, float] = {}
    of_fold: dict[int, list[float]] = {}
    for n in series_numbers:
        prior = 0.5 * of_loss[series[n].loss] + 0.5 * of_kind
        total, count = sum(squares[n]), len(squares[n])
        of_series[n] = float(np.sqrt((total + prior) / (count + 1)))
        of_fold[n] = [float(np.sqrt((total - square + prior) / count)) for square in squares[n]]
    return of_series, of_fold
