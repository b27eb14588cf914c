"""Losses of runs that nobody has trained: several predictors, weighed and given intervals by backtests.

Parameter intervals of one fitted form say little about how far off it is 20 times further out, so what a prediction
may miss by is measured: the largest budgets at hand are predicted from the smaller ones.

0. A series that rises with the budget, as accuracies do, is left out (`direction.py`): every predictor can only fall.
1. Members (`predictors.py`) are fitted to every series.
2. Weights, one set for a kind of series: the largest budget is held out, and a predictor weighs (mean over series of
   the RMS log error)^-4. Members are averaged in log loss. With fewer than three budgets nothing can be held out:
   the first predictor is used.
3. Intervals (split conformal): every fold "fit budgets up to C_k, predict C_j" gives errors |ln(prediction / y)|,
   divided by the growth ln(C_j / C_k) / sqrt(ln(C_k / C_0)) (distance over the root of what was spanned) and by the
   scale of the series. The interval is their quantile, times scale and growth of what is predicted; nearer than the
   shortest fold, times the growth of that.
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

POWER_OF_ERROR = 4
LARGEST_ERROR = 1.0  # in log loss: how much one series can say against a predictor
ROUNDING = 1.01  # how far beyond the fitted runs a count is still theirs, as tables round
MIN_LEVELS = 2  # budgets that a fold is fitted to


@dataclass(frozen=True)
class Prediction:
    """One loss of one run. `lower` and `upper` are None where too few budgets allow no backtest."""

    series: str
    estimate: float
    lower: float | None
    upper: float | None
    level: float
    reach: float  # budget of the run over the largest budget fitted
    note: str


@dataclass(frozen=True, eq=False)
class Fold:
    """Predictions of one level of budget from those up to another."""

    series: int
    growth: float
    y: np.ndarray
    of_members: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Forecast:
    """Fitted predictors of some series with their weights and scales; `predict` reads it."""

    series: tuple[LossSeries, ...]
    predictors: tuple[dict[str, Predictor], ...]
    weights: dict[str, dict[str, float]]  # by kind, by predictor
    quantiles: dict[str, float]  # by kind; of the scaled errors; empty without folds
    scales: tuple[float, ...]  # of each series
    shortest: float  # growth of the nearest fold
    num_folds: dict[str, int]  # errors behind each quantile
    level: float
    left_out: tuple[str, ...]  # a line each on series that no predictor could be fitted to

    def predict(self, name: str, rows: RunPoints) -> list[Prediction]:
        """Predictions of the series called `name` at `rows`.

        Raises:
            LosslineError: there is no such series, or no predictor of it has a value there.
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
            raise LosslineError(f"{name}: no predictor of weight has a value there: {reason}")
        half = self._half_width(k, rows.budget)
        beyond = _outside_x(series, rows) if series.is_line else _outside_sizes(series, rows)
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
        """In log loss."""
        kind = self.series[k].kind
        if kind not in self.quantiles:
            return None
        fitted_budgets = self.series[k].rows.budget
        if not spans(fitted_budgets):
            return None
        reach = growth(budget, float(fitted_budgets.max()), float(fitted_budgets.min()))
        return self.quantiles[kind] * self.scales[k] * np.maximum(reach, self.shortest)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Predictions of one forecast, with notes on what they rest on."""

    forecast: Forecast
    predictions: tuple[Prediction, ...]
    notes: tuple[str, ...]  # a line each on rows and series that were left out

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "predictions": [to_json(prediction) for prediction in self.predictions],
            "weights": self.forecast.weights,
            "num_errors_behind_intervals": self.forecast.num_folds,
            "notes": list(self.notes),
        }


def _outside_x(series: LossSeries, rows: RunPoints) -> list[str]:
    """For each row what to say of a loss x that no fitted run had; the budget of such a run has to be told."""
    low, high = float(series.rows.x.min()), float(series.rows.x.max())
    message = f"x lies outside the {low:.4g} to {high:.4g} of the fitted runs"
    untold = ": no interval without the training FLOPs of the run"
    return [
        "" if low <= x <= high else message + (untold if np.isnan(budget) else "")
        for x, budget in zip(rows.x, rows.budget, strict=True)
    ]


def _outside_sizes(series: LossSeries, rows: RunPoints) -> list[str]:
    """For each row, how far its parameters and tokens lie outside those of the fitted runs."""
    known, asked = _sizes_and_tokens(series.rows), _sizes_and_tokens(rows)
    far = [[_times_beyond(name, known[name], value) for value in values] for name, values in asked.items()]
    return ["; ".join(filter(None, row)) for row in zip(*far, strict=True)]


def _sizes_and_tokens(rows: RunPoints) -> dict[str, np.ndarray]:
    return {**{f"N ({count})": size for count, size in rows.sizes.items()}, "D": rows.tokens}


def _times_beyond(name: str, fitted: np.ndarray, value: float) -> str:
    """`D 7e+10 is 8.2 times the largest of the fitted runs`; empty inside, or where the value is not given."""
    low, high = float(fitted.min()), float(fitted.max())
    if value > high * ROUNDING:
        return f"{name} {value:.3g} is {value / high:.3g} times the largest of the fitted runs"
    if value < low / ROUNDING:
        return f"{name} {value:.3g} is {low / value:.3g} times less than the smallest of the fitted runs"
    return ""


def forecast_series(series: Sequence[LossSeries], level: float = INTERVAL_LEVEL) -> Forecast:
    """Fit the predictors of all series, weigh them and calibrate their intervals.

    Raises:
        LosslineError: no series, two of one name, none that a predictor can be fitted to, or a level outside 0 to 1.
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
        for s, m, reason in zip(series, predictors, reasons, strict=True)
        if not m
    )
    series, predictors = [s for s, m in zip(series, predictors, strict=True) if m], [m for m in predictors if m]
    if not series:
        raise LosslineError(f"{left_out[0]}; nothing is left to predict")
    folds, last = _folds(series, levels)
    weights = {kind: _weights(kind, series, last) for kind in dict.fromkeys(s.kind for s in series)}
    scales, quantiles, counts = _calibrate(series, folds, weights, level)
    shortest = min((fold.growth for fold in folds), default=0.0)
    return Forecast(tuple(series), tuple(predictors), weights, quantiles, scales, shortest, counts, level, left_out)


def _wrong_way(series: LossSeries) -> str:
    """The reason why no predictor can follow the series; empty where one can."""
    rows = series.rows
    reasons = [rises_with_budget(series.loss, rows.budget, series.y)]
    if series.is_line:
        reasons += [rises_with_budget("x", rows.budget, rows.x), falls_with_x(series.loss, rows.x, series.y)]
    return next((reason for reason in reasons if reason), "")


def spans(budgets: np.ndarray) -> bool:
    """Whether they are more than one level: without a span nothing can be said about how errors grow."""
    return bool(np.log(budgets.max() / budgets.min()) > SAME_BUDGET)


def growth(budget: np.ndarray, largest: float, smallest: float) -> np.ndarray:
    """How errors grow with the distance to `budget` from fitted budgets between `smallest` and `largest`."""
    distance = np.maximum(np.log(np.asarray(budget, float) / largest), 0.0)
    return distance / np.sqrt(max(np.log(largest / smallest), 1e-12))


def combine(
    of_predictors: dict[str, np.ndarray], weights: dict[str, float]
) -> tuple[np.ndarray, list[tuple[str, ...]]]:
    """Weighted geometric mean (n,) of the predictors that have a value, and for each row the names of those without."""
    names = [name for name in of_predictors if weights.get(name, 0.0) > 0]
    if not names:
        size = next(iter(of_predictors.values())).size
        return np.full(size, np.nan), [()] * size
    values = np.stack([of_predictors[name] for name in names])
    weight = np.array([weights[name] for name in names])[:, None] * np.isfinite(values)
    with np.errstate(all="ignore"):
        mean = np.sum(np.where(weight > 0, weight * np.log(values), 0.0), axis=0) / weight.sum(axis=0)
    missing = [tuple(n for n, v in zip(names, column, strict=True) if not np.isfinite(v)) for column in values.T]
    return np.exp(mean), missing


def _folds(series: list[LossSeries], levels: np.ndarray) -> tuple[list[Fold], list[Fold]]:
    """All folds, and those that hold out the largest budget alone."""
    folds, last = [], []
    for k in range(MIN_LEVELS - 1, len(levels) - 1):
        train = [s[s.rows.run_budget <= levels[k]] for s in series]
        usable = [n for n, s in enumerate(train) if s.y.size]
        predictors = fit_predictors([train[n] for n in usable])
        for n, members in zip(usable, predictors, strict=True):
            if not members:
                continue
            budgets = train[n].rows.budget
            for j in range(k + 1, len(levels)):
                rows = series[n].rows
                held = series[n][
                    (rows.budget > levels[j - 1]) & (rows.budget <= levels[j]) & (rows.run_budget > levels[k])
                ]
                if not held.y.size or not spans(budgets):
                    continue
                reach = float(growth(np.exp(np.mean(np.log(held.rows.budget))), budgets.max(), budgets.min()))
                fold = Fold(n, reach, held.y, {name: predict(held.rows) for name, predict in members.items()})
                folds.append(fold)
                if k == len(levels) - 2:
                    last.append(fold)
    return folds, last


def _weights(kind: str, series: list[LossSeries], last: list[Fold]) -> dict[str, float]:
    """By predictor, adding up to 1."""
    folds_of_kind = [fold for fold in last if series[fold.series].kind == kind]
    names = dict.fromkeys(name for s in series if s.kind == kind for name in member_names(s))
    errors = {}
    for name in names:
        errors_of_folds = [
            _rms(np.log(fold.of_members[name] / fold.y)) for fold in folds_of_kind if name in fold.of_members
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
    """Capped; a predictor without a value there is as wrong as can be."""
    return min(float(np.sqrt(np.mean(np.where(np.isfinite(errors), errors, LARGEST_ERROR) ** 2))), LARGEST_ERROR)


def _calibrate(series: list[LossSeries], folds: list[Fold], weights, level: float):
    """(scale of each series, quantile of each kind, errors behind each quantile)."""
    scaled: dict[int, list[np.ndarray]] = {}
    for fold in folds:
        estimate, _ = combine(fold.of_members, weights[series[fold.series].kind])
        errors = np.abs(np.log(estimate / fold.y)) / fold.growth
        scaled.setdefault(fold.series, []).append(errors[np.isfinite(errors)])
    scales, quantiles, counts = np.ones(len(series)), {}, {}
    for kind in dict.fromkeys(s.kind for s in series):
        series_numbers = [n for n in scaled if series[n].kind == kind]
        if not series_numbers:
            continue
        squares = {
            n: [float(np.mean(np.minimum(e, LARGEST_ERROR) ** 2)) for e in scaled[n] if e.size] for n in series_numbers
        }
        of_series, of_fold = _scales(series, series_numbers, squares)
        for n in series_numbers:
            scales[n] = of_series[n]
        pooled = [
            e / s for n in series_numbers for e, s in zip((e for e in scaled[n] if e.size), of_fold[n], strict=True)
        ]
        pooled = np.concatenate(pooled)
        if pooled.size < level / (1 - level):
            continue  # no quantile of so few errors is as large as that
        quantiles[kind] = float(np.quantile(pooled, min(1.0, level * (1 + 1 / pooled.size))))
        counts[kind] = int(pooled.size)
    return tuple(scales.tolist()), quantiles, counts


def _scales(series: list[LossSeries], series_numbers: list[int], squares: dict[int, list[float]]):
    """Typical scaled error of each series, and the same for each of its folds without that fold.

    Laws of size and tokens err together (the form is at fault), and so do lines where a kind has one loss: series of
    a loss then share one scale. Else a series' own mean square is shrunk, with the weight of one fold, towards that of
    its loss and of its kind.
    """
    by_loss: dict[str, list[float]] = {}
    for n in series_numbers:
        by_loss.setdefault(series[n].loss, []).extend(squares[n])
    of_loss = {loss: max(float(np.mean(values)), 1e-18) for loss, values in by_loss.items()}
    if len(by_loss) == 1 or not series[series_numbers[0]].is_line:
        shared = {n: float(np.sqrt(of_loss[series[n].loss])) for n in series_numbers}
        return shared, {n: [shared[n]] * len(squares[n]) for n in series_numbers}
    of_kind = float(np.exp(np.mean(np.log(list(of_loss.values())))))
    of_series, of_fold = {}, {}
    for n in series_numbers:
        prior = 0.5 * of_loss[series[n].loss] + 0.5 * of_kind
        total, count = sum(squares[n]), len(squares[n])
        of_series[n] = float(np.sqrt((total + prior) / (count + 1)))
        of_fold[n] = [float(np.sqrt((total - square + prior) / count)) for square in squares[n]]
    return of_series, of_fold
