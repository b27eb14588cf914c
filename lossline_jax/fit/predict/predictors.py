"""The predictors that a forecast combines, fitted to many series in a few compiled calls.

Of size and tokens: Chinchilla and Kaplan forms, each with every count of parameters that the table has.
Of another loss: three restrictions of y = K (x - E_x)^kappa + E_y that differ in where the irreducible losses come
from: none (a power law), both from compute laws, or E_x from its compute law and E_y free. A line with both free
follows its data best and extrapolates worst: its valley is flat.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from lossline_jax.fit.law import LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import DataSet, fit_law_many

POWER, BOTH_LAWS, FREE_Y = "power law", "E of both laws", "E_x of its law, E_y free"
LINE_MEMBERS = (POWER, BOTH_LAWS, FREE_Y)
NUM_STARTS = 12
BELOW = 0.9999  # of the smallest loss: the largest irreducible loss that a compute law may hand to a line

# An exponent far from 1 is what a flat valley looks like from few points; it does not carry on.
STEADY_LINE = dataclasses.replace(
    SHIFTED_POWER,
    parameters=tuple(
        dataclasses.replace(p, lower=0.2, upper=3.0, start=(0.3, 2.5)) if p.name == "kappa" else p
        for p in SHIFTED_POWER.parameters
    ),
)

Predictor = Callable[[RunPoints], np.ndarray]  # (n,) losses; NaN where the predictor has no value


def member_names(series: LossSeries) -> tuple[str, ...]:
    """Of the predictors that can predict such a series; the first is what is used where nothing can be compared."""
    if series.is_line:
        return LINE_MEMBERS
    return tuple(f"{law.name}, {count}" for law in (CHINCHILLA, KAPLAN) for count in series.rows.sizes)


def fit_predictors(series: Sequence[LossSeries]) -> list[dict[str, Predictor]]:
    """For each series its predictors by name; one that could not be fitted (too few points) is not there."""
    predictors: list[dict[str, Predictor]] = [{} for _ in series]
    lines = [k for k, s in enumerate(series) if s.is_line]
    for k, line_predictors in zip(lines, _fit_lines([series[k] for k in lines]), strict=True):
        predictors[k] = line_predictors
    others = [k for k, s in enumerate(series) if not s.is_line]
    for law in (CHINCHILLA, KAPLAN):
        for count in dict.fromkeys(count for k in others for count in series[k].rows.sizes):
            chosen = [k for k in others if count in series[k].rows.sizes]
            data = [DataSet({"N": s.rows.sizes[count], "D": s.rows.tokens}, s.y) for s in (series[k] for k in chosen)]
            for k, fit in zip(chosen, fit_law_many(law, data, num_starts=NUM_STARTS), strict=True):
                if fit.has_curve:
                    predictors[k][f"{law.name}, {count}"] = _of_size(fit, count)
    return predictors


def _fit_lines(series: Sequence[LossSeries]) -> list[dict[str, Predictor]]:
    irreducible = _irreducible([(s.rows, s.rows.x) for s in series] + [(s.rows, s.y) for s in series])
    e_x, e_y = irreducible[: len(series)], irreducible[len(series) :]
    heavier = [np.sqrt(s.rows.budget / s.rows.budget.max()) for s in series]  # nearer to what is predicted
    settings = {
        POWER: (LOG_LEAST_SQUARES, lambda k: {"E_x": 0.0, "E_y": 0.0}, lambda k: heavier[k]),
        BOTH_LAWS: (LOG_LOG_LEAST_SQUARES, lambda k: {"E_x": e_x[k], "E_y": e_y[k]}, lambda k: heavier[k]),
        FREE_Y: (LEAST_SQUARES, lambda k: {"E_x": e_x[k]}, lambda k: heavier[k] / series[k].y ** 2),
    }
    predictors: list[dict[str, Predictor]] = [{} for _ in series]
    for name, (loss, fixed, weights) in settings.items():
        usable = [k for k in range(len(series)) if np.all(np.isfinite(list(fixed(k).values())))]
        data = [DataSet({"x": series[k].rows.x}, series[k].y, fixed(k), weights=weights(k)) for k in usable]
        fits = fit_law_many(STEADY_LINE, data, objective=loss, num_starts=NUM_STARTS)
        for k, fit in zip(usable, fits, strict=True):
            if fit.has_curve:
                predictors[k][name] = _of_loss(fit)
    return predictors


def _irreducible(wanted: Sequence[tuple[RunPoints, np.ndarray]]) -> list[float]:
    """E of the Chinchilla law of each loss; NaN where it has none. Equal data are fitted once."""
    data, number_of, numbers = [], {}, []
    for rows, loss in wanted:
        size = next(iter(rows.sizes.values()))
        key = (size.tobytes(), rows.tokens.tobytes(), loss.tobytes())
        if key not in number_of:
            number_of[key] = len(data)
            data.append(DataSet({"N": size, "D": rows.tokens}, loss))
        numbers.append(number_of[key])
    fits = fit_law_many(CHINCHILLA, data, num_starts=NUM_STARTS) if data else []
    e = [
        min(f.parameters["E"], BELOW * float(np.min(p.y))) if f.has_curve else np.nan
        for f, p in zip(fits, data, strict=True)
    ]
    return [e[number] for number in numbers]


def _of_size(fit: FitResult, count: str) -> Predictor:
    def predict(rows: RunPoints) -> np.ndarray:
        if count not in rows.sizes:
            return np.full(rows.tokens.shape, np.nan)
        return fit.predict(N=rows.sizes[count], D=rows.tokens)

    return predict


def _of_loss(fit: FitResult) -> Predictor:
    def predict(rows: RunPoints) -> np.ndarray:
        inside = fit.defined(x=rows.x)
        y = np.full(rows.x.shape, np.nan)
        y[inside] = fit.predict(x=rows.x[inside])
        return y

    return predict
