"""Fit the predictors that a forecast combines, for many series in a few compiled calls.

Predictors from size and tokens are the Chinchilla and the Kaplan form, each with every parameter count of the table.

Predictors from another loss are three restrictions of y = K (x - E_x)^kappa + E_y. They differ in the source of the
irreducible losses: both zero (a power law), both from compute laws, or E_x from its compute law with E_y free.
A line with both free follows its data best and extrapolates worst, because the valley of its objective is flat.
"""

import dataclasses
from collections.abc import Callable, Sequence

import numpy as np

from lossline_jax.fit.data_set import DataSet
from lossline_jax.fit.law import LEAST_SQUARES, LOG_LEAST_SQUARES, LOG_LOG_LEAST_SQUARES
from lossline_jax.fit.laws.loss_to_loss import SHIFTED_POWER
from lossline_jax.fit.laws.size_and_tokens import CHINCHILLA, KAPLAN
from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.fit.result import FitResult
from lossline_jax.fit.solve import fit_law_many

POWER, BOTH_LAWS, FREE_Y = "power law", "E of both laws", "E_x of its law, E_y free"
LINE_MEMBERS = (POWER, BOTH_LAWS, FREE_Y)
NUM_STARTS = 12  # starts of each search; the default of `fit_law` is 32
BELOW = 0.9999  # share of the smallest loss that the E of a compute law may reach when it is fixed in a line

# The bounds of kappa are narrower here. An exponent far from 1 is a sign of a flat valley and few points. It does not
# hold for larger runs.
STEADY_LINE = dataclasses.replace(
    SHIFTED_POWER,
    parameters=tuple(
        dataclasses.replace(p, lower=0.2, upper=3.0, start=(0.3, 2.5)) if p.name == "kappa" else p
        for p in SHIFTED_POWER.parameters
    ),
)

Predictor = Callable[[RunPoints], np.ndarray]  # (n,) losses; NaN where the predictor has no value


def member_names(series: LossSeries) -> tuple[str, ...]:
    """Return the names of the predictors that can predict a series.

    The first name is the predictor to use where predictors cannot be compared.

    Args:
        series: the series to predict.
    """
    if series.is_line:
        return LINE_MEMBERS
    return tuple(f"{law.name}, {count}" for law in (CHINCHILLA, KAPLAN) for count in series.rows.sizes)


def fit_predictors(series: Sequence[LossSeries]) -> list[dict[str, Predictor]]:
    """Fit the predictors of each series.

    Args:
        series: the series to predict.

    Returns:
        The predictors by name, for each series. A predictor that could not be fitted (too few points) is left out.
    """
    predictors: list[dict[str, Predictor]] = [{} for _ in series]
    lines = [(k, s, s.rows.x) for k, s in enumerate(series) if s.rows.x is not None]
    line_predictors = _fit_lines([s for _, s, _ in lines], [x for _, _, x in lines])
    for (k, _, _), predictors_of_line in zip(lines, line_predictors, strict=True):
        predictors[k] = predictors_of_line
    by_size = [k for k, s in enumerate(series) if not s.is_line]
    for law in (CHINCHILLA, KAPLAN):
        for count in dict.fromkeys(count for k in by_size for count in series[k].rows.sizes):
            chosen = [k for k in by_size if count in series[k].rows.sizes]
            data = [DataSet({"N": s.rows.sizes[count], "D": s.rows.tokens}, s.y) for s in (series[k] for k in chosen)]
            for k, fit in zip(chosen, fit_law_many(law, data, num_starts=NUM_STARTS), strict=True):
                if fit.has_curve:
                    predictors[k][f"{law.name}, {count}"] = _size_predictor(fit, count)
    return predictors


def _fit_lines(series: Sequence[LossSeries], x: Sequence[np.ndarray]) -> list[dict[str, Predictor]]:
    """Fit the three lines of each series. `x` has the losses that each series is predicted from."""
    runs = [s.rows for s in series]
    irreducible = _irreducible([*zip(runs, x, strict=True), *zip(runs, (s.y for s in series), strict=True)])
    e_x, e_y = irreducible[: len(series)], irreducible[len(series) :]
    # Runs of large budgets weigh more, because they are nearer to the runs that are predicted.
    by_budget = [np.sqrt(s.rows.budget / s.rows.budget.max()) for s in series]
    settings = {
        POWER: (LOG_LEAST_SQUARES, lambda k: {"E_x": 0.0, "E_y": 0.0}, lambda k: by_budget[k]),
        BOTH_LAWS: (LOG_LOG_LEAST_SQUARES, lambda k: {"E_x": e_x[k], "E_y": e_y[k]}, lambda k: by_budget[k]),
        FREE_Y: (LEAST_SQUARES, lambda k: {"E_x": e_x[k]}, lambda k: by_budget[k] / series[k].y ** 2),
    }
    predictors: list[dict[str, Predictor]] = [{} for _ in series]
    for name, (objective, fixed, weights) in settings.items():
        usable = [k for k in range(len(series)) if np.all(np.isfinite(list(fixed(k).values())))]
        data = [DataSet({"x": x[k]}, series[k].y, fixed(k), weights=weights(k)) for k in usable]
        fits = fit_law_many(STEADY_LINE, data, objective=objective, num_starts=NUM_STARTS)
        for k, fit in zip(usable, fits, strict=True):
            if fit.has_curve:
                predictors[k][name] = _line_predictor(fit)
    return predictors


def _irreducible(losses_of_runs: Sequence[tuple[RunPoints, np.ndarray]]) -> list[float]:
    """Return E of the Chinchilla law of each loss, NaN where the law cannot be fitted. Equal data are fitted once."""
    data: list[DataSet] = []
    number_of: dict[tuple[bytes, bytes, bytes], int] = {}
    numbers: list[int] = []
    for rows, loss in losses_of_runs:
        size = next(iter(rows.sizes.values()))
        key = (size.tobytes(), rows.tokens.tobytes(), loss.tobytes())
        if key not in number_of:
            number_of[key] = len(data)
            data.append(DataSet({"N": size, "D": rows.tokens}, loss))
        numbers.append(number_of[key])
    fits = fit_law_many(CHINCHILLA, data, num_starts=NUM_STARTS) if data else []
    e = [
        min(fit.parameters["E"], BELOW * float(np.min(points.y))) if fit.has_curve else np.nan
        for fit, points in zip(fits, data, strict=True)
    ]
    return [e[number] for number in numbers]


def _size_predictor(fit: FitResult, count: str) -> Predictor:
    def predict(rows: RunPoints) -> np.ndarray:
        if count not in rows.sizes:
            return np.full(rows.tokens.shape, np.nan)
        return fit.predict(N=rows.sizes[count], D=rows.tokens)

    return predict


def _line_predictor(fit: FitResult) -> Predictor:
    def predict(rows: RunPoints) -> np.ndarray:
        x = rows.other_loss()
        inside = fit.defined(x=x)
        y = np.full(x.shape, np.nan)
        y[inside] = fit.predict(x=x[inside])
        return y

    return predict
