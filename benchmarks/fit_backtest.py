"""Predict large runs from small ones, by the forecast of lossline_jax and by the published procedures."""

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from loss_sweep import GROUPS, Relation, read_sweep, relations
from published_fits import ComputeLaw, fit_compute_law, fit_test_to_test, fit_train_to_test, fit_train_to_train

from lossline_jax.fit.predict.forecast import Forecast, forecast_series
from lossline_jax.fit.predict.series import LossSeries, RunPoints
from lossline_jax.formatting import text_table

SAME_BUDGET = 0.02  # relative difference of equal budgets: nominal ones may be written with fewer digits


@dataclass(frozen=True)
class Outcome:
    """The errors and intervals of one series. All numbers are in %, and means over its predicted runs."""

    kind: str
    published: float  # error of the published procedure, relative to the loss
    forecast: float  # error of the forecast of lossline_jax, relative to the loss
    covered: float  # runs inside our 90% intervals; NaN: there are no intervals
    width: float  # full width of our intervals, relative to the loss


def backtest_tables(options: argparse.Namespace) -> str:
    """Return two tables: the errors of each group, and the weights that the forecast chose."""
    all_relations = relations(read_sweep(options.data), options.noisy)
    train = [r.series[r.series.rows.budget <= options.train_up_to * (1 + SAME_BUDGET)] for r in all_relations]
    held_out = [r.series[np.abs(r.series.rows.budget / options.predict - 1) <= SAME_BUDGET] for r in all_relations]
    if not any(s.y.size for s in held_out):
        budgets = sorted({float(c) for r in all_relations for c in r.series.rows.budget})
        sys.exit(f"benchmarks: no run at {options.predict:g} FLOPs; there are {', '.join(f'{c:g}' for c in budgets)}")
    start = time.process_time()
    published = Published(all_relations, train)
    predictions = [published.predict(r, s, h.rows) for r, s, h in zip(all_relations, train, held_out, strict=True)]
    middle = time.process_time()
    forecast = forecast_series(train)
    outcomes = [_outcome(forecast, s, p) for s, p in zip(held_out, predictions, strict=True) if s.y.size]
    end = time.process_time()
    print(
        f"{len(all_relations)} series: {middle - start:.1f} CPU-s for the published fits, "
        f"{end - middle:.1f} for the forecast with all its backtests, compilation included",
        file=sys.stderr,
    )
    return "\n\n".join((_errors(outcomes), _weights(forecast)))


class Published:
    """A set of published fits: each procedure on the training rows of its series."""

    def __init__(self, all_relations: Sequence[Relation], train: Sequence[LossSeries]):
        self.laws: dict[str, ComputeLaw] = {}
        for relation, series in zip(all_relations, train, strict=True):
            if relation.letter == "b":
                self.laws[relation.sets[0]] = _law(series)

    def predict(self, relation: Relation, series: LossSeries, rows: RunPoints) -> np.ndarray:
        """Return the predicted losses (n,) of the runs `rows`.

        A relation between losses is evaluated at the actual x of these runs.
        """
        if relation.letter in "ab":
            law = self.laws[relation.sets[0]] if relation.letter == "b" else _law(series)
            return law.predict(rows.sizes["total"], rows.tokens)
        x, y = series.rows.x, series.y
        irreducible = [self.laws[name].irreducible for name in relation.sets]
        if relation.letter == "c":
            line = fit_train_to_train(x, y, *irreducible)
        else:
            line = fit_train_to_test(x, y, *irreducible) if relation.letter == "d" else fit_test_to_test(x, y)
        return line.predict(rows.x)


def _law(series: LossSeries) -> ComputeLaw:
    return fit_compute_law(series.rows.sizes["total"], series.rows.tokens, series.y)


def _outcome(forecast: Forecast, held_out: LossSeries, published: np.ndarray) -> Outcome:
    predictions = forecast.predict(held_out.name, held_out.rows)
    low, high = (
        np.array([np.nan if value is None else value for value in ends])
        for ends in ([p.lower for p in predictions], [p.upper for p in predictions])
    )
    inside = np.where(np.isnan(low), np.nan, (held_out.y >= low) & (held_out.y <= high))
    estimate = np.array([p.estimate for p in predictions])
    y = held_out.y
    columns = (np.abs(published / y - 1), np.abs(estimate / y - 1), inside, (high - low) / y)
    return Outcome(held_out.kind, *(100 * float(np.mean(column)) for column in columns))


def _errors(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for kind, title in GROUPS.items():
        group = [outcome for outcome in outcomes if outcome.kind == kind]
        if group:
            published, forecast, covered, width = (
                np.array([getattr(outcome, name) for outcome in group])
                for name in ("published", "forecast", "covered", "width")
            )
            ratio = published.mean() / forecast.mean()
            errors = (published.mean(), forecast.mean(), ratio, np.median(published), np.median(forecast))
            cells = [f"{value:.2f}" for value in errors]
            cells += ["-" if np.isnan(value) else f"{value:.1f}" for value in (covered.mean(), width.mean())]
            rows.append((title, len(group), *cells))
    header = (
        "mean error, %",
        "series",
        "theirs",
        "ours",
        "ratio",
        "theirs, median",
        "ours, median",
        "cover %",
        "width %",
    )
    return text_table(header, rows)


def _weights(forecast: Forecast) -> str:
    rows = [
        (GROUPS[kind], ", ".join(f"{name} {value:.2f}" for name, value in forecast.weights[kind].items()))
        for kind in GROUPS
        if kind in forecast.weights
    ]
    return text_table(("group", "weights of the forecast"), rows)
