"""Large runs predicted from small ones: the forecast of lossline_jax against the published procedures."""

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

SAME_BUDGET = 0.02  # relative: nominal budgets may be written with fewer digits


@dataclass(frozen=True)
class Outcome:
    """Of one series: mean relative errors in %, and of our intervals the share that holds and the mean full width."""

    kind: str
    theirs: float
    ours: float
    covered: float
    width: float


def backtest_tables(options: argparse.Namespace) -> str:
    """Errors by group, then the weights that the forecast chose."""
    every = relations(read_sweep(options.data), options.noisy)
    train = [r.series[r.series.rows.budget <= options.train_up_to * (1 + SAME_BUDGET)] for r in every]
    held = [r.series[np.abs(r.series.rows.budget / options.predict - 1) <= SAME_BUDGET] for r in every]
    if not any(s.y.size for s in held):
        budgets = sorted({float(c) for r in every for c in r.series.rows.budget})
        sys.exit(f"benchmarks: no run at {options.predict:g} FLOPs; there are {', '.join(f'{c:g}' for c in budgets)}")
    start = time.process_time()
    published = Published(every, train)
    theirs = [published.predict(r, s, h.rows) for r, s, h in zip(every, train, held, strict=True)]
    middle = time.process_time()
    ours = forecast_series(train)
    outcomes = [_outcome(ours, s, p) for s, p in zip(held, theirs, strict=True) if s.y.size]
    end = time.process_time()
    print(
        f"{len(every)} series: {middle - start:.1f} CPU-s for the published fits, {end - middle:.1f} for the forecast "
        f"with all its backtests, compilation included",
        file=sys.stderr,
    )
    return "\n\n".join((_errors(outcomes), _weights(ours)))


class Published:
    """The published procedures on the training rows of every series."""

    def __init__(self, every: Sequence[Relation], train: Sequence[LossSeries]):
        self.laws: dict[str, ComputeLaw] = {}
        for relation, series in zip(every, train, strict=True):
            if relation.letter == "b":
                self.laws[relation.sets[0]] = _law(series)

    def predict(self, relation: Relation, series: LossSeries, rows: RunPoints) -> np.ndarray:
        """Losses (n,) of the runs `rows`; a relation between losses reads them off their actual x."""
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


def _outcome(ours: Forecast, held: LossSeries, theirs: np.ndarray) -> Outcome:
    predictions = ours.predict(held.name, held.rows)
    low, high = (
        np.array([np.nan if value is None else value for value in ends])
        for ends in ([p.lower for p in predictions], [p.upper for p in predictions])
    )
    inside = np.where(np.isnan(low), np.nan, (held.y >= low) & (held.y <= high))
    estimate = np.array([p.estimate for p in predictions])
    columns = (np.abs(theirs / held.y - 1), np.abs(estimate / held.y - 1), inside, (high - low) / held.y)
    return Outcome(held.kind, *(100 * float(np.mean(column)) for column in columns))


def _errors(outcomes: Sequence[Outcome]) -> str:
    rows = []
    for kind, title in GROUPS.items():
        own = [outcome for outcome in outcomes if outcome.kind == kind]
        if own:
            theirs, ours, covered, width = (
                np.array([getattr(outcome, name) for outcome in own]) for name in ("theirs", "ours", "covered", "width")
            )
            errors = (theirs.mean(), ours.mean(), theirs.mean() / ours.mean(), np.median(theirs), np.median(ours))
            cells = [f"{value:.2f}" for value in errors]
            cells += ["-" if np.isnan(value) else f"{value:.1f}" for value in (covered.mean(), width.mean())]
            rows.append((title, len(own), *cells))
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


def _weights(ours: Forecast) -> str:
    rows = [
        (GROUPS[kind], ", ".join(f"{name} {value:.2f}" for name, value in ours.weights[kind].items()))
        for kind in GROUPS
        if kind in ours.weights
    ]
    return text_table(("group", "weights of the forecast"), rows)
